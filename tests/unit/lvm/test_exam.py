"""The exam: who is asked about, what is shown before, and what is right."""

from collections.abc import Callable
from dataclasses import replace

import pytest
import torch

from lvm.exam import Row, exam, questions
from lvm.rules import Task
from lvm.tasks import task
from vqtok.data.emoji import load_emoji
from vqtok.tokenizers.tokenizer import VQTokenizer


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


def test_a_tokenizer_of_another_size_is_refused(tiny_tokenizer: Callable[..., VQTokenizer]):
    """The embedded pictures have 64 pixels."""
    tokenizer = VQTokenizer(replace(tiny_tokenizer().config, size=32))
    with pytest.raises(ValueError, match="have 64 pixels a side, this model sees 32"):
        exam(task("mirror"), questions(2, 1, seed=0), tokenizer)


def test_every_question_is_of_one_member(
    tiny_tokenizer: Callable[..., VQTokenizer], monkeypatch: pytest.MonkeyPatch
):
    """Members take turns over the questions; all pairs of a question are of its own."""

    def shade(self: Row, task: Task) -> torch.Tensor:
        """The answer's gray tells the member, the query's the drawing."""
        grays = torch.tensor([self.index / 100, self.member / 10])
        return grays.view(2, 1, 1, 1).expand(2, 3, 64, 64).clone()

    monkeypatch.setattr(Row, "pair", shade)
    asked = questions(names=7, shots=2, seed=0)
    for members in ((0,), (0, 1, 2), (5, 6)):
        sat = exam(task("mirror"), asked, tiny_tokenizer(), members)
        for number in range(7):
            rows = [*sat.shown[number].tolist(), int(sat.asked[number])]
            drawings = [*asked.shown[number].tolist(), int(asked.asked[number])]
            queries, answers = sat.pairs[rows, :, 0, 0, 0].unbind(1)
            torch.testing.assert_close(queries, torch.tensor(drawings) / 100)
            torch.testing.assert_close(answers, torch.full((3,), members[number % len(members)] / 10))
        assert len(sat.rows) == len({(row.index, row.member) for row in sat.rows}) == len(sat.pairs)
    assert len(exam(task("mirror"), asked, tiny_tokenizer()).rows) == len(asked.emoji)
