"""Answers: only codes, greedy is the best code, and what the right answer costs."""

import pytest
import torch
import torch.nn.functional as F

from lvm.generate import answer_nats, answers, continuation, nats_and_answers, room
from lvm.layout import BareLayout, Layout
from lvm.model import LVM
from vqtok.gpt.model import GPT
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


@pytest.fixture
def hearing(model: LVM) -> GPT:
    """The tiny transformer with large weights, so that what it draws depends on all that it read."""
    torch.manual_seed(1)
    gpt = GPT(model.config.gpt).eval()
    with torch.no_grad():
        for weight in gpt.parameters():
            if weight.ndim == 2:
                weight.normal_(std=1.5 * weight.shape[1] ** -0.5)
    return gpt


class Fenced(Layout):
    """A layout that puts its PAD before every second image, as one with marks between images would."""

    def prompt(self, images: torch.Tensor) -> torch.Tensor:
        """BOS, then images, each second one behind a mark, and the mark of the next if it has one."""
        mark = images.new_full((len(images), 1), self.pad)
        parts = [images.new_full((len(images), 1), self.bos)]
        for place in range(images.shape[1] + 1):
            parts += [mark] * (place % 2) + ([images[:, place]] if place < images.shape[1] else [])
        return torch.cat(parts, dim=1)


@pytest.mark.parametrize("slide", [1, 2, 3])
@pytest.mark.parametrize("frames", [1, 6, 7, 9])
@pytest.mark.parametrize("kind", [Layout, BareLayout, Fenced])
def test_a_row_is_continued_as_by_the_definition(hearing: GPT, kind: type, frames: int, slide: int):
    """Each token is the best code after the window, read anew, which drops whole images where it is full."""
    layout = kind(codes=32, tokens=16)
    gpt, images = hearing, sentences(2, frames)
    if kind is BareLayout:
        layout = BareLayout(codes=32, tokens=16, reserved=3)
    drawn = continuation(gpt, layout, images, 6, GREEDY, slide=slide)
    assert drawn.shape == (2, 6, 16) and len(drawn.unique()) > 5
    row, window, first = torch.cat([images, drawn], dim=1), room(layout, gpt.config.length), 0
    assert window == (6 if kind is Fenced else 7)
    for place in range(frames, frames + 6):
        while place - first > window:
            first += slide
        prompt = layout.prompt(row[:, first:place])
        ids = torch.cat([prompt, row[:, place, :-1]], dim=1)
        scores = gpt(ids)[:, -16:, : layout.codes]
        assert torch.equal(scores.argmax(-1), row[:, place])


def test_within_the_context_nothing_is_read_again(model: LVM, monkeypatch: pytest.MonkeyPatch):
    """One reading of three frames, single tokens for the five images that fit; then the window slides."""
    lengths, run = [], GPT.stream
    monkeypatch.setattr(
        GPT, "stream", lambda self, ids, *rest: lengths.append(ids.shape[1]) or run(self, ids, *rest)
    )
    continuation(model.gpt, model.layout, sentences(1, 3), 6, GREEDY)
    assert lengths == [1 + 3 * 16] + [1] * (5 * 16 - 1) + [1 + 7 * 16] + [1] * 15


@pytest.mark.parametrize("slide", [0, 8])
def test_a_window_slides_within_what_is_read(model: LVM, slide: int):
    """By at least one image, and by no more than stand in it."""
    with pytest.raises(ValueError, match=rf"slide {slide} is outside \[1, 7\]"):
        continuation(model.gpt, model.layout, sentences(1, 3), 6, GREEDY, slide=slide)
