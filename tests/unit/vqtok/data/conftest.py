"""Small pictures with captions, and tar files of them."""

import io
import tarfile
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from PIL import Image


def png(shade: int, width: int = 6, height: int = 4) -> bytes:
    """A PNG of one shade of gray."""
    content = io.BytesIO()
    Image.fromarray(np.full((height, width, 3), shade, np.uint8)).save(content, "PNG")
    return content.getvalue()


@pytest.fixture(name="png")
def _png() -> Callable[..., bytes]:
    """Makes a PNG of one shade of gray."""
    return png


@pytest.fixture
def write_files() -> Callable[[Path, dict[str, bytes | str]], Path]:
    """Writes files into a folder."""

    def write(folder: Path, files: dict[str, bytes | str]) -> Path:
        for name, content in files.items():
            path = folder / name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(content.encode() if isinstance(content, str) else content)
        return folder

    return write


@pytest.fixture
def write_tar() -> Callable[..., Path]:
    """Writes members into a tar, in that order."""

    def write(path: Path, *members: tuple[str, bytes | str], mode: str = "w") -> Path:
        path.parent.mkdir(parents=True, exist_ok=True)
        with tarfile.open(path, mode) as archive:
            for name, content in members:
                data = content.encode() if isinstance(content, str) else content
                info = tarfile.TarInfo(name)
                info.size = len(data)
                archive.addfile(info, io.BytesIO(data))
        return path

    return write
