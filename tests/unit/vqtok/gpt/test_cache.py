"""KVCache: what it holds, what it refuses, and that it stays out of the model."""

import pytest
import torch

from vqtok.gpt.cache import KVCache
from vqtok.gpt.config import GPTConfig

CONFIG = GPTConfig(vocab=11, length=12, width=32, depth=2, heads=4, kv_heads=2)


@pytest.fixture
def gpt(lively):
    """A tiny GPT with key heads shared by two."""
    return lively(CONFIG)


def test_nothing_of_the_cache_is_in_the_model(gpt):
    """Filling a cache changes neither names nor values of the state dict, and plants no attribute."""
    before, attributes = {k: v.clone() for k, v in gpt.state_dict().items()}, set(vars(gpt))
    gpt(torch.randint(11, (2, 5)), cache=KVCache(CONFIG, batch=2))
    after = gpt.state_dict()
    assert list(after) == list(before) and set(vars(gpt)) == attributes
    assert all(torch.equal(after[name], before[name]) for name in before)
    assert not list(gpt.buffers())


def test_overflow_is_refused_and_leaves_the_cache_as_it_was(gpt):
    """A token too many raises with the way out; the cache still continues correctly."""
    ids, cache = torch.randint(11, (2, 6)), KVCache(CONFIG, batch=2, length=6)
    gpt(ids[:, :5], cache=cache)
    with pytest.raises(
        ValueError, match="7 tokens do not fit a cache of 6: .* build the cache with length=7"
    ):
        gpt(ids[:, :2], cache=cache)
    last = gpt(ids[:, 5:], cache=cache)[:, 0]
    torch.testing.assert_close(last, gpt(ids)[:, -1], atol=1e-5, rtol=0)
    full = KVCache(CONFIG, batch=2)
    gpt(torch.randint(11, (2, 12)), cache=full)
    with pytest.raises(
        ValueError, match="13 tokens do not fit a cache of 12: .* build the model with length=13"
    ):
        gpt(ids[:, :1], cache=full)


def test_a_failed_pass_leaves_no_trace(gpt):
    """When a block fails, the tokens that earlier blocks wrote are not counted."""
    ids, cache = torch.randint(11, (1, 6)), KVCache(CONFIG, batch=1)
    gpt(ids[:, :3], cache=cache)
    hook = gpt.blocks[1].register_forward_pre_hook(lambda *_: 1 / 0)
    with pytest.raises(ZeroDivisionError):
        gpt(ids[:, :2], cache=cache)
    hook.remove()
    torch.testing.assert_close(gpt(ids[:, 3:], cache=cache), gpt(ids)[:, 3:], atol=1e-5, rtol=0)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"batch": 0}, "a cache for 0 sequences"),
        ({"batch": 1, "length": 13}, r"a cache of 13 tokens is outside \[1, 12\]"),
        ({"batch": 1, "length": 0}, r"a cache of 0 tokens is outside \[1, 12\]"),
    ],
)
def test_impossible_caches_are_refused(arguments, message):
    """A cache for nobody, or longer than the model, raises when it is made."""
    with pytest.raises(ValueError, match=message):
        KVCache(CONFIG, **arguments)


def test_another_batch_is_refused(gpt):
    """Ids of three sequences do not enter a cache of two."""
    with pytest.raises(ValueError, match="3 sequences meet a cache of 2: build it with batch=3"):
        gpt(torch.randint(11, (3, 4)), cache=KVCache(CONFIG, batch=2))


def test_rewind_forgets_the_tail(gpt):
    """After rewind(4), other tokens follow the first four as if nothing else had."""
    ids, cache = torch.randint(11, (2, 9)), KVCache(CONFIG, batch=2)
    gpt(torch.cat((ids[:, :4], torch.randint(11, (2, 3))), 1), cache=cache)
    cache.rewind(4)
    torch.testing.assert_close(gpt(ids[:, 4:], cache=cache), gpt(ids)[:, 4:], atol=1e-5, rtol=0)
    with pytest.raises(ValueError, match="cannot keep 10 of 9 tokens"):
        cache.rewind(10)


def test_the_first_sequences_go_on_alone(gpt):
    """first(2) is a cache of two of three sequences, in the same store."""
    ids, cache = torch.randint(11, (3, 9)), KVCache(CONFIG, batch=3)
    gpt(ids[:, :5], cache=cache)
    first = cache.first(2)
    torch.testing.assert_close(gpt(ids[:2, 5:], cache=first), gpt(ids)[:2, 5:], atol=1e-5, rtol=0)
    assert first.layers[0][0].data_ptr() == cache.layers[0][0].data_ptr() and cache.filled == 5


def test_no_gradient_passes_and_a_cache_outlives_inference_mode(gpt):
    """A cache filled with gradients on holds no graph, and one begun under inference_mode goes on outside."""
    ids, cache = torch.randint(11, (1, 6)), KVCache(CONFIG, batch=1)
    with torch.inference_mode():
        gpt(ids[:, :3], cache=cache)
    later = gpt(ids[:, 3:], cache=cache)
    keys, values = cache.write(0, *torch.randn(2, 1, 2, 1, 8, requires_grad=True))
    assert not keys.requires_grad and not values.requires_grad
    torch.testing.assert_close(later, gpt(ids)[:, 3:], atol=1e-5, rtol=0)


@pytest.mark.parametrize("dtype", [None, torch.bfloat16])
def test_bfloat16_weights_decode(gpt, dtype):
    """Cached bfloat16 scores are uncached ones to bfloat16's rounding, whatever the cache's type."""
    gpt.bfloat16()
    ids, cache = torch.randint(11, (2, 9)), KVCache(CONFIG, batch=2, dtype=dtype)
    pieces = [gpt(piece, cache=cache) for piece in ids.split([3, 1, 4, 1], dim=1)]
    assert {piece.dtype for piece in pieces} == {torch.float32}
    whole = gpt(ids)
    torch.testing.assert_close(torch.cat(pieces, 1), whole, atol=0.03 * whole.std().item(), rtol=0)
