"""Rows changed alike are rows of the same task: whatever a task claims to commute with, it does."""

from collections.abc import Callable
from functools import partial

import numpy as np
import pytest
import torch
from torch import Tensor

from lvm.augment import augmented
from lvm.origins import Origin, Supply
from lvm.rules import Task
from lvm.tasks import TASKS, row, task
from vqtok.data import views

Change = Callable[[Tensor], Tensor]
# A turn of hues clips what leaves [0, 1], before or after neighbors are mixed and hues are turned again.
MIXED = dict.fromkeys(("turn", "zoom", "turning", "turning and masks"), 1e-4)
CLIPPED = {"deblur": 1e-3, "recolor": 2e-3, **MIXED}
DAMAGED = ("denoise", "noisy to mask", "find the hole", "fill the hole")  # at random
LAWS = [(one, change) for one in TASKS for change in one.commutes]


class Changed:
    """An origin of which all pictures are changed."""

    def __init__(self, origin: Origin, change: Change) -> None:
        self.origin, self.change = origin, change

    def image(self, style: str) -> Tensor:
        """One of them."""
        return self.change(self.origin.image(style))

    def images(self, style: str) -> tuple[Tensor, ...]:
        """Or several."""
        return tuple(self.change(image) for image in self.origin.images(style))


@pytest.fixture(scope="module")
def supply() -> Supply:
    """Of the train split."""
    return Supply("train")


@pytest.mark.parametrize(
    ("made_by", "name"),
    [(one, change) for one, change in LAWS if one.name not in DAMAGED],
    ids=lambda one: getattr(one, "name", one),
)
def test_changed_rows_are_rows_of_changed_origins(made_by: Task, name: str, supply: Supply):
    """What is done to all images of a row might have been done to its origin: mean squared error."""
    rng = np.random.default_rng(7)
    for index in range(8):
        hues = partial(views.hue_turned, radians=float(rng.uniform(-np.pi, np.pi)))
        change = views.mirror if name == "mirror" else hues
        origin = supply.origin(made_by.of, 0, index)
        made = row(made_by, Changed(origin, change), 0, index, member=index)
        expected = torch.stack([change(image) for image in row(made_by, origin, 0, index, member=index)])
        far = (made - expected).square().mean((1, 2, 3))
        assert float(far.max()) < (CLIPPED.get(made_by.name, 1e-9) if name == "hue" else 1e-9)


@pytest.mark.parametrize(("made_by", "name"), [(one, name) for one, name in LAWS if one.name in DAMAGED])
def test_changed_damage_is_such_damage(made_by: Task, name: str, supply: Supply):
    """A mirrored hole lies where holes may lie, gray stays gray, and mirrored noise is noise."""
    change = views.mirror if name == "mirror" else lambda image: views.hue_turned(image, 2.0)
    for index in range(10):
        origin = supply.origin("scene", 0, index)
        x, y = (change(image) for image in row(made_by, origin, 0, index))
        if made_by.name == "denoise":
            assert name == "mirror" and 0.05 < float((x - y).std()) < 0.25  # the same for every pixel
        elif made_by.name == "find the hole":
            columns = y[0].amax(0).nonzero().flatten()
            assert columns.min() >= 8 and columns.max() < 56
            torch.testing.assert_close(x[y > 0.5], torch.full_like(x[y > 0.5], 0.5))
        elif made_by.name == "fill the hole":
            torn = (x - y).abs().amax(0) > 1e-5
            torch.testing.assert_close(x[:, torn], torch.full_like(x[:, torn], 0.5))


def test_what_does_not_commute_is_not_claimed(supply: Supply):
    """Mirrored, a turn goes the other way; with other hues, a gray picture is gray of other colors."""
    wrong = {"mirror": ("rotate", "shift", "turn", "zoom", "turning", "rotate, invert", "clock and moon"),
             "hue": ("tint", "colorize", "edges", "denoise", "noisy to mask")}  # fmt: skip
    for change, names in wrong.items():
        assert {one.name for one in TASKS if change not in one.commutes} >= set(names)
    hues = partial(views.hue_turned, radians=2.0)
    for name in ("tint", "colorize", "edges"):
        worst = 0.0
        for index in range(8):
            origin = supply.origin("scene", 0, index)
            expected = torch.stack([hues(image) for image in row(task(name), origin, 0, index)])
            made = row(task(name), Changed(origin, hues), 0, index)
            worst = max(worst, float((made - expected).square().mean()))
        assert worst > 1e-4


def test_all_images_of_a_row_are_changed_alike(supply: Supply):
    """Mirrored or not, and hues by one angle; each way sometimes, the same for the same generator."""
    made_by, mirrored = task("shaded to flat"), 0
    made = row(made_by, supply.origin("scene", 0, 4), 0, 4)
    for seed in range(20):
        changed = augmented(made, made_by, np.random.default_rng(seed))
        assert torch.equal(changed, augmented(made, made_by, np.random.default_rng(seed)))
        rng = np.random.default_rng(seed)
        flipped = rng.random() < 0.5
        angle = float(rng.uniform(-np.pi, np.pi))
        before = views.mirror(made) if flipped else made
        assert torch.equal(changed, torch.stack([views.hue_turned(image, angle) for image in before]))
        mirrored += flipped
    assert 4 < mirrored < 16


def test_a_task_that_commutes_with_nothing_keeps_its_rows():
    """And one with one change has no other."""
    made = torch.rand(2, 3, 8, 8)
    nothing = Task("own", "color", make=None, commutes=())
    assert torch.equal(augmented(made, nothing, np.random.default_rng(0)), made)
    mirror = Task("own", "color", make=None, commutes=("mirror",))
    found = [augmented(made, mirror, np.random.default_rng(seed)) for seed in range(10)]
    assert all(torch.equal(one, made) or torch.equal(one, made.flip(-1)) for one in found)
