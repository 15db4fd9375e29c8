"""The exam: who is asked about, what is shown before, and marks that mean what they say."""

from collections.abc import Callable
from dataclasses import replace

import pytest
import torch

from lvm.exam import content, exam, kind_right, questions, scores
from lvm.kind import KindClassifier, KindConfig
from lvm.tasks import task
from vqtok.data.emoji import load_emoji
from vqtok.tokenizers.tokenizer import VQTokenizer


class Parrot(KindClassifier):
    """A judge that names the same task whatever it sees."""

    def __init__(self, name: str) -> None:
        super().__init__(KindConfig(channels=(8,)))
        self.name = name

    def names(self, x: torch.Tensor, y: torch.Tensor, batch: int = 64) -> list[str]:
        """That name for every pair."""
        return [self.name] * len(x)


def test_questions_are_of_the_test_split_and_prompts_of_others():
    """Names are asked about once; none shown before looks like the one asked about; a seed decides."""
    asked = questions(names=20, shots=3, seed=0)
    names = [asked.emoji[row].name for row in asked.asked]
    assert len(set(names)) == 20 and asked.shown.shape == (20, 3)
    assert {emoji.split for emoji in asked.emoji} == {"test"}
    for row, shown in zip(asked.asked.tolist(), asked.shown.tolist(), strict=True):
        assert len(set(shown)) == 3
        assert asked.emoji[row].group not in {asked.emoji[other].group for other in shown}
    again, other = questions(20, 3, seed=0), questions(20, 3, seed=1)
    assert torch.equal(again.shown, asked.shown) and again.emoji == asked.emoji
    assert [other.emoji[row].name for row in other.asked] != names


@pytest.mark.parametrize("names", [1, 193])
def test_too_few_and_too_many_names_are_refused(names: int):
    """With the number there are."""
    assert len(load_emoji("test")) == 192
    with pytest.raises(ValueError, match=rf"{names} names are outside \[2, 192\]"):
        questions(names, 1, seed=0)


def test_sentences_of_all_shots_end_alike(tiny_tokenizer: Callable[..., VQTokenizer]):
    """One query and answer end them; fewer shots leave out the first pairs; codes are the tokenizer's."""
    asked = questions(names=4, shots=3, seed=0)
    sat = exam(task("mirror"), asked, tiny_tokenizer())
    longest = sat.sentences(3)
    assert longest.shape == (4, 8, 16)
    for shots in (0, 1, 2):
        assert torch.equal(sat.sentences(shots), longest[:, 6 - 2 * shots :])
    ids = tiny_tokenizer().encode(sat.pairs[sat.asked[0]]).flatten(1)
    assert torch.equal(longest[0, -2:], ids)
    last = tiny_tokenizer().encode(sat.pairs[sat.shown[0, -1]]).flatten(1)
    assert torch.equal(longest[0, -4:-2], last)


def test_contenders_are_ceiling_and_floors(tiny_tokenizer: Callable[..., VQTokenizer]):
    """Round trip of the right answer, the query itself, and the last answer shown."""
    sat = exam(task("invert"), questions(3, 2, seed=0), tiny_tokenizer())
    found = sat.contenders(torch.zeros(3, 3, 64, 64))
    assert [*found] == ["answer", "round trip", "copy query", "copy last answer"]
    torch.testing.assert_close(1 - found["copy query"], sat.pairs[sat.asked, 1])
    assert torch.equal(found["copy last answer"][1], sat.pairs[sat.shown[1, 1], 1])
    assert found["round trip"].shape == (3, 3, 64, 64)


@pytest.mark.parametrize("name", ["shaded to mask", "shaded to line"])
def test_right_answers_have_full_marks(tiny_tokenizer: Callable[..., VQTokenizer], name: str):
    """Content and overlap 1, an endless PSNR; only masks have an overlap; black pictures fail everything."""
    sat = exam(task(name), questions(5, 1, seed=0), tiny_tokenizer())
    right = scores(sat, sat.pairs[sat.asked, 1], Parrot(name))
    assert right.pop("psnr") == float("inf")
    assert right == {"kind": 1.0, "content": 1.0} | ({"iou": 1.0} if name.endswith("mask") else {})
    black = scores(sat, torch.zeros(5, 3, 64, 64), Parrot("invert"))
    assert black["kind"] == 0 and black["content"] <= 0.2 and black.get("iou", 0) == 0 and black["psnr"] < 12


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


def test_a_tokenizer_of_another_size_is_refused(tiny_tokenizer: Callable[..., VQTokenizer]):
    """The embedded pictures have 64 pixels."""
    tokenizer = VQTokenizer(replace(tiny_tokenizer().config, size=32))
    with pytest.raises(ValueError, match="have 64 pixels a side, this model sees 32"):
        exam(task("mirror"), questions(2, 1, seed=0), tokenizer)
