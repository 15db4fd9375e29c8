"""Ways to make tasks: restyle, change, restore, vary, compose, and rows that are more than a pair.

A rule gives one row of images from an origin and two generators: `rng` belongs to the row alone, `law` to the
member of a parametrised task, so that all rows of one sentence draw the same parameters from it.

Letters: c h w image.
"""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from torch import Tensor

from lvm.forms import PAIRS, SINGLE, Form, annotated, groups, modalities, sequence
from lvm.origins import FRAMES, GROUP, Frames, Of, Origin, Picture
from vqtok.data import views

Row = tuple[Tensor, ...]
ANY_STYLE = (("shaded", 0.5), ("flat", 0.25), ("line", 0.25))  # what views are taken of, with shares
STYLES = ("shaded", "flat", "line", "mask")
ALIKE = ("mirror", "hue")  # what most tasks commute with
SHIFTS = 48  # of 63, trained
SHOWN = 3  # frames of an annotated sequence


class Law(np.random.Generator):
    """Random numbers of a member of a parametrised task, the same for all rows of a sentence.

    Args:
        member: Which.
        number: Of the task.
    """

    def __init__(self, member: int, number: int) -> None:
        super().__init__(np.random.PCG64((member, number, 7)))
        self.member = member


Rule = Callable[[Origin, np.random.Generator, Law], Row]


@dataclass(frozen=True)
class Task:
    """A way to make rows.

    Args:
        name: Words, also the fact in its shards.
        kind: style, mask, geometric, color, restoration, composition, or a type of data: what it asks of a
            model.
        make: (origin, rng, law) -> the row's images, each (3, h, w) in [0, 1]. Only a task with members asks
            `law` for numbers.
        form: How its rows make sentences.
        of: What it is made of; `picture` does for any, so that a user's own pictures can serve.
        held_out: Kept from training, to see what generalizes.
        weight: Share in training, relative to the other tasks.
        members: How many parameters it is trained with; all rows of a sentence are of one member. Numbers
            from here on are held out.
        commutes: What may be done to all images of a row alike without making it another task's: `mirror`,
            `hue`. See `lvm.augment`.
    """

    name: str
    kind: str
    make: Rule
    form: Form = PAIRS
    of: Of = "picture"
    held_out: bool = False
    weight: float = 1.0
    members: int = 1
    commutes: tuple[str, ...] = ALIKE


def any_style(origin: Origin, rng: np.random.Generator) -> Tensor:
    """(3, h, w): an origin in one of its styles."""
    styles, shares = zip(*ANY_STYLE, strict=True)
    return origin.image(str(rng.choice(styles, p=shares)))


def restyle(before: str, after: str, **options: object) -> Task:
    """From one style of a drawing to another."""

    def make(origin: Origin, rng: np.random.Generator, law: Law) -> Row:  # noqa: ARG001
        return origin.image(before), origin.image(after)

    return Task(f"{before} to {after}", make=make, **({"kind": "style", "of": "scene"} | options))


def change(name: str, kind: str, view: Callable[[Tensor], Tensor], **options: object) -> Task:
    """From a picture of any style to a view of it."""

    def make(origin: Origin, rng: np.random.Generator, law: Law) -> Row:  # noqa: ARG001
        image = any_style(origin, rng)
        return image, view(image)

    return Task(name, kind, make, **options)


def restore(name: str, damage: Callable[[Tensor, np.random.Generator], Tensor], **options: object) -> Task:
    """From a damaged picture back to the whole one."""

    def make(origin: Origin, rng: np.random.Generator, law: Law) -> Row:  # noqa: ARG001
        image = any_style(origin, rng)
        return damage(image, rng), image

    return Task(name, "restoration", make, **options)


def vary(
    name: str,
    kind: str,
    view: Callable[[Tensor, Law], Tensor],
    members: int = 64,
    **options: object,
) -> Task:
    """From a picture of any style to a view whose parameters are those of the sentence."""

    def make(origin: Origin, rng: np.random.Generator, law: Law) -> Row:
        image = any_style(origin, rng)
        return image, view(image, law)

    return Task(name, kind, make, members=members, **options)


def compose(first: Task, second: Task, **options: object) -> Task:
    """What `second` makes of what `first` makes: a view after anything that ends in a picture.

    Raises:
        ValueError: if one of them has no pairs, or the second damages pictures, or needs a drawing.
    """
    if second.of != "picture" or second.kind == "restoration" or {first.form, second.form} != {PAIRS}:
        raise ValueError(f"{second.name!r} after {first.name!r} is no task: the second must be a view")

    def make(origin: Origin, rng: np.random.Generator, law: Law) -> Row:
        x, between = first.make(origin, rng, law)
        return x, second.make(Picture(between), rng, law)[1]

    both = {"of": first.of, "members": max(first.members, second.members)}
    alike = tuple(name for name in first.commutes if name in second.commutes)
    return Task(f"{first.name}, {second.name}", "composition", make, **(both | {"commutes": alike} | options))


def find_hole(origin: Origin, rng: np.random.Generator, law: Law) -> Row:  # noqa: ARG001
    """From a picture with a gray square to where the square is: it shares its x with filling the hole."""
    return views.holed(any_style(origin, rng), rng)


def noisy_mask(origin: Origin, rng: np.random.Generator, law: Law) -> Row:  # noqa: ARG001
    """From a noisy drawing to its mask: it shares its x with denoising."""
    return views.noisy(any_style(origin, rng), rng), origin.image("mask")


def recolored(image: Tensor, law: Law) -> Tensor:
    """All hues turned by the member's angle, which is not near zero."""
    return views.hue_turned(image, float(law.uniform(0.6, 2 * np.pi - 0.6)))


def tinted(image: Tensor, law: Law) -> Tensor:
    """Printed in the member's two inks, one dark and one light."""
    return views.tinted(image, dark=law.uniform(0.0, 0.45, 3), light=law.uniform(0.55, 1.0, 3))


def shifted(image: Tensor, law: Law) -> Tensor:
    """Moved by the member's eighths of the picture, around the edges.

    There are 63 ways: the first `SHIFTS` members have one each, those kept from training the others in turn.
    """
    more = law.member - SHIFTS
    place = law.member if more < 0 else SHIFTS + more % (63 - SHIFTS)
    down, right = divmod(1 + int(np.random.default_rng(0).permutation(63)[place]), 8)
    height, width = image.shape[1:]
    return views.shifted(image, down * height // 8, right * width // 8)


def turned(image: Tensor, law: Law) -> Tensor:
    """Turned by the member's angle, which is not near zero."""
    return views.turned(image, float(law.uniform(25, 335)))


def zoomed(image: Tensor, law: Law) -> Tensor:
    """The member's window, half to three quarters of the picture wide, enlarged."""
    side = float(law.uniform(0.5, 0.75))
    return views.zoomed(image, *(float(place) for place in law.uniform(0, 1 - side, 2)), side)


def single(name: str, **options: object) -> Task:
    """Pictures of any style, each a sentence of its own."""

    def make(origin: Origin, rng: np.random.Generator, law: Law) -> Row:  # noqa: ARG001
        return (any_style(origin, rng),)

    return Task(name, "single", make, SINGLE, **options)


def frames(name: str, of: Of, style: str = "shaded", **options: object) -> Task:
    """Frames of a sequence in one style."""

    def make(origin: Frames, rng: np.random.Generator, law: Law) -> Row:  # noqa: ARG001
        return origin.images(style)

    return Task(name, "sequence", make, sequence(FRAMES), of, **options)


def turning(name: str, mask: bool = False, **options: object) -> Task:
    """A drawing turned on and on by the member's angle; with masks, an annotated sequence of fewer frames."""

    def make(origin: Origin, rng: np.random.Generator, law: Law) -> Row:  # noqa: ARG001
        step = float(law.choice([-1, 1]) * law.uniform(15, 75))
        styles = ("shaded", "mask") if mask else ("shaded",)
        turns = [step * place for place in range(SHOWN if mask else FRAMES)]
        return tuple(_turned(origin.image(style), turn, style) for style in styles for turn in turns)

    form = annotated(SHOWN) if mask else sequence(FRAMES)
    return Task(name, form.name, make, form, "scene", commutes=("hue",), **({"members": 64} | options))


def together(name: str, rows: int = 2, **options: object) -> Task:
    """Pictures of one category a row."""

    def make(origin: Frames, rng: np.random.Generator, law: Law) -> Row:  # noqa: ARG001
        return origin.images("shaded")

    return Task(name, "groups", make, groups(GROUP, rows), "category", **options)


def styles(name: str, rows: int = 2, **options: object) -> Task:
    """One scene in all its styles."""

    def make(origin: Origin, rng: np.random.Generator, law: Law) -> Row:  # noqa: ARG001
        return tuple(origin.image(style) for style in STYLES)

    return Task(name, "modalities", make, modalities(len(STYLES), rows), "scene", **options)


def _turned(image: Tensor, degrees: float, style: str) -> Tensor:
    return 1 - views.turned(1 - image, degrees) if style == "mask" else views.turned(image, degrees)
