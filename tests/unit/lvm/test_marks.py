"""Marks of answers mean what they say."""

from collections.abc import Callable

import pytest
import torch

from lvm.exam import exam, questions
from lvm.kind import KindClassifier, KindConfig
from lvm.marks import content, kind_right, masks_of, overlaps, scores
from lvm.tasks import task
from vqtok.tokenizers.tokenizer import VQTokenizer


class Parrot(KindClassifier):
    """A judge that names the same task whatever it sees."""

    def __init__(self, name: str) -> None:
        super().__init__(KindConfig(channels=(8,)))
        self.name = name

    def names(self, x: torch.Tensor, y: torch.Tensor, batch: int = 64) -> list[str]:
        """That name for every pair."""
        return [self.name] * len(x)


@pytest.mark.parametrize("name", ["shaded to mask", "shaded to line"])
def test_right_answers_have_full_marks(tiny_tokenizer: Callable[..., VQTokenizer], name: str):
    """Content and overlaps 1, no error; only masks have overlaps; black pictures fail everything."""
    sat = exam(task(name), questions(5, 1, seed=0), tiny_tokenizer())
    right = scores(sat, sat.pairs[sat.asked, 1], Parrot(name))
    assert right.pop("psnr") == float("inf")
    ious = ("iou", "iou_foreground", "iou_background", "iou_class", "iou_box")
    overlapping = dict.fromkeys(ious, 1.0) if name.endswith("mask") else {}
    assert right == {"kind": 1.0, "content": 1.0, "mse": 0.0} | overlapping
    black = scores(sat, torch.zeros(5, 3, 64, 64), Parrot("invert"))
    assert black["kind"] == 0 and black["content"] <= 0.2 and black["psnr"] < 12
    assert black.get("iou", 0) == black.get("iou_foreground", 0) == black.get("iou_box", 0) == 0


def test_a_fitting_name_is_right(tiny_tokenizer: Callable[..., VQTokenizer]):
    """A line drawing is right as one from flat; as a mask it is wrong."""
    sat = exam(task("shaded to line"), questions(3, 1, seed=0), tiny_tokenizer())
    answers = sat.pairs[sat.asked, 1]
    said = ("shaded to line", "flat to line", "shaded to mask")
    rights = [kind_right(sat, answers, Parrot(name)) for name in said]
    assert rights == [1.0, 1.0, 0.0]


def test_content_is_the_share_nearest_to_their_own_target():
    """Two of four swapped are half; noise and a shift of a pixel change nothing."""
    targets = torch.rand(4, 3, 16, 16).repeat_interleave(4, dim=2).repeat_interleave(4, dim=3)
    assert content(targets, targets) == 1.0
    assert content(targets[[1, 0, 2, 3]], targets) == 0.5
    assert content((targets + 0.3 * torch.randn_like(targets)).clamp(0, 1), targets) == 1.0
    assert content(targets.roll(1, dims=-1), targets) == 1.0
    assert content(targets[:1].expand(4, -1, -1, -1), targets) == 0.25


def test_errors_are_of_the_whole_set(tiny_tokenizer: Callable[..., VQTokenizer]):
    """An error of 0.1 everywhere is 0.01 and 20 dB; LPIPS is the mean of what its network says."""
    sat = exam(task("invert"), questions(4, 1, seed=0), tiny_tokenizer())
    right = sat.pairs[sat.asked, 1]

    class Distance(torch.nn.Module):
        mean = torch.zeros(1)

        def forward(self, found: torch.Tensor, references: torch.Tensor) -> torch.Tensor:
            return (found - references).abs().mean((1, 2, 3))

    marks = scores(sat, right + 0.1, Parrot("invert"), Distance())
    assert marks["mse"] == pytest.approx(0.01) and marks["psnr"] == pytest.approx(20)
    assert marks["lpips"] == pytest.approx(0.1) and "lpips" not in scores(sat, right, Parrot("invert"))


def test_overlaps_by_every_mean():
    """Of pictures, of the pixels of each class over the set, and of boxes, each counted by hand."""
    right = torch.zeros(3, 4, 4, dtype=torch.bool)
    right[0, 0, 0], right[1, :2] = True, True
    found = torch.zeros_like(right)
    found[0, 0, 0], found[0, 2, 3], found[1, 0], found[1, 1, 3] = True, True, True, True
    marks = overlaps(found, right)  # in the third nothing is, and nothing was found
    assert marks["iou"] == pytest.approx((1 / 2 + 5 / 8 + 1) / 3)
    assert marks["iou_foreground"] == pytest.approx(6 / 10)
    assert marks["iou_background"] == pytest.approx(38 / 42)
    assert marks["iou_class"] == pytest.approx((6 / 10 + 38 / 42) / 2)
    assert marks["iou_box"] == pytest.approx((1 / 12 + 1 + 1) / 3)


def test_a_mask_is_where_white_is_nearer():
    """By the mean of the channels."""
    colors = torch.tensor([[1.0, 1.0, 1.0], [0.0, 0.0, 0.0], [1.0, 0.6, 0.0], [0.9, 0.3, 0.2]])
    assert masks_of(colors.view(4, 3, 1, 1)).flatten().tolist() == [True, False, True, False]
