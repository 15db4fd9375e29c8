"""The task library: what the second picture of a pair is to the first.

A task is one function of a source and a generator that gives a pair (x, y). A source is whatever can show
itself in a style: a scene of emoji has them all, a plain picture only one. To add a task, write the function,
or use `restyle` and `change` below, and add one line to `TASKS`.

Letters: c h w image.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from vqtok.data import views
from vqtok.data.scenes import Scene

Pair = tuple[Tensor, Tensor]
ANY_STYLE = (("shaded", 0.5), ("flat", 0.25), ("line", 0.25))  # what views are taken of, with shares


class Picture:
    """A plain picture as a source: it looks the same in whatever style is asked of it."""

    def __init__(self, image: Tensor) -> None:
        self.pixels = image

    def image(self, style: str) -> Tensor:  # noqa: ARG002 - the one style it has
        """(3, h, w) in [0, 1]."""
        return self.pixels


Source = Scene | Picture


@dataclass(frozen=True)
class Task:
    """A way to make pairs.

    Args:
        name: Words, also the fact in its shards.
        kind: style, mask, geometric, color or restoration: what it asks of a model.
        make: (source, rng) -> (x, y), each (3, h, w) in [0, 1].
        drawn: Whether it needs the styles of drawn scenes, so that plain pictures cannot serve.
        held_out: Kept from training, to see what generalizes.
        weight: Share in training, relative to the other tasks.
    """

    name: str
    kind: str
    make: Callable[[Source, np.random.Generator], Pair]
    drawn: bool = False
    held_out: bool = False
    weight: float = 1.0


def restyle(before: str, after: str, **options: object) -> Task:
    """From one style of a drawing to another."""

    def make(source: Source, rng: np.random.Generator) -> Pair:  # noqa: ARG001 - nothing is random here
        return source.image(before), source.image(after)

    return Task(f"{before} to {after}", make=make, drawn=True, **({"kind": "style"} | options))


def change(name: str, kind: str, view: Callable[[Tensor], Tensor], **options: object) -> Task:
    """From a picture of any style to a view of it."""

    def make(source: Source, rng: np.random.Generator) -> Pair:
        image = _any_style(source, rng)
        return image, view(image)

    return Task(name, kind, make, **options)


def restore(name: str, damage: Callable[[Tensor, np.random.Generator], Tensor], **options: object) -> Task:
    """From a damaged picture back to the whole one."""

    def make(source: Source, rng: np.random.Generator) -> Pair:
        image = _any_style(source, rng)
        return damage(image, rng), image

    return Task(name, "restoration", make, **options)


def find_hole(source: Source, rng: np.random.Generator) -> Pair:
    """From a picture with a gray square to where the square is: it shares its x with filling the hole."""
    image = _any_style(source, rng)
    covered, where = views.holed(image, rng)
    return covered, where


def noisy_mask(source: Source, rng: np.random.Generator) -> Pair:
    """From a noisy drawing to its mask: it shares its x with denoising."""
    return views.noisy(_any_style(source, rng), rng), source.image("mask")


TASKS: tuple[Task, ...] = (
    restyle("shaded", "flat", weight=1.5),
    restyle("shaded", "line", weight=1.5),
    restyle("line", "shaded", weight=1.5),
    restyle("flat", "shaded", weight=1.5),
    restyle("flat", "line", held_out=True),
    restyle("shaded", "mask", kind="mask"),
    Task("noisy to mask", "mask", noisy_mask, drawn=True, weight=0.5),
    Task("find the hole", "mask", find_hole),
    restore("fill the hole", lambda image, rng: views.holed(image, rng)[0]),
    restore("denoise", views.noisy),
    change("invert", "color", views.invert),
    change("mirror", "geometric", views.mirror, weight=1.5),
    change("rotate", "geometric", views.rotate, weight=1.5),
    change("upend", "geometric", views.upend, held_out=True),
)


def tasks(held_out: bool | None = None, drawn: bool | None = None) -> list[Task]:
    """The tasks that are, or are not, held out, and that do or do not need drawings; None for either."""
    return [task for task in TASKS
            if held_out in (None, task.held_out) and (drawn is None or drawn == task.drawn)]


def task(name: str) -> Task:
    """The task of that name.

    Raises:
        ValueError: if there is none.
    """
    known: Sequence[str] = [one.name for one in TASKS]
    if name not in known:
        raise ValueError(f"no task {name!r}: choose one of {', '.join(known)}, or add it to lvm/tasks.py")
    return TASKS[known.index(name)]


def pair(made_by: Task, source: Source, seed: int, index: int) -> Tensor:
    """(2, 3, h, w): the pair of `source` that (seed, index) names, the same every time."""
    # Tasks draw different numbers, but the two of holes the same.
    name = int.from_bytes(made_by.name.encode()[-6:], "big")
    return torch.stack(made_by.make(source, np.random.default_rng((seed, index, name))))


def _any_style(source: Source, rng: np.random.Generator) -> Tensor:
    styles, shares = zip(*ANY_STYLE, strict=True)
    return source.image(str(rng.choice(styles, p=shares)))
