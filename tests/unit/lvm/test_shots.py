"""Nats by the number of pairs before an answer, and the sheet a training run draws."""

import pytest
import torch

from lvm.generate import answer_nats
from lvm.layout import Layout
from lvm.model import LVM
from lvm.shots import answer_sheet, nats_by_shots, validation_losses


@pytest.fixture
def sentences() -> torch.Tensor:
    """(5, 6, 16) random codes: five sentences of three pairs."""
    return torch.randint(32, (5, 6, 16))


@pytest.mark.parametrize("batch", [1, 2, 16])
def test_each_answer_has_the_nats_it_has_as_the_last(model: LVM, sentences: torch.Tensor, batch: int):
    """One pass over a sentence gives what one pass for each of its answers gives, in any batches."""
    nats = nats_by_shots(model.gpt, model.layout, sentences, batch)
    assert nats.shape == (5, 3, 16)
    for k in range(3):
        alone = answer_nats(model.gpt, model.layout, sentences[:, : 2 * k + 2])
        torch.testing.assert_close(nats[:, k], alone, atol=1e-5, rtol=0)


def test_validation_losses_count_each_task_alike(model: LVM, sentences: torch.Tensor):
    """A task with more sentences weighs no more; every shot count and task has its number."""
    kept = {"few": sentences[:1], "many": sentences[1:]}
    found = validation_losses(model.gpt, model.layout, kept)
    by_task = [nats_by_shots(model.gpt, model.layout, part) for part in kept.values()]
    mean = float(sum(nats.mean() for nats in by_task) / 2)
    assert found["validation/loss"] == pytest.approx(mean, abs=1e-5)
    for k in range(3):
        row = sum(nats[:, k, :4].mean() for nats in by_task) / 2
        assert found[f"validation/first_row/{k}_shots"] == pytest.approx(float(row), abs=1e-5)
    assert found["validation/task/few"] == pytest.approx(float(by_task[0][:, 2].mean()), abs=1e-5)
    assert {"validation/answer/2_shots", "validation/task/many"} <= set(found)


def test_the_sheet_shows_prompt_answer_and_truth(model: LVM, layout: Layout, sentences: torch.Tensor):
    """A line a task; all but the answer is what the tokenizer decodes from the sentence."""
    sheet = answer_sheet(model.gpt, model.tokenizer, layout, {"one": sentences[:2], "two": sentences[2:]})
    assert sheet.shape == (3, 2 * 64, 7 * 64)
    first = model.tokenizer.decode(sentences[0, 0].view(1, 4, 4))[0]
    truth = model.tokenizer.decode(sentences[2, 5].view(1, 4, 4))[0]
    torch.testing.assert_close(sheet[:, :64, :64], first)
    torch.testing.assert_close(sheet[:, 64:, -64:], truth)
