"""Recalls, accuracies and classes, on similarities that are known."""

from collections.abc import Sequence

import pytest
import torch
from torch import Tensor

from vqtok.clip import classify, matched, recalls


class Table:
    """A scorer whose scores are written down: of image number k, by caption; 0 where nothing is said."""

    def __init__(self, *rows: dict[str, float]) -> None:
        self.rows = rows

    def __call__(self, images: Tensor, captions: Sequence[str]) -> Tensor:
        """(b, n)."""
        return torch.tensor([[row.get(caption, 0.0) for caption in captions] for row in self.rows])


IMAGES = torch.zeros(2, 3, 8, 8)


def test_recalls_by_hand():
    """Of four pairs: ranks by row are 1, 2, 1, 4 and by column 1, 3, 1, 2."""
    table = torch.tensor([[9, 1, 2, 3], [4, 3, 1, 0], [2, 5, 8, 1], [3, 4, 2, 0.5]])
    found = recalls(table, places=(1, 2))
    assert found == {
        "image_to_text@1": 0.5, "image_to_text@2": 0.75, "text_to_image@1": 0.5, "text_to_image@2": 0.5,
        "chance@1": 0.25, "chance@2": 0.5,
    }  # fmt: skip


def test_collapsed_model():
    """A model to which all are alike finds nothing."""
    found = recalls(torch.ones(10, 10))
    assert not any(share for name, share in found.items() if not name.startswith("chance"))


def test_recalls_of_no_square():
    """Images without their captions are refused."""
    with pytest.raises(ValueError, match=r"\(3, 4\)"):
        recalls(torch.rand(3, 4))


def test_matched():
    """The share of images whose own caption is above all distractors."""
    scorer = Table({"cat": 0.9, "dog": 0.1, "cow": 0.2}, {"cat": 0.3, "dog": 0.2, "cow": 0.1})
    assert matched(scorer, IMAGES, ["cat", "dog"], ["cow"]) == 1.0
    assert matched(scorer, IMAGES, ["cat", "dog"], ["cow", "cat"]) == 0.5


def test_own_caption_is_no_distractor():
    """An image's own caption among the distractors does not count against it; a tie does."""
    scorer = Table({"cat": 0.5, "dog": 0.1}, {"cat": 0.5, "dog": 0.5})
    assert matched(scorer, IMAGES, ["cat", "cat"], ["cat", "dog"]) == 0.5


def test_matched_without_choice():
    """Without a distractor every guess would be right: refused; so are captions of another number."""
    with pytest.raises(ValueError, match="no distractors"):
        matched(Table({}, {}), IMAGES, ["cat", "dog"], ["dog"])
    with pytest.raises(ValueError, match="2 images have 1 captions"):
        matched(Table({}, {}), IMAGES, ["cat"], ["dog"])


def test_classify():
    """The class whose captions fit best on average wins, not the one with the single best caption."""
    scorer = Table({"a": 0.6, "b": 0.6, "c": 0.9, "d": 0.0}, {"c": 0.5, "d": 0.5})
    assert classify(scorer, IMAGES, {"first": ["a", "b"], "second": ["c", "d"]}) == ["first", "second"]


@pytest.mark.parametrize("classes", [{}, {"first": ["a"], "second": []}])
def test_classes_without_captions(classes):
    """Classes that nothing is said of are refused."""
    with pytest.raises(ValueError, match="captions"):
        classify(Table({}, {}), IMAGES, classes)
