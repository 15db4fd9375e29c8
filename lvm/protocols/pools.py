"""What may be asked and what may be shown, by protocol, and a seeded choice of both.

Letters: s side of a square picture, in pixels.
"""

from collections import defaultdict
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import NamedTuple

import numpy as np
from rich.console import Console
from rich.progress import track
from torch import Tensor

from lvm.protocols.pairs import boxed, foreground, grayed, stretched
from lvm.protocols.voc import CLASSES, FOLDS, Voc, fold_classes, read_lines
from vqtok.data.folders import PictureFolder
from vqtok.data.pictures import read_picture

LARGEST_BOX = 0.2  # share of the picture: larger objects are not asked for
SEEDS = 2**32


class Example(NamedTuple):
    """A picture and what it is an example of: a class, or "" where all are of one kind."""

    picture: str
    group: str


@dataclass(frozen=True)
class Pool:
    """What questions are drawn from.

    Args:
        name: "fold 0" and so on, or "all".
        queries: What may be asked about.
        supports: Group -> what may be shown before a query of that group.
        left_out: Examples, or pictures, that the protocol does not ask about.
        pair: Makes the input and the answer of an example, each (3, s, s) in [0, 1].
    """

    name: str
    queries: Sequence[Example]
    supports: Mapping[str, Sequence[Example]]
    left_out: int
    pair: Callable[[Example], tuple[Tensor, Tensor]]


class Question(NamedTuple):
    """A query, and the examples shown before it, in order."""

    query: Example
    shown: tuple[Example, ...]


def questions(pool: Pool, count: int, shots: int, seed: int) -> list[Question]:
    """Draw `count` questions; the same every time.

    Queries come in a random order, and in the same order again when all have been asked about. Examples are
    drawn anew for every question, without repetition, from other pictures of the query's group. With more
    shots further examples are put in front, so the last one shown stays the same, and question k is the same
    whatever the count.

    Raises:
        ValueError: if the count, shots or seed make no sense, or there are too few examples to show.
    """
    if count < 1 or shots < 1 or not 0 <= seed < SEEDS:
        raise ValueError(
            f"{count} questions with {shots} shots by seed {seed}: ask at least one, show at least one "
            f"example, and give a seed from 0 to {SEEDS - 1}"
        )
    if not pool.queries:
        raise ValueError(f"{pool.name} has nothing to ask about, {pool.left_out} left out: add pictures")
    order = np.random.default_rng((seed, 0)).permutation(len(pool.queries))
    drawn = []
    for number in range(count):
        query = pool.queries[order[number % len(order)]]
        others = [each for each in pool.supports.get(query.group, ()) if each.picture != query.picture]
        if len(others) < shots:
            kind = f"of class {query.group} " if query.group else ""
            raise ValueError(
                f"{pool.name} has {len(others)} other pictures {kind}to show before {query.picture}, {shots} "
                "are asked for: show fewer, or give more pictures"
            )
        chosen = np.random.default_rng((seed, 1, number)).permutation(len(others))[:shots]
        drawn.append(Question(query, tuple(others[row] for row in reversed(chosen))))
    return drawn


def segmentation(
    voc: Voc, size: int, folds: Sequence[int] = range(FOLDS), lists: Path | None = None
) -> list[Pool]:
    """Foreground segmentation on PASCAL-5i: a pool for each fold, of examples of its five classes.

    What is asked about and what is shown come from the same pictures, those for validation.

    Args:
        voc: Pictures with masks.
        size: Height and width of the pairs, in pixels.
        folds: Which.
        lists: Folder of fold0.txt to fold3.txt, with lines such as 2007_000033__01, as published with
            programs for PASCAL-5i. Without it, all classes of all pictures in ImageSets/Segmentation/val.txt
            count.

    Raises:
        ValueError: if there is no such fold, or a list, a picture or its mask is missing or damaged.
    """
    wanted = {fold: fold_classes(fold) for fold in folds}
    if lists is None:
        found = _by_masks(voc, wanted)
    else:
        found = {fold: _by_list(Path(lists) / f"fold{fold}.txt", numbers) for fold, numbers in wanted.items()}
    pools = []
    for fold, examples in found.items():
        kept = [one for one in _progress(examples, f"fold {fold}") if _is_seen(voc, one, size)]
        pair = partial(_segmented, voc, size)
        pools.append(Pool(f"fold {fold}", kept, _by_group(kept), len(examples) - len(kept), pair))
    return pools


def detection(voc: Voc, size: int) -> list[Pool]:
    """Single object detection on PASCAL VOC: one pool of pictures with exactly one object, not too large.

    What is asked about comes from ImageSets/Main/val.txt, what is shown before from ImageSets/Main/train.txt.

    Args:
        voc: Pictures with boxes.
        size: Height and width of the pairs, in pixels.

    Raises:
        ValueError: if a list, a picture or its annotation is missing or damaged.
    """
    names = voc.names("Main/val")
    queries = _single_objects(voc, names)
    supports = _by_group(_single_objects(voc, voc.names("Main/train")))
    return [Pool("all", queries, supports, len(names) - len(queries), partial(_detected, voc, size))]


def colorization(folder: str | Path, size: int) -> list[Pool]:
    """Colorization: one pool of all pictures under a folder, in folders of classes or not.

    Args:
        folder: PNG, JPEG or WebP pictures, such as ImageNet's for validation.
        size: Height and width of the pairs, in pixels.

    Raises:
        ValueError: if there are no pictures.
    """
    pictures = PictureFolder(folder, size)
    rows = {pictures.name(row): row for row in range(len(pictures))}
    examples = [Example(name, "") for name in rows]
    return [Pool("all", examples, {"": examples}, 0, lambda one: grayed(pictures[rows[one.picture]]))]


def _by_masks(voc: Voc, wanted: Mapping[int, range]) -> dict[int, list[Example]]:
    """All classes of each fold in all masks, which are read once for all folds."""
    found = {fold: [] for fold in wanted}
    for name in _progress(voc.names("Segmentation/val"), "masks"):
        present = {*voc.labels(name).unique().tolist()}
        for fold, numbers in wanted.items():
            found[fold] += [Example(name, CLASSES[number - 1]) for number in numbers if number in present]
    return found


def _by_list(path: Path, numbers: range) -> list[Example]:
    """The examples of one fold that a list names; one of another fold would be a mistake of the list."""
    found = []
    for line in read_lines(path):
        name, _, number = line.strip().rpartition("__")
        if not number.isdecimal() or int(number) not in numbers:
            raise ValueError(
                f"{path} lists {line!r}: name a picture and a class from {numbers[0]} to {numbers[-1]}, as "
                f"in 2007_000033__{numbers[0]:02}"
            )
        found.append(Example(name, CLASSES[int(number) - 1]))
    return found


def _is_seen(voc: Voc, example: Example, size: int) -> bool:
    """Whether the object is still there in a mask of the model's size: nobody can find what is not."""
    return bool(stretched(voc.labels(example.picture) == CLASSES.index(example.group) + 1, size).any())


def _single_objects(voc: Voc, names: Sequence[str]) -> list[Example]:
    found = []
    for name in _progress(names, "annotations"):
        note = voc.annotation(name)
        if len(note.things) == 1:
            [(left, top, right, bottom)] = (thing.box for thing in note.things)
            if (right - left) * (bottom - top) < LARGEST_BOX * note.width * note.height:
                found.append(Example(name, note.things[0].name))
    return found


def _segmented(voc: Voc, size: int, example: Example) -> tuple[Tensor, Tensor]:
    labels = voc.labels(example.picture)
    picture = _stretched(voc, example.picture, size, (labels.shape[1], labels.shape[0]))
    return foreground(picture, labels, CLASSES.index(example.group) + 1)


def _detected(voc: Voc, size: int, example: Example) -> tuple[Tensor, Tensor]:
    note = voc.annotation(example.picture)
    picture = _stretched(voc, example.picture, size, (note.width, note.height))
    return boxed(picture, note.things[0].box, note.width, note.height)


def _stretched(voc: Voc, name: str, size: int, told: tuple[int, int]) -> Tensor:
    """(3, s, s) of a picture, if it has the width and height that its annotation is for."""
    width, height = reversed(voc.pixels(name).shape[1:])
    if (width, height) != told:
        raise ValueError(
            f"picture {name} has {width} x {height} pixels, its annotation is for {told[0]} x {told[1]}: "
            "take both from one version of the data"
        )
    return read_picture(voc.path(name), size, fit="stretch")


def _by_group(examples: Sequence[Example]) -> dict[str, list[Example]]:
    groups = defaultdict(list)
    for example in examples:
        groups[example.group].append(example)
    return dict(groups)


def _progress(items: Sequence, what: str):
    return track(items, description=what, console=Console(stderr=True), transient=True)
