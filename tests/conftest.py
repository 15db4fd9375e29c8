"""What every test stands on: no network, one CPU thread, a fixed seed, GPU tests that skip themselves.

One thread because the tensors are tiny, and because sums then round the same way on every machine.
"""

import os
import socket
import struct
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

os.environ.setdefault("OMP_NUM_THREADS", "1")  # before torch starts its pool; child processes inherit it
os.environ.setdefault("HF_HUB_OFFLINE", "1")  # before huggingface_hub reads it; no test needs a hub

import numpy as np
import pytest
import torch
from PIL import Image

ROOT = Path(__file__).parents[1]
Things = list[tuple[str, tuple[int, int, int, int]]]  # class; left, top, right, bottom edge in pixels

torch.set_num_threads(1)


@pytest.fixture(autouse=True)
def seeded() -> None:
    """Global randomness starts from 0 in every test, so that no test depends on which ran before it."""
    torch.manual_seed(0)


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Tests marked gpu skip themselves where there is no CUDA device."""
    if torch.cuda.is_available():
        return
    for item in items:
        if item.get_closest_marker("gpu"):
            item.add_marker(pytest.mark.skip(reason="needs a CUDA device"))


@pytest.fixture
def start_two() -> Callable[[str, Path], Callable[[], None]]:
    """Starts a trainer's module on a recipe in two processes; what it returns waits for them to end well."""

    def start(module: str, recipe: Path) -> Callable[[], None]:
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            port = free.getsockname()[1]
        shared = {
            "WORLD_SIZE": "2",
            "LOCAL_WORLD_SIZE": "2",
            "MASTER_ADDR": "127.0.0.1",
            "MASTER_PORT": str(port),
        }
        shared |= {"ACCELERATE_USE_CPU": "1", "CUDA_VISIBLE_DEVICES": "", "OMP_NUM_THREADS": "1"}
        both = [
            subprocess.Popen(
                [sys.executable, "-m", module, "--config", str(recipe)],
                env={**os.environ, **shared, "RANK": rank, "LOCAL_RANK": rank, "PYTHONPATH": str(ROOT)},
                stdout=subprocess.PIPE,
                stderr=subprocess.STDOUT,
                text=True,
            )
            for rank in "01"
        ]

        def join() -> None:
            told = [process.communicate(timeout=300)[0] for process in both]
            assert [process.returncode for process in both] == [0, 0], "\n".join(told)

        return join

    return start


def packed(value: Any) -> bytes:
    """msgpack of mappings, lists, text, bytes, small numbers and numpy arrays, these as Flax writes them."""
    if isinstance(value, dict):
        return b"\xdf" + struct.pack(">I", len(value)) + b"".join(map(packed, sum(value.items(), ())))
    if isinstance(value, list | tuple):
        return b"\xdd" + struct.pack(">I", len(value)) + b"".join(map(packed, value))
    if isinstance(value, str):
        return b"\xdb" + struct.pack(">I", len(value.encode())) + value.encode()
    if isinstance(value, bytes):
        return b"\xc6" + struct.pack(">I", len(value)) + value
    if isinstance(value, np.ndarray):
        content = packed([[*map(int, value.shape)], value.dtype.name, value.tobytes()])
        return b"\xc9" + struct.pack(">I", len(content)) + b"\x01" + content
    return b"\xd3" + struct.pack(">q", value)


@pytest.fixture
def write_flax() -> Callable[..., Path]:
    """Writes arrays by dotted name, as a stream of EasyLM's, or as a tree in one piece."""

    def write(path: Path, arrays: dict[str, np.ndarray], stream: bool = True) -> Path:
        if stream:
            path.write_bytes(b"".join(
                b"\x92" + packed(name.split(".")) + packed(packed(array)) for name, array in arrays.items()
            ))  # fmt: skip
            return path
        tree: dict[str, Any] = {}
        for name, array in arrays.items():
            *inside, leaf = name.split(".")
            branch = tree
            for part in inside:
                branch = branch.setdefault(part, {})
            branch[leaf] = array
        path.write_bytes(packed(tree))
        return path

    return write


@pytest.fixture(scope="session")
def voc_example() -> Callable[..., None]:
    """Writes a picture of things as PASCAL VOC has it, with its mask and its XML."""
    return _write_example


@pytest.fixture(scope="session")
def voc_xml() -> Callable[..., str]:
    """Makes the XML alone."""
    return _xml_of


def _write_example(root: Path, name: str, things: Things, width: int = 96, height: int = 72) -> None:
    """A picture of things on gray with noise, its mask with a border of 255, and its XML."""
    from lvm.protocols.voc import CLASSES  # not at the top: most tests need no models

    rng = np.random.default_rng(sum(name.encode()))
    pixels = rng.integers(90, 110, (height, width, 3), dtype=np.uint8)
    mask = np.zeros((height, width), dtype=np.uint8)
    for kind, (left, top, right, bottom) in things:
        number = CLASSES.index(kind) + 1
        mask[max(top - 1, 0) : bottom + 1, max(left - 1, 0) : right + 1] = 255
        mask[top:bottom, left:right] = number
        pixels[top:bottom, left:right] = (12 * number, 255 - 12 * number, 60)
    for folder in ("JPEGImages", "SegmentationClass", "Annotations"):
        (root / folder).mkdir(parents=True, exist_ok=True)
    Image.fromarray(pixels).save(root / "JPEGImages" / f"{name}.jpg", quality=95)
    paletted = Image.fromarray(mask).convert("P")
    paletted.putdata(mask.ravel().tolist())
    paletted.putpalette(rng.integers(0, 256, 768, dtype=np.uint8).tobytes())
    paletted.save(root / "SegmentationClass" / f"{name}.png")
    (root / "Annotations" / f"{name}.xml").write_text(_xml_of(things, width, height))


def _xml_of(things: Things, width: int = 96, height: int = 72) -> str:
    """As VOC writes it: pixels from 1, the last one included; a part inside each object."""
    objects = "".join(
        f"<object><name>{kind}</name><difficult>0</difficult>"
        f"<bndbox><xmax>{right}</xmax><xmin>{left + 1}</xmin>"
        f"<ymax>{bottom}</ymax><ymin>{top + 1}</ymin></bndbox>"
        "<part><name>head</name><bndbox><xmin>1</xmin></bndbox></part></object>"
        for kind, (left, top, right, bottom) in things
    )
    size = f"<size><width>{width}</width><height>{height}</height><depth>3</depth></size>"
    return f"<annotation>{size}{objects}</annotation>"
