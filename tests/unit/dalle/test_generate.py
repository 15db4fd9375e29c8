"""Drawing: guidance at every token, seeds, candidates, states on the way, and the best of many."""

from collections.abc import Callable
from dataclasses import replace

import pytest
import torch
from torch import Tensor

from dalle.generate import Start, best, drawn, drawn_in_steps, guided
from dalle.layout import Layout
from dalle.model import Dalle
from vqtok.gpt.guidance import Constant, Linear
from vqtok.gpt.prompts import Panel
from vqtok.gpt.sampling import Sampling

KINDS = ["dense", "masked"]
GREEDY = Sampling(temperature=0.0)


@pytest.fixture
def start(ids: Tensor) -> Start:
    """Four captions."""
    return Start.of(ids[:, :5])


@pytest.mark.parametrize("kind", KINDS)
def test_guidance_at_every_token(
    kind: str, build: Callable[..., Dalle], start: Start, monkeypatch: pytest.MonkeyPatch
):
    """Conditional and null scores differ at each token, and the caller's tensors stay as they are."""
    model, heard, given = build(kind), [], start.text.clone()
    agree = Panel.agree

    def listening(panel: Panel, scores: Tensor, votes: tuple[int, ...]) -> list[Tensor]:
        heard.append(agree(panel, scores, votes))
        return heard[-1]

    monkeypatch.setattr(Panel, "agree", listening)
    drawn(model.gpt, model.layout, start, guided(None, 3.0), [1, 2])
    assert len(heard) == 16  # the first is heard in reading the prompt
    for conditional, null in heard:
        codes = slice(model.layout.first_code, None)
        assert ((conditional - null)[:, codes].abs().amax(1) > 1e-3).all()
    assert torch.equal(start.text, given)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("scale", [1.0, 3.0])
def test_cached_equals_uncached(kind: str, scale: float, build: Callable[..., Dalle], start: Start):
    """Greedy tokens, guided and not, are those of whole passes without a cache, token by token."""
    model = build(kind)
    sampling = guided(GREEDY, scale)
    found = drawn(model.gpt, model.layout, start, sampling, [0])
    row = torch.empty(4, 0, dtype=torch.int64)
    null = model.layout.padding.expand(4, -1)
    for _ in range(16):
        cond, none = (model.gpt(torch.cat([text, row], 1))[:, -1] for text in (start.text, null))
        push = (cond - none).nan_to_num(nan=0.0)
        row = torch.cat([row, (cond + (scale - 1) * push).argmax(1)[:, None]], dim=1)
    assert torch.equal(found, row)


def test_guidance_changes_pictures(build: Callable[..., Dalle], start: Start):
    """Another scale draws others from the same seeds; a scale of 1, or none, is no guidance."""
    model = build()
    none, one, three = (
        drawn(model.gpt, model.layout, start, guided(None, scale), [1, 2]) for scale in (None, 1.0, 3.0)
    )
    assert torch.equal(none, one) and not torch.equal(none, three)


def test_schedules_of_guidance():
    """A number is a constant scale, a schedule stays one; two of them are refused."""
    assert guided(None, 3.0).guidance == Constant(scale=3.0)
    assert guided(Sampling(top_k=5), Linear(scale=4.0)) == Sampling(top_k=5, guidance=Linear(scale=4.0))
    with pytest.raises(ValueError, match="give it as guidance= instead"):
        guided(Sampling(guidance=Constant(scale=2.0)), 3.0)


def test_only_codes_are_drawn(build: Callable[..., Dalle], start: Start):
    """No words, whatever the temperature."""
    model = build()
    found = drawn(model.gpt, model.layout, start, Sampling(temperature=50.0), list(range(8)))
    assert found.shape == (32, 16) and found.min() >= model.layout.first_code


@pytest.mark.parametrize("batch", [1, 2, 3, 5, 64])
def test_seeds_whatever_the_batch(batch: int, build: Callable[..., Dalle], start: Start):
    """Candidate j of a caption is the same alone, among others, and in any batch."""
    model = build()
    sampling = guided(None, 2.0)
    whole = drawn(model.gpt, model.layout, start, sampling, [5, 6, 7]).unflatten(0, (4, 3))
    parts = drawn(model.gpt, model.layout, start, sampling, [5, 6, 7], batch).unflatten(0, (4, 3))
    assert torch.equal(parts, whole)
    alone = drawn(model.gpt, model.layout, start.part(2, 3), sampling, [6])
    assert torch.equal(alone[0], whole[2, 1])
    assert not torch.equal(whole[2, 0], whole[2, 1])


def test_what_is_kept(build: Callable[..., Dalle], ids: Tensor):
    """The first tokens of a picture stay, in every candidate, and steer the rest."""
    model = build()
    start = Start(ids[:, :5], ids[:, 5:13])
    found = drawn(model.gpt, model.layout, start, guided(None, 3.0), [0, 1]).unflatten(0, (4, 2))
    assert torch.equal(found[:, :, :8], ids[:, None, 5:13].expand(-1, 2, -1))
    other = replace(start, kept=(start.kept - 48) % 6 + 49)
    changed = drawn(model.gpt, model.layout, other, guided(None, 3.0), [0, 1]).unflatten(0, (4, 2))
    assert not torch.equal(changed[:, :, 8:], found[:, :, 8:])


@pytest.mark.parametrize(("every", "lengths"), [(4, [12, 16]), (3, [11, 14, 16]), (99, [16])])
def test_states_on_the_way(every: int, lengths: list[int], build: Callable[..., Dalle], ids: Tensor):
    """Every so many tokens, and at the end, the first tokens of what is drawn at once."""
    model = build()
    start = Start(ids[:, :5], ids[:, 5:13])
    whole = drawn(model.gpt, model.layout, start, guided(None, 3.0), [0, 1])
    states = [*drawn_in_steps(model.gpt, model.layout, start, guided(None, 3.0), [0, 1], every)]
    assert [state.shape[1] for state in states] == lengths
    assert all(torch.equal(state, whole[:, : state.shape[1]]) for state in states)


def test_never_a_state(build: Callable[..., Dalle], start: Start, layout: Layout):
    """It is refused before anything is drawn."""
    with pytest.raises(ValueError, match="every 0 tokens is never: give 1 or more, a row is 4"):
        drawn_in_steps(build().gpt, layout, start, GREEDY, [0], every=0)


def test_the_best_of_many():
    """The best first, each caption's among its own; equals keep their order."""
    images = torch.tensor([0.1, 0.5, 0.3, 0.9, 0.2, 0.9])[:, None, None, None].expand(-1, 3, 4, 4)
    sign = {"light": 1, "dark": -1}

    def scorer(images: Tensor, captions: list[str]) -> Tensor:
        return images.mean((1, 2, 3))[:, None] * torch.tensor([sign[caption] for caption in captions])

    found = best(images, ["light", "dark"], scorer, keep=2)[:, 0, 0, 0]
    assert found.tolist() == pytest.approx([0.5, 0.3, 0.2, 0.9])
    with pytest.raises(ValueError, match="keep 4 of 3 images of a caption: give 1 to 3"):
        best(images, ["light", "dark"], scorer, keep=4)
    with pytest.raises(ValueError, match=r"the scorer gave \(3,\) for 3 images .* must give \(3, 1\)"):
        best(images, ["light", "dark"], lambda images, _: images.mean((1, 2, 3)), keep=1)
