"""Images of idx files: read exactly, padded evenly, refused clearly."""

import gzip
import struct
from pathlib import Path

import pytest
import torch

from vqtok.data.idx import IdxImages, read_idx


def idx(*shape: int, kind: int = 8) -> bytes:
    """An idx file whose values count up."""
    values = bytes(i % 256 for i in range(torch.Size(shape).numel()))
    return struct.pack(f">BBBB{len(shape)}I", 0, 0, kind, len(shape), *shape) + values


@pytest.mark.parametrize("name", ["images-idx3-ubyte", "images-idx3-ubyte.gz"])
def test_images(name: str, tmp_path: Path):
    """Values over 255, on three channels, in the middle of black; compressed or not."""
    data = idx(5, 4, 3)
    (tmp_path / name).write_bytes(gzip.compress(data) if name.endswith(".gz") else data)
    images = IdxImages(tmp_path / name, 8)
    image = images[1]
    assert len(images) == 5 and image.shape == (3, 8, 8) and image.dtype == torch.float32
    inside = torch.arange(12, 24).view(4, 3) / 255
    assert torch.equal(image[:, 2:6, 2:5], inside.expand(3, 4, 3))
    assert image.sum() == pytest.approx(3 * inside.sum().item())


def test_labels(tmp_path: Path):
    """A file of one axis is read, but holds no images."""
    (tmp_path / "labels").write_bytes(idx(7))
    assert read_idx(tmp_path / "labels").tolist() == [*range(7)]
    with pytest.raises(ValueError, match="labels has 1 axes, images have 3: labels are another file"):
        IdxImages(tmp_path / "labels", 8)


@pytest.mark.parametrize(
    ("name", "data", "told"),
    [
        ("none", None, "no file .*none: Fashion-MNIST is the Debian package dataset-fashion-mnist, whose"),
        ("empty", b"", "no idx file of bytes: it begins with nothing"),
        ("floats", idx(2, 4, 4, kind=13), "no idx file of bytes: it begins with 00 00 0d 03"),
        ("short", idx(2, 4, 4)[:-1], "short is damaged, 47 bytes instead of 48: copy it again"),
        ("shorter", idx(2, 4, 4)[:9], "shorter is damaged, 9 bytes instead of 16"),
        ("short.gz", gzip.compress(idx(2, 4, 4))[:-9], "short.gz is damaged"),
        ("no.gz", idx(2, 4, 4), "no.gz is damaged"),
        ("large", idx(2, 9, 4), "images of .*large have 9x4 pixels, more than 8: raise the size"),
    ],
)
def test_mistakes(name: str, data: bytes | None, told: str, tmp_path: Path):
    """What is wrong with a file is one sentence that names it."""
    if data is not None:
        (tmp_path / name).write_bytes(data)
    with pytest.raises(ValueError, match=told):
        IdxImages(tmp_path / name, 8)
