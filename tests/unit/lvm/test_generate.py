"""Answers: only codes, greedy is the best code, and what the right answer costs."""

import pytest
import torch
import torch.nn.functional as F

from lvm.generate import answer_nats, answers, nats_and_answers
from lvm.layout import Layout
from lvm.model import LVM
from vqtok.gpt.sampling import Sampling

GREEDY = Sampling(temperature=0.0)


def sentences(count: int, images: int) -> torch.Tensor:
    """(count, images, 16) random codes."""
    return torch.randint(32, (count, images, 16), generator=torch.Generator().manual_seed(1))


@pytest.mark.parametrize("temperature", [0.0, 1.0, 50.0])
def test_only_codes_are_drawn(model: LVM, temperature: float):
    """Though the head prefers a special id by far, none is ever drawn."""
    layout, images = model.layout, sentences(3, 3)
    generator = torch.Generator().manual_seed(0)
    head = model.gpt.head.weight
    kept = head.data.clone()
    with torch.no_grad():
        head[layout.codes :] *= 100
    try:
        drawn = answers(model.gpt, layout, images, Sampling(temperature=temperature), generator, candidates=2)
        _, greedy = nats_and_answers(model.gpt, layout, images)
    finally:
        head.data.copy_(kept)
    assert drawn.shape == (6, 16) and greedy.shape == (3, 16)
    for ids in (drawn, greedy):
        assert 0 <= int(ids.min()) <= int(ids.max()) < layout.codes


def test_a_greedy_answer_is_the_best_code_at_every_place(model: LVM):
    """Given the prompt and its own beginning, no code has a better score than the one drawn."""
    layout, images = model.layout, sentences(2, 3)
    drawn = answers(model.gpt, layout, images, GREEDY)
    whole = layout.prompt(torch.cat([images, drawn[:, None]], dim=1))
    scores = model.gpt(whole)[:, -17:-1, : layout.codes]  # (b, t, codes), each from all before it
    assert torch.equal(scores.argmax(-1), drawn)


def test_nats_are_minus_log_probabilities_of_the_last_image(model: LVM):
    """As computed from the scores of all positions."""
    layout, images = model.layout, sentences(2, 4)
    ids = layout.prompt(images)
    logs = F.log_softmax(model.gpt(ids[:, :-1]), dim=-1)[:, -16:]  # (b, t, v)
    expected = -logs.gather(2, images[:, -1][..., None])[..., 0]
    torch.testing.assert_close(answer_nats(model.gpt, layout, images), expected, atol=1e-5, rtol=0)


@pytest.mark.parametrize("images", [2, 4, 8])
def test_one_reading_serves_both(model: LVM, layout: Layout, images: int):
    """Reading the prompt once for nats and answer changes neither."""
    whole = sentences(3, images)
    nats, drawn = nats_and_answers(model.gpt, layout, whole)
    torch.testing.assert_close(nats, answer_nats(model.gpt, layout, whole), atol=1e-5, rtol=0)
    assert torch.equal(drawn, answers(model.gpt, layout, whole[:, :-1], GREEDY))
