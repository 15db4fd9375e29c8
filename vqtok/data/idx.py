"""Images in one idx file, the format of MNIST and its successors, such as Fashion-MNIST (Xiao et al. 2017).

The format: two zero bytes, one that says the type (8: uint8), one that says the number of axes, the length of
each as a big-endian 32-bit number, then the values. A name that ends in .gz is a compressed one.

Letters: n images, h w their size, s side of the square images that are made of them.
"""

import gzip
import math
import zlib
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

DEBIAN = Path("/usr/share/datasets/fashion-mnist")  # where the package dataset-fashion-mnist puts its files


class IdxImages:
    """Gray images of an idx file, each as (3, s, s) float32 in [0, 1] with black around it.

    Args:
        path: Of three axes (n, h, w), such as train-images-idx3-ubyte.gz.
        size: Height and width of the images, in pixels, at least those in the file.

    Raises:
        ValueError: if the file is missing, damaged, of another format, or its images are larger.
    """

    def __init__(self, path: str | Path, size: int) -> None:
        self.pixels = read_idx(path)
        if self.pixels.ndim != 3:
            raise ValueError(f"{path} has {self.pixels.ndim} axes, images have 3: labels are another file")
        height, width = self.pixels.shape[1:]
        if max(height, width) > size:
            told = f"images of {path} have {height}x{width} pixels, more than {size}"
            raise ValueError(f"{told}: raise the size")
        top, left = (size - height) // 2, (size - width) // 2
        self._pad = (left, size - width - left, top, size - height - top)

    def __len__(self) -> int:
        return len(self.pixels)

    def __getitem__(self, index: int) -> Tensor:
        """Image number `index`."""
        return F.pad(self.pixels[index], self._pad).float().div(255).expand(3, -1, -1).clone()


def read_idx(path: str | Path) -> Tensor:
    """The uint8 values of an idx file, with as many axes as it says.

    Raises:
        ValueError: if the file is missing, damaged or of another format.
    """
    data = _bytes(Path(path))
    if len(data) < 4 or data[:3] != bytes([0, 0, 8]):
        raise ValueError(f"{path} is no idx file of bytes: it begins with {data[:4].hex(' ') or 'nothing'}")
    start = 4 + 4 * data[3]
    shape = np.frombuffer(data[4:start].ljust(4 * data[3], b"\0"), ">u4").tolist()
    if len(data) != start + math.prod(shape):
        told = f"{len(data)} bytes instead of {start + math.prod(shape)}"
        raise ValueError(f"{path} is damaged, {told}: copy it again")
    return torch.frombuffer(bytearray(data), dtype=torch.uint8)[start:].view(shape)


def _bytes(path: Path) -> bytes:
    if not path.is_file():
        raise ValueError(
            f"no file {path}: Fashion-MNIST is the Debian package dataset-fashion-mnist, whose files lie in "
            f"{DEBIAN}"
        )
    try:
        return gzip.decompress(path.read_bytes()) if path.suffix == ".gz" else path.read_bytes()
    except (gzip.BadGzipFile, EOFError, zlib.error) as error:
        raise ValueError(f"{path} is damaged ({error}): copy it again") from error
