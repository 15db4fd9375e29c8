"""Galleries: numbered images of one size, with names and, where they are known, classes.

One word says which:

    my/pictures                     a folder; a picture's class is the folder inside of it that it lies in
    train-images-idx3-ubyte.gz      an idx file; classes from train-labels-idx1-ubyte.gz, if it lies beside
    emoji:train                     each embedded emoji of a split as drawn, shaded, flat and line; a class is
                                    one of nine categories
    emoji:train:20000               so many of these, each almost as drawn

Letters: s side of the square images, in pixels.
"""

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Protocol

import numpy as np
import torch.nn.functional as F
from torch import Tensor

from vqtok.data.emoji import SIZE, Emoji, load_emoji
from vqtok.data.folders import PictureFolder
from vqtok.data.idx import IdxImages, read_idx
from vqtok.data.pictures import Fit
from vqtok.data.scenes import Scene, alone, nearly_alone
from vqtok.storage.manifests import sha256

EMOJI = "emoji:"
STYLES = ("shaded", "flat", "line")
IMAGES, LABELS = "images-idx3", "labels-idx1"  # what tells an idx file of images from that of their classes


class Gallery(Protocol):
    """Images number 0 to len - 1."""

    size: int
    fit: str

    def __len__(self) -> int: ...

    def __getitem__(self, index: int, /) -> Tensor:
        """Image number `index`, (3, s, s) float32 in [0, 1]."""

    def name(self, index: int) -> str:
        """A name that no other image of the gallery has."""

    def label(self, index: int) -> str | None:
        """The class of an image; None where the gallery knows no classes."""

    def digest(self, numbers: range) -> str:
        """A hash of some images that changes with them."""

    def decoded(
        self, batches: Sequence[Sequence[int]], workers: int = 0
    ) -> Iterator[list[np.ndarray | str | None]]:
        """Images of these numbers, batch by batch: (3, s, s) uint8, or why one cannot be read."""

    def refuse(self, reasons: Mapping[str, str]) -> None:
        """Raise a ValueError if these are too many unreadable images."""


def open_gallery(data: str | Path, size: int, fit: Fit = "crop", tolerate: float = 0.01) -> Gallery:
    """The gallery that `data` names.

    Args:
        data: A folder, an idx file, or `emoji:SPLIT[:COUNT]`.
        size: Height and width of the images, in pixels.
        fit: What becomes of a folder's pictures that are not square, as in `read_picture`.
        tolerate: Share of a folder's pictures that may be unreadable.

    Raises:
        ValueError: if there is no such gallery, or its images do not come in this size.
    """
    word = str(data)
    if word.startswith(EMOJI):
        return EmojiGallery(word, size)
    if Path(data).is_file() or IMAGES in Path(data).name:  # a missing one is told as what it should be
        return IdxGallery(Path(data), size)
    return PictureFolder(data, size, fit, tolerate)


class _Whole:
    """What galleries have in common whose images are all readable."""

    fit: str = "crop"

    def decoded(
        self, batches: Sequence[Sequence[int]], workers: int = 0
    ) -> Iterator[list[np.ndarray | str | None]]:
        """(3, s, s) uint8 images of these numbers, batch by batch."""
        for numbers in batches:
            yield [(self[index] * 255).round().byte().numpy() for index in numbers]

    def refuse(self, reasons: Mapping[str, str]) -> None:
        """There are none that could be unreadable."""


class IdxGallery(_Whole, IdxImages):
    """Gray images of an idx file on black, as `vqtok.data.idx` reads them, with the classes beside it.

    Raises:
        ValueError: if a file is damaged or of another format, or there are not as many classes as images.
    """

    def __init__(self, path: Path, size: int) -> None:
        super().__init__(path, size)
        self.size = size
        beside = path.with_name(path.name.replace(IMAGES, LABELS))
        self.labels = read_idx(beside) if beside != path and beside.is_file() else None
        if self.labels is not None and self.labels.shape != (len(self),):
            raise ValueError(
                f"{beside} has the classes of {tuple(self.labels.shape)} images, {path} has {len(self)} "
                "images: give files of one set"
            )

    def name(self, index: int) -> str:
        """The number of the image."""
        return f"{index:05}"

    def label(self, index: int) -> str | None:
        """The number of its class."""
        return None if self.labels is None else str(int(self.labels[index]))

    def digest(self, numbers: range) -> str:
        """Hash of the pixels."""
        return sha256(self.pixels[numbers.start : numbers.stop].numpy().tobytes())


class EmojiGallery(_Whole):
    """Embedded emoji of a split in three styles: as drawn, or so many as are asked for, almost as drawn.

    Args:
        word: `emoji:SPLIT` or `emoji:SPLIT:COUNT`.
        size: Height and width, in pixels; they are averaged down from 64.

    Raises:
        ValueError: if there is no such split, count or size.
    """

    def __init__(self, word: str, size: int) -> None:
        split, _, count = word.removeprefix(EMOJI).partition(":")
        if count and not (count.isdecimal() and int(count)):
            raise ValueError(f"{word} asks for {count!r} images: give a whole number from 1, or leave it out")
        if not 1 <= size <= SIZE:
            raise ValueError(f"emoji are drawn {SIZE} pixels wide, not {size}: ask for 1 to {SIZE}")
        self.word, self.size, self.emoji = word, size, load_emoji(split)
        self._count = int(count) if count else 0

    def __len__(self) -> int:
        return self._count or len(self.emoji) * len(STYLES)

    def __getitem__(self, index: int) -> Tensor:
        """Image number `index`."""
        _, style, scene = self._drawn(index)
        return F.interpolate(scene.image(style)[None], (self.size, self.size), mode="area")[0]

    def name(self, index: int) -> str:
        """The words of the emoji and its style, after a number where it may come more than once."""
        emoji, style, _ = self._drawn(index)
        return f"{index:05} {emoji.name} {style}" if self._count else f"{emoji.name} {style}"

    def label(self, index: int) -> str | None:
        """Its category, one of nine."""
        return self._drawn(index)[0].category

    def digest(self, numbers: range) -> str:
        """Hash of their names."""
        return sha256("\n".join(map(self.name, numbers)).encode())

    def _drawn(self, index: int) -> tuple[Emoji, str, Scene]:
        if not self._count:
            emoji = self.emoji[index // len(STYLES)]
            return emoji, STYLES[index % len(STYLES)], alone(emoji)
        rng = np.random.default_rng((4, index))
        emoji = self.emoji[rng.integers(len(self.emoji))]
        return emoji, STYLES[rng.integers(len(STYLES))], nearly_alone(emoji, rng)
