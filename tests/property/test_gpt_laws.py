"""Laws of the transformer and of sampling, over seeds, shapes and ways to cut a sequence."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from vqtok.gpt.cache import KVCache, SharedKVCache
from vqtok.gpt.config import AttentionConfig, GPTConfig, HeadConfig, RangeConfig
from vqtok.gpt.generation import Prompt, generate
from vqtok.gpt.graphs import StaticKVCache
from vqtok.gpt.masks import CausalConfig, GridConfig
from vqtok.gpt.mlps import GELUConfig, QuickGELUConfig
from vqtok.gpt.model import GPT
from vqtok.gpt.norms import LayerNormConfig
from vqtok.gpt.positions import LearnedConfig, RoPE2DConfig, RowColumnConfig
from vqtok.gpt.prefix import ClassesConfig, FeaturesConfig, SOSConfig
from vqtok.gpt.sampling import Sampling, draw, shortlist

LENGTH = 16
GRID = GridConfig(columns=4, before=4, kernel=3)
SHAPES = {
    "plain": {"heads": 4},
    "shared key heads": {"heads": 4, "kv_heads": 2},
    "one key head": {"heads": 4, "kv_heads": 1},
    "places": {"heads": 2, "period": 5},
    "places, longer than the stream": {"heads": 4, "kv_heads": 2, "period": 40},
    "head width 10": {"heads": 3, "width": 30},
    "normed queries and keys": {"heads": 4, "kv_heads": 2, "attention": AttentionConfig(qk_norm=True)},
    "GPT-2": {
        "heads": 4,
        "norm": LayerNormConfig(),
        "mlp": GELUConfig(),
        "positions": LearnedConfig(),
        "attention": AttentionConfig(bias=True),
        "head": HeadConfig(tied=True),
    },
    "ImageGPT": {
        "heads": 4,
        "mlp": QuickGELUConfig(),
        "positions": LearnedConfig(),
        "prefix": SOSConfig(),
    },
    "LlamaGen": {
        "heads": 4,
        "positions": RoPE2DConfig(columns=4, before=1),
        "prefix": ClassesConfig(classes=3),
    },
    "features, shared key heads": {
        "heads": 4,
        "kv_heads": 2,
        "positions": RoPE2DConfig(columns=4, before=3, still="unturned"),
        "prefix": FeaturesConfig(tokens=3, channels=5),
    },
    "DALL-E": {
        "heads": 4,
        "depth": 5,
        "positions": RowColumnConfig(columns=4, before=4),
        "attention": AttentionConfig(mask=GRID),
        "head": HeadConfig(
            ranges=(RangeConfig(start=0, low=0, high=9), RangeConfig(start=4, low=9, high=19))
        ),
    },
    "rows only, shared key heads": {
        "heads": 4,
        "kv_heads": 2,
        "attention": AttentionConfig(mask=GridConfig(columns=3, layers=("row",), last="row")),
    },
    "columns only": {
        "heads": 4,
        "attention": AttentionConfig(mask=GridConfig(columns=3, layers=("column",), last="column")),
    },
    "squares only": {
        "heads": 2,
        "attention": AttentionConfig(
            mask=GridConfig(columns=5, kernel=3, layers=("convolution",), last="convolution")
        ),
    },
}


def lively(seed: int = 0, **shape: object) -> GPT:
    """A tiny GPT with matrices of about unit gain, so that attention is far from uniform."""
    prefix = shape.get("prefix")
    length = LENGTH + (prefix.places if prefix else 0)
    gpt = GPT(GPTConfig(**{"vocab": 19, "length": length, "width": 32, "depth": 2} | shape)).eval()
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for name, weight in gpt.named_parameters():
            if weight.ndim == 2:
                table = name.startswith(("embed", "place", "positions", "prefix"))
                weight.normal_(std=1 if table else weight.shape[1] ** -0.5, generator=generator)
            elif name.endswith("bias"):
                weight.normal_(std=0.3, generator=generator)
    return gpt


def beginning(gpt: GPT, batch: int) -> dict[str, torch.Tensor]:
    """The prefix that a model takes, as an argument of its forward pass."""
    prefix = gpt.config.prefix
    if isinstance(prefix, ClassesConfig):
        return {"prefix": torch.arange(batch) % (prefix.classes + 1)}
    if isinstance(prefix, FeaturesConfig):
        generator = torch.Generator().manual_seed(5)
        return {"prefix": torch.randn(batch, prefix.tokens, prefix.channels, generator=generator)}
    return {}


def in_pieces(gpt: GPT, ids: torch.Tensor, cuts: list[int], cache: KVCache) -> torch.Tensor:
    """Scores of `ids` that pass in pieces, the prefix with the first."""
    pieces = ids.split(cuts, dim=1)
    found = [gpt(pieces[0], cache=cache, **beginning(gpt, len(ids)))]
    return torch.cat(found + [gpt(piece, cache=cache) for piece in pieces[1:]], dim=1)


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
    whole = gpt(ids, **beginning(gpt, 2))
    # Sums are reordered, in float32, and scores are of size 1.
    torch.testing.assert_close(in_pieces(gpt, ids, cuts, cache), whole, atol=2e-5, rtol=0)
    assert cache.filled == gpt.config.length


@settings(max_examples=100, deadline=None)
@given(data=st.data(), seed=st.integers(0, 99), shape=st.sampled_from(list(SHAPES.values())))
def test_any_chunking_gives_the_same_scores(data, seed, shape):
    """Random weights, random ids, random chunks, a cache no longer than needed."""
    total = data.draw(st.integers(1, LENGTH))
    cuts = data.draw(cuts_of(total))
    gpt, ids = (
        lively(seed, **shape),
        torch.randint(19, (2, total), generator=torch.Generator().manual_seed(seed)),
    )
    cache = KVCache(gpt.config, batch=2, length=total + gpt.config.prefix_places)
    with torch.no_grad():
        whole = gpt(ids, **beginning(gpt, 2))
        torch.testing.assert_close(in_pieces(gpt, ids, cuts, cache), whole, atol=2e-5, rtol=0)


@pytest.mark.parametrize("shape", SHAPES.values(), ids=SHAPES)
@pytest.mark.parametrize("times", [1, 3])
@pytest.mark.parametrize("static", [False, True])
def test_any_kind_of_cache_gives_the_same_scores(shape, times, static):
    """What follows a prompt is scored as in one pass, be it shared or not, at fixed addresses or not."""
    gpt = lively(**shape)
    prompts, tails = torch.randint(19, (2, 6)), torch.randint(19, (2 * times, LENGTH - 6))
    given, cache = beginning(gpt, 2), KVCache(gpt.config, batch=2)
    gpt(prompts, cache=cache, **given)
    cache = SharedKVCache(cache, times) if times > 1 else cache
    cache = StaticKVCache(cache) if static else cache
    found = torch.cat([gpt(piece, cache=cache) for piece in tails.split([1, 1, 5, 3], dim=1)], dim=1)
    written_out = torch.cat((prompts.repeat_interleave(times, 0), tails), dim=1)
    whole = gpt(written_out, **{name: x.repeat_interleave(times, 0) for name, x in given.items()})
    torch.testing.assert_close(found, whole[:, 6 - LENGTH :], atol=2e-5, rtol=0)


@pytest.mark.parametrize("shape", SHAPES.values(), ids=SHAPES)
@pytest.mark.parametrize("candidates", [1, 2])
def test_greedy_drawing_takes_the_best_at_every_place(shape, candidates):
    """Up to the last place of the model, of scores without a cache."""
    gpt, ids = lively(**shape), torch.randint(19, (2, 3))
    given = beginning(gpt, 2)
    prompt, greedy = Prompt(ids=ids, **given), Sampling(temperature=0)
    drawn = generate(gpt, prompt, LENGTH - 3, greedy, candidates=candidates)
    whole = torch.cat((ids.repeat_interleave(candidates, 0), drawn), dim=1)
    given = {name: x.repeat_interleave(candidates, 0) for name, x in given.items()}
    scores = gpt(whole[:, :-1].contiguous(), **given)[:, 3 - LENGTH :]
    assert torch.equal(scores.argmax(-1), drawn)


@pytest.mark.parametrize("shape", SHAPES.values(), ids=SHAPES)
def test_the_future_cannot_change_the_past(shape):
    """Another id at position p leaves the scores before p bit for bit alike and changes those of p.

    Without a sparse mask it changes all from p on.
    """
    gpt, ids = lively(**shape), torch.randint(19, (1, LENGTH))
    given, first = beginning(gpt, 1), int(gpt.prefix is not None)
    before = gpt(ids, **given)
    for place in range(LENGTH):
        other = ids.clone()
        other[0, place] = (ids[0, place] + 1) % 19
        after = gpt(other, **given)
        here = place + first
        assert torch.equal(after[:, :here], before[:, :here])
        moved = (after - before).nan_to_num().abs().amax(-1)[0].gt(1e-4)  # inf - inf where ids are forbidden
        assert moved[here:].all() if isinstance(gpt.config.attention.mask, CausalConfig) else moved[here]


@pytest.mark.parametrize("name", ["ImageGPT", "LlamaGen", "features, shared key heads"])
def test_a_prefix_may_pass_before_all_ids(name):
    """With no id beside it, it gives the row of the first one, and the ids follow from the cache."""
    gpt, ids = lively(**SHAPES[name]), torch.randint(19, (2, LENGTH))
    found = in_pieces(gpt, ids, [0, LENGTH], KVCache(gpt.config, batch=2))
    torch.testing.assert_close(found, gpt(ids, **beginning(gpt, 2)), atol=2e-5, rtol=0)


@pytest.mark.parametrize("name", ["LlamaGen", "features, shared key heads"])
def test_another_prefix_changes_every_score(name):
    """What stands before the ids is seen by all of them."""
    gpt, ids = lively(**SHAPES[name]), torch.randint(19, (2, LENGTH))
    given = beginning(gpt, 2)
    other = {"prefix": given["prefix"].flip(0)}
    assert (gpt(ids, **given) - gpt(ids, **other)).abs().amax(-1).gt(1e-4).all()


def test_without_places_only_distances_matter():
    """Rotary attention sees distances: tokens counted from position 7 have the scores of those from 0."""
    gpt, ids = lively(heads=4), torch.randint(19, (1, 6))
    expected = gpt(ids)
    gpt.rope = gpt.rope.roll(-7, dims=1)
    torch.testing.assert_close(gpt(ids), expected, atol=2e-5, rtol=0)


def smallest_set(scores: torch.Tensor, sampling: Sampling) -> set[int]:
    """By the definitions: the k best, the fewest of them that reach p together, those not too unlikely."""
    order = scores.argsort(descending=True).tolist()[: sampling.top_k or len(scores)]
    shares = (scores[order].double() / sampling.temperature).softmax(-1)
    size = len(order)
    if sampling.top_p is not None:
        reaching = [count for count in range(1, size + 1) if shares[:count].sum() >= sampling.top_p]
        size = reaching[0] if reaching else size
    if sampling.min_p is not None:
        size = sum(bool(share >= sampling.min_p * shares[0]) for share in shares[:size])
    return set(order[:size])


@settings(max_examples=200, deadline=None)
@given(
    seed=st.integers(0, 10_000),
    temperature=st.floats(0.2, 4),
    top_k=st.none() | st.integers(1, 30),
    top_p=st.none() | st.floats(0.01, 0.99),
    min_p=st.none() | st.floats(0.01, 0.99),
)
def test_what_is_kept_is_exactly_the_smallest_right_set(seed, temperature, top_k, top_p, min_p):
    """The kept ids are the k best, of these the fewest that reach p, of these the likely; by row."""
    logits = 3 * torch.randn(3, 25, generator=torch.Generator().manual_seed(seed))
    sampling = Sampling(temperature=temperature, top_k=top_k, top_p=top_p, min_p=min_p)
    ids, shares = shortlist(logits, sampling)
    for row in range(3):
        kept = set(ids[row][shares[row] > 0].tolist())
        assert kept == smallest_set(logits[row], sampling)


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
