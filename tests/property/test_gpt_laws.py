"""Laws of the transformer and of sampling, over seeds, shapes and ways to cut a sequence."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from vqtok.gpt.cache import KVCache
from vqtok.gpt.config import GPTConfig
from vqtok.gpt.model import GPT
from vqtok.gpt.sampling import Sampling, draw, shortlist

LENGTH = 16
SHAPES = {
    "plain": {"heads": 4},
    "shared key heads": {"heads": 4, "kv_heads": 2},
    "one key head": {"heads": 4, "kv_heads": 1},
    "places": {"heads": 2, "period": 5},
    "places, longer than the stream": {"heads": 4, "kv_heads": 2, "period": 40},
    "head width 10": {"heads": 3, "width": 30},
}


def lively(seed: int = 0, **shape: int) -> GPT:
    """A tiny GPT with matrices of about unit gain, so that attention is far from uniform."""
    gpt = GPT(GPTConfig(**{"vocab": 19, "length": LENGTH, "width": 32, "depth": 2} | shape)).eval()
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for name, weight in gpt.named_parameters():
            if weight.ndim == 2:
                table = name.startswith(("embed", "place"))
                weight.normal_(std=1 if table else weight.shape[1] ** -0.5, generator=generator)
    return gpt


def cuts_of(total: int) -> st.SearchStrategy[list[int]]:
    """Every way to cut `total` tokens into chunks."""
    marks = st.lists(st.booleans(), min_size=total - 1, max_size=total - 1)
    ends = marks.map(lambda here: [i + 1 for i, mark in enumerate(here) if mark] + [total])
    return ends.map(lambda ends: [b - a for a, b in zip([0, *ends], ends, strict=False)])


@pytest.mark.parametrize("shape", SHAPES.values(), ids=SHAPES)
@pytest.mark.parametrize("cuts", [(16,), (1,) * 16, (5, 1, 10), (1, 15), (7, 7, 1, 1)])
def test_cached_equals_uncached_at_every_position(shape, cuts):
    """Logits do not depend on how the sequence is cut into chunks."""
    gpt, ids = lively(**shape), torch.randint(19, (2, LENGTH))
    cache = KVCache(gpt.config, batch=2)
    pieces = [gpt(piece, cache=cache) for piece in ids.split(cuts, dim=1)]
    # Sums are reordered, in float32, and scores are of size 1.
    torch.testing.assert_close(torch.cat(pieces, dim=1), gpt(ids), atol=2e-5, rtol=0)
    assert cache.filled == LENGTH


@settings(max_examples=60, deadline=None)
@given(data=st.data(), seed=st.integers(0, 99), shape=st.sampled_from(list(SHAPES.values())))
def test_any_chunking_gives_the_same_scores(data, seed, shape):
    """Random weights, random ids, random chunks, a cache no longer than needed."""
    total = data.draw(st.integers(1, LENGTH))
    cuts = data.draw(cuts_of(total))
    gpt, ids = (
        lively(seed, **shape),
        torch.randint(19, (2, total), generator=torch.Generator().manual_seed(seed)),
    )
    cache = KVCache(gpt.config, batch=2, length=total)
    with torch.no_grad():
        pieces = [gpt(piece, cache=cache) for piece in ids.split(cuts, dim=1)]
        torch.testing.assert_close(torch.cat(pieces, dim=1), gpt(ids), atol=2e-5, rtol=0)


@pytest.mark.parametrize("shape", SHAPES.values(), ids=SHAPES)
def test_the_future_cannot_change_the_past(shape):
    """Another id at position p leaves the scores before p bit for bit alike and changes those from p on."""
    gpt, ids = lively(**shape), torch.randint(19, (1, LENGTH))
    before = gpt(ids)
    for place in range(LENGTH):
        other = ids.clone()
        other[0, place] = (ids[0, place] + 1) % 19
        after = gpt(other)
        assert torch.equal(after[:, :place], before[:, :place])
        assert (after[:, place:] - before[:, place:]).abs().amax(-1).gt(1e-4).all()


def test_without_places_only_distances_matter():
    """Rotary attention sees distances: tokens counted from position 7 have the scores of those from 0."""
    gpt, ids = lively(heads=4), torch.randint(19, (1, 6))
    expected = gpt(ids)
    gpt.rope = gpt.rope.roll(-7, dims=1)
    torch.testing.assert_close(gpt(ids), expected, atol=2e-5, rtol=0)


def smallest_set(
    scores: torch.Tensor, temperature: float, top_k: int | None, top_p: float | None
) -> set[int]:
    """By the definition: the k best, then the fewest of them that reach p together."""
    order = scores.argsort(descending=True).tolist()[: top_k or len(scores)]
    shares = (scores[order].double() / temperature).softmax(-1)
    for size in range(1, len(order) + 1):
        if top_p is not None and shares[:size].sum() >= top_p:
            return set(order[:size])
    return set(order)


@settings(max_examples=200, deadline=None)
@given(
    seed=st.integers(0, 10_000),
    temperature=st.floats(0.2, 4),
    top_k=st.none() | st.integers(1, 30),
    top_p=st.none() | st.floats(0.01, 0.99),
)
def test_top_k_and_top_p_keep_exactly_the_smallest_right_set(seed, temperature, top_k, top_p):
    """The kept ids are the k best, then the fewest that reach p; each row has its own."""
    logits = 3 * torch.randn(3, 25, generator=torch.Generator().manual_seed(seed))
    sampling = Sampling(temperature=temperature, top_k=top_k, top_p=top_p)
    ids, shares = shortlist(logits, sampling)
    for row in range(3):
        kept = set(ids[row][shares[row] > 0].tolist())
        assert kept == smallest_set(logits[row], temperature, top_k, top_p)


@settings(max_examples=60, deadline=None)
@given(seed=st.integers(0, 10_000), top_k=st.integers(1, 6))
def test_ties_do_not_widen_the_set(seed, top_k):
    """With equal scores top-k still keeps k ids, and top-p of j/8 of eight equal ones keeps j."""
    ids, shares = shortlist(torch.zeros(2, 8), Sampling(top_k=top_k))
    assert ids.shape == (2, top_k) and (shares > 0).all()
    shares = shortlist(torch.zeros(2, 8), Sampling(top_p=top_k / 8))[1]
    assert ((shares > 0).sum(-1) == top_k).all()
    drawn = draw(torch.zeros(50, 8), Sampling(top_p=1e-9), torch.Generator().manual_seed(seed))
    assert len(drawn.unique()) == 1
