"""The task library: what the second picture of a pair is to the first, and other rows of pictures.

To add a task, write a rule, a function of an origin and two generators (`lvm.rules`), or use one of the ways
to make them there, and add one line to `TASKS`.

Letters: c h w image, u images of a row.
"""

from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor

from lvm.forms import PAIRS
from lvm.origins import Of, Origin
from lvm.rules import (
    SHIFTS,
    Law,
    Task,
    change,
    compose,
    find_hole,
    frames,
    noisy_mask,
    recolored,
    restore,
    restyle,
    shifted,
    single,
    styles,
    tinted,
    together,
    turned,
    turning,
    vary,
    zoomed,
)
from vqtok.data import views

INVERT = change("invert", "color", views.invert)
MIRROR = change("mirror", "geometric", views.mirror, weight=2.0)
ROTATE = change("rotate", "geometric", views.rotate, weight=2.0, commutes=("hue",))

TASKS: tuple[Task, ...] = (
    restyle("shaded", "flat", weight=1.5),
    restyle("shaded", "line", weight=1.5),
    restyle("line", "shaded", weight=1.5),
    restyle("flat", "shaded", weight=1.5),
    restyle("flat", "line", held_out=True),
    restyle("shaded", "mask", kind="mask"),
    Task("noisy to mask", "mask", noisy_mask, of="scene", weight=0.5, commutes=("mirror",)),
    Task("find the hole", "mask", find_hole),
    restore("fill the hole", lambda image, rng: views.holed(image, rng)[0]),
    restore("denoise", views.noisy, commutes=("mirror",)),
    restore("deblur", lambda image, rng: views.blurred(image), weight=0.5),  # noqa: ARG005
    change("edges", "edges", views.edges, weight=0.5, commutes=("mirror",)),
    restore("colorize", lambda image, rng: views.gray(image), weight=0.5, commutes=("mirror",)),  # noqa: ARG005
    INVERT,
    MIRROR,
    ROTATE,
    change("upend", "geometric", views.upend, held_out=True),
    vary("recolor", "color", recolored),
    vary("tint", "color", tinted, weight=0.5, commutes=("mirror",)),
    vary("shift", "geometric", shifted, weight=0.5, members=SHIFTS, commutes=("hue",)),
    vary("turn", "geometric", turned, weight=0.5, commutes=("hue",)),
    vary("zoom", "geometric", zoomed, weight=0.5, commutes=("hue",)),
    compose(MIRROR, INVERT, weight=0.5),
    compose(ROTATE, INVERT, held_out=True),
    frames("skin tones", "tones", weight=0.25),
    frames("clock and moon", "clock", weight=0.1, commutes=("hue",)),
    turning("turning", weight=0.25),
    turning("turning and masks", mask=True, weight=0.25),
    together("one category", weight=0.1),
    styles("styles of one", weight=0.25),
    single("single", weight=0.1),
)
PAIR_TASKS = tuple(task for task in TASKS if task.form == PAIRS)


def tasks(held_out: bool | None = None, of: Of | None = None) -> list[Task]:
    """The tasks that are, or are not, held out, and that are made of this; None for any."""
    return [task for task in TASKS if held_out in (None, task.held_out) and of in (None, task.of)]


def task(name: str) -> Task:
    """The task of that name.

    Raises:
        ValueError: if there is none.
    """
    known: Sequence[str] = [one.name for one in TASKS]
    if name not in known:
        raise ValueError(f"no task {name!r}: choose one of {', '.join(known)}, or add it to lvm/tasks.py")
    return TASKS[known.index(name)]


def named(names: Sequence[str]) -> list[Task]:
    """The tasks of these names; the name of a kind stands for all trained tasks of that kind.

    Raises:
        ValueError: if there is no task and no kind of a name.
    """
    kinds = {one.kind for one in TASKS}
    chosen = [one for name in names for one in
              ([of for of in tasks(held_out=False) if of.kind == name] if name in kinds else [task(name)])]
    return [*dict.fromkeys(chosen)]


def number(made_by: Task) -> int:
    """What sets a task's random numbers apart, the same whatever other tasks there are.

    The end of its name: the two of holes have the same holes, and what else ends alike the same styles.
    """
    return int.from_bytes(made_by.name.encode()[-6:], "big")


def row(made_by: Task, origin: Origin, seed: int, index: int, member: int = 0) -> Tensor:
    """(u, 3, h, w): the row of `origin` that (seed, index) names, the same every time.

    Args:
        made_by: The task.
        origin: Of what.
        seed: Of what is random in this row.
        index: Number of the row.
        member: Which parameters; those from `made_by.members` on are not trained.
    """
    rng = np.random.default_rng((seed, index, number(made_by)))
    return torch.stack(made_by.make(origin, rng, Law(member, number(made_by))))
