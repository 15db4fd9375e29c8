"""Nats by the number of rows before an answer, and the sheet a training run draws."""

import math

import pytest
import torch

from lvm.data import Kept
from lvm.forms import PAIRS, SINGLE, Form, sequence
from lvm.generate import answer_nats
from lvm.layout import Layout
from lvm.model import LVM
from lvm.shots import answer_sheet, nats_of, validation_losses
from vqtok.gpt.config import GPTConfig
from vqtok.gpt.model import GPT

PAIRED = [False, True] * 3


@pytest.fixture
def sentences() -> torch.Tensor:
    """(5, 6, 16) random codes: five sentences of three pairs."""
    return torch.randint(32, (5, 6, 16))


def kept(images: torch.Tensor, form: Form = PAIRS) -> Kept:
    """Sentences of a form, of which all but the first image of a row is asked for."""
    rows = images.shape[1] // form.images
    asked = [place >= form.given for _ in range(rows) for place in range(form.images)]
    return Kept(images, torch.tensor(asked), form)


@pytest.mark.parametrize("batch", [1, 2, 16])
def test_each_answer_has_the_nats_it_has_as_the_last(model: LVM, sentences: torch.Tensor, batch: int):
    """One pass over a sentence gives what one pass for each of its answers gives, in any batches."""
    nats = nats_of(model.gpt, model.layout, sentences, PAIRED, batch=batch)
    assert nats.shape == (5, 3, 16)
    for k in range(3):
        alone = answer_nats(model.gpt, model.layout, sentences[:, : 2 * k + 2])
        torch.testing.assert_close(nats[:, k], alone, atol=1e-5, rtol=0)


@pytest.mark.parametrize("boundary", [False, True])
@pytest.mark.parametrize("told", [None, "mirror"])
def test_nats_are_of_the_images_asked_for(sentences: torch.Tensor, boundary: bool, told: str | None):
    """Whatever ids stand before sentences and images: scores of codes at their places, by the definition."""
    layout = Layout(32, 16, boundary, ("invert", "mirror") if told else ())
    gpt = GPT(GPTConfig(vocab=layout.vocab, length=130, width=16, depth=1, heads=2)).eval()
    torch.nn.init.normal_(gpt.head.weight)
    asked = [True, False, True, True, False, True]
    nats = nats_of(gpt, layout.telling(told), sentences, asked)
    for sentence, found in zip(sentences, nats, strict=True):
        ids = layout.sentence(sentence, told)
        with torch.no_grad():
            logs = gpt(ids[None, :-1])[0].log_softmax(-1)
        lost = -logs.gather(1, ids[1:, None])[:, 0]
        lost = torch.cat([torch.zeros(1), lost])[layout.lead : -1].view(6, -1)[:, -16:]
        torch.testing.assert_close(found, lost[torch.tensor(asked)], atol=1e-5, rtol=0)
    if not told:
        last = answer_nats(gpt, layout, sentences)
        torch.testing.assert_close(last, nats[:, -1], atol=1e-5, rtol=0)


def test_validation_losses_count_each_task_alike(model: LVM, sentences: torch.Tensor):
    """A task with more sentences weighs no more; every shot count and task has its number."""
    held = {"few": kept(sentences[:1]), "many": kept(sentences[1:])}
    found = validation_losses(model.gpt, model.layout, held)
    by_task = [nats_of(model.gpt, model.layout, part.images, PAIRED) for part in held.values()]
    mean = float(sum(nats.mean() for nats in by_task) / 2)
    assert found["validation/loss"] == pytest.approx(mean, abs=1e-5)
    for k in range(3):
        row = sum(nats[:, k, :4].mean() for nats in by_task) / 2
        assert found[f"validation/first_row/{k}_shots"] == pytest.approx(float(row), abs=1e-5)
    assert found["validation/task/few"] == pytest.approx(float(by_task[0][:, 2].mean()), abs=1e-5)
    assert found["validation/perplexity/few"] == pytest.approx(math.exp(found["validation/task/few"]))
    assert {"validation/answer/2_shots", "validation/task/many"} <= set(found)


def test_other_forms_have_losses_of_their_own(model: LVM, sentences: torch.Tensor):
    """All that is asked for counts; the loss of all and of shots is of pairs, where there are any."""
    pairs, film = kept(sentences), kept(sentences[:, :5], sequence(5))
    found = validation_losses(model.gpt, model.layout, {"pairs": pairs, "film": film})
    alone = validation_losses(model.gpt, model.layout, {"pairs": pairs})
    assert {name: found[name] for name in alone} == alone
    nats = nats_of(model.gpt, model.layout, film.images, [False] + [True] * 4)
    assert found["validation/task/film"] == pytest.approx(float(nats.mean()), abs=1e-5)
    only = validation_losses(model.gpt, model.layout, {"film": film})
    assert only["validation/loss"] == pytest.approx(found["validation/task/film"])
    assert not any("shots" in name for name in only)


def test_tasks_are_told_if_wanted(sentences: torch.Tensor):
    """Then losses are those after the ids of their tasks, and a task without an id goes untold."""
    layout = Layout(32, 16, tasks=("invert", "mirror"))
    gpt = GPT(GPTConfig(vocab=layout.vocab, length=130, width=16, depth=1, heads=2)).eval()
    torch.nn.init.normal_(gpt.embed.weight), torch.nn.init.normal_(gpt.head.weight)
    held = {"mirror": kept(sentences), "own": kept(sentences)}
    quiet, told = (validation_losses(gpt, layout, held, told=told) for told in (False, True))
    nats = nats_of(gpt, layout.telling("mirror"), sentences, PAIRED)[:, -1]
    assert told["validation/task/mirror"] == pytest.approx(float(nats.mean()), abs=1e-5)
    assert told["validation/task/own"] == quiet["validation/task/own"] == quiet["validation/task/mirror"]
    assert told["validation/task/mirror"] != quiet["validation/task/mirror"]


def test_the_sheet_shows_prompt_answer_and_truth(model: LVM, layout: Layout, sentences: torch.Tensor):
    """A line a task; all but the answer is what the tokenizer decodes; shorter sentences end in white."""
    held = {"one": kept(sentences[:2]), "two": kept(sentences[2:]), "alone": kept(sentences[:, :1], SINGLE)}
    sheet = answer_sheet(model.gpt, model.tokenizer, layout, held)
    assert sheet.shape == (3, 3 * 64, 7 * 64)
    first = model.tokenizer.decode(sentences[0, 0].view(1, 4, 4))[0]
    truth = model.tokenizer.decode(sentences[2, 5].view(1, 4, 4))[0]
    torch.testing.assert_close(sheet[:, :64, :64], first)
    torch.testing.assert_close(sheet[:, 64:128, -64:], truth)
    torch.testing.assert_close(sheet[:, 128:, 64:128], first)  # after one that was drawn of nothing
    assert (sheet[:, 128:, 128:] == 1).all()
