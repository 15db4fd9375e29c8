"""Pictures to learn from: a gallery, some of it held out, shuffled anew every epoch.

Letters: c h w picture, n pictures.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from vqtok.data.classes import in_order
from vqtok.data.galleries import Gallery, open_gallery
from vqtok.data.order import shuffled
from vqtok.data.pictures import Fit

NONE = -1  # the number of the class of a picture that has none
HELD = 2**30  # bytes of pixels that are held in memory; beyond, a picture is read whenever it comes


@dataclass(frozen=True, kw_only=True)
class PicturesConfig:
    """What a model learns from.

    Args:
        gallery: A folder of pictures, an idx file, or `emoji:SPLIT[:COUNT]`.
        validation: Such a gallery of held-out pictures; None keeps some of `gallery`.
        held_out: Pictures kept for validation, or taken of `validation`.
        fit: What becomes of a folder's pictures that are not square.
        gray: Whether pictures have one channel.
        mirror: Show half of the pictures mirrored.
        batch: Pictures a step, over all processes.
        workers: Processes that read ahead.
    """

    gallery: str
    validation: str | None = None
    held_out: int = 256
    fit: Fit = "crop"
    gray: bool = False
    mirror: bool = False
    batch: int = 64
    workers: int = 0


class Pictures:
    """Pictures of a gallery on 256 levels, and the numbers of their classes.

    Args:
        gallery: Where they are.
        names: Classes by their numbers; empty if classes do not matter.
        gray: Whether pictures have one channel.

    Raises:
        ValueError: if a picture has no class, or one that is not among the names.
    """

    def __init__(self, gallery: Gallery, names: Sequence[str] = (), gray: bool = False) -> None:
        self.gallery, self.gray = gallery, gray
        self.labels = _labels(gallery, names)
        shape = (len(gallery), 1 if gray else 3, gallery.size, gallery.size)
        fits = np.prod(shape) <= HELD
        self._held = torch.zeros(shape, dtype=torch.uint8) if fits else None
        self._known = np.zeros(len(gallery), dtype=bool)

    def __len__(self) -> int:
        return len(self.gallery)

    def __getitem__(self, index: int) -> tuple[Tensor, Tensor]:
        """Picture (c, h, w) float32 in [0, 1] and number of the class () of picture `index`."""
        if self._held is None:
            return self._read(index).float() / 255, self.labels[index]
        if not self._known[index]:
            self._held[index] = self._read(index)
            self._known[index] = True
        return self._held[index].float() / 255, self.labels[index]

    def part(self, chosen: Sequence[int]) -> tuple[Tensor, Tensor]:
        """Pictures (n, c, h, w) and classes (n,) of some numbers."""
        images, labels = zip(*(self[index] for index in chosen), strict=True)
        return torch.stack(images), torch.stack(labels)

    def evenly(self, count: int | None) -> tuple[Tensor, Tensor]:
        """`part` of so many pictures, spread over all; None, or more than there are, takes all."""
        count = min(count or len(self), len(self))
        return self.part([number * len(self) // count for number in range(count)])

    def _read(self, index: int) -> Tensor:
        image = self.gallery[index]
        return ((image.mean(0, keepdim=True) if self.gray else image) * 255).round().byte()


class Order:
    """Endless training order over some pictures: each once an epoch, shuffled anew, mirrored by a coin.

    Args:
        pictures: All of them.
        chosen: Numbers of those to show.
        seed: Another seed is another order.
        mirror: Whether half of them are mirrored.
    """

    def __init__(self, pictures: Pictures, chosen: Sequence[int], seed: int, mirror: bool) -> None:
        self.pictures, self.chosen, self.seed, self.mirror = pictures, chosen, seed, mirror

    def __getitem__(self, index: int) -> tuple[Tensor, Tensor]:
        """Picture (c, h, w) and number of the class ()."""
        image, label = self.pictures[self.chosen[shuffled(index, len(self.chosen), self.seed)]]
        if self.mirror and np.random.default_rng((self.seed, index)).random() < 0.5:
            image = image.flip(2)
        return image, label


def classes_of(gallery: Gallery) -> tuple[str, ...]:
    """Classes that occur, numbers in their order, words in the alphabet's; () if some picture has none."""
    found = {gallery.label(index) for index in range(len(gallery))}
    return () if None in found else in_order(found)


def open_pictures(
    config: PicturesConfig, size: int, seed: int, classes: int = 0
) -> tuple[Order, tuple[Tensor, Tensor], tuple[str, ...]]:
    """The training order; held-out pictures (n, c, h, w) and their classes (n,); and names of classes.

    Args:
        config: Which pictures.
        size: Pixels a side.
        seed: Of the order.
        classes: How many the model knows; 0 leaves them out.

    Raises:
        ValueError: if nothing is left for training or validation, or there are not so many classes.
    """
    gallery = open_gallery(config.gallery, size, config.fit)
    names = classes_of(gallery) if classes else ()
    if len(names) != classes:
        raise ValueError(
            f"network.classes.count is {classes}, {config.gallery} has {len(names) or 'no'} classes: set it "
            "to that, or leave network.classes out"
        )
    pictures = Pictures(gallery, names, config.gray)
    if config.validation is not None:
        unseen = Pictures(open_gallery(config.validation, size, config.fit), names, config.gray)
        kept = unseen.evenly(config.held_out)
        return Order(pictures, range(len(pictures)), seed, config.mirror), kept, names
    if not 0 < config.held_out < len(pictures):
        raise ValueError(
            f"data.held_out is {config.held_out} of {len(pictures)} pictures: leave at least one for "
            "validation and one for training"
        )
    numbers = np.random.default_rng(0).permutation(len(pictures)).tolist()
    kept = pictures.part(numbers[: config.held_out])
    return Order(pictures, numbers[config.held_out :], seed, config.mirror), kept, names


def _labels(gallery: Gallery, names: Sequence[str]) -> Tensor:
    """(n,) int64 number of every picture's class among `names`."""
    if not names:
        return torch.full((len(gallery),), NONE)
    by_name = {name: number for number, name in enumerate(names)}
    found = [gallery.label(index) for index in range(len(gallery))]
    unknown = next((name for name in found if name not in by_name), None)
    if unknown is not None or None in found:
        raise ValueError(f"a picture has the class {unknown!r}, which is none of {', '.join(names[:9])}")
    return torch.tensor([by_name[name] for name in found])
