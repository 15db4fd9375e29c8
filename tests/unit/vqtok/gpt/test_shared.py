"""Attention to a shared prompt is attention to the prompt written out, and stores it once."""

import pytest
import torch

from vqtok.gpt.cache import KVCache, Shared, SharedKVCache
from vqtok.gpt.config import GPTConfig
from vqtok.gpt.layers import causal_attention
from vqtok.gpt.shared import shared_attention

CONFIG = GPTConfig(vocab=11, length=12, width=32, depth=2, heads=4, kv_heads=2)


@pytest.fixture
def gpt(lively):
    """A tiny GPT with key heads shared by two."""
    return lively(CONFIG)


def shared_pair(prompts: int, times: int, key_heads: int, own: int) -> tuple[Shared, Shared]:
    """Random keys and values of prompts of five tokens and of their continuations."""
    prompt = torch.randn(2, prompts, key_heads, 5, 6)
    after = torch.randn(2, prompts * times, key_heads, own, 6)
    keys, values = (Shared(*parts) for parts in zip(prompt, after, strict=True))
    return keys, values


def written_out(shared: Shared) -> torch.Tensor:
    """The prompt before each of its continuations."""
    times = len(shared.own) // len(shared.prompt)
    return torch.cat((shared.prompt.repeat_interleave(times, 0), shared.own), dim=2)


@pytest.mark.parametrize("new", [1, 2, 3])
@pytest.mark.parametrize("key_heads", [1, 2, 4])
@pytest.mark.parametrize(("prompts", "times"), [(1, 3), (2, 2), (3, 1)])
def test_it_is_attention_to_the_prompt_written_out(new, key_heads, prompts, times):
    """For one new token and several, whatever heads and sequences share."""
    keys, values = shared_pair(prompts, times, key_heads, own=3)
    queries = torch.randn(prompts * times, 4, new, 6)
    expected = causal_attention(queries, written_out(keys), written_out(values))
    # Sums in another order, in float32.
    torch.testing.assert_close(shared_attention(queries, keys, values), expected, atol=1e-5, rtol=0)


def test_a_mask_reaches_over_both_parts():
    """What it hides of prompt and own tokens has no weight."""
    keys, values = shared_pair(2, 2, 2, own=3)
    queries, mask = torch.randn(4, 4, 3, 6), torch.rand(3, 8) < 0.6
    mask[:, 0] = True
    expected = torch.nn.functional.scaled_dot_product_attention(
        queries, written_out(keys), written_out(values), mask, enable_gqa=True
    )
    torch.testing.assert_close(shared_attention(queries, keys, values, mask), expected, atol=1e-5, rtol=0)


@pytest.mark.parametrize("cuts", [(4,), (1, 1, 1, 1), (1, 2, 1)])
def test_continuations_of_shared_prompts(gpt, cuts):
    """A model scores what follows as it scores whole sequences, at every place and however it is cut."""
    prompts, tails = torch.randint(11, (2, 5)), torch.randint(11, (6, 4))
    cache = KVCache(CONFIG, batch=2, length=5)
    gpt(prompts, cache=cache)
    shared = SharedKVCache(cache, times=3)
    found = torch.cat([gpt(piece, cache=shared) for piece in tails.split(cuts, dim=1)], dim=1)
    whole = gpt(torch.cat((prompts.repeat_interleave(3, 0), tails), 1))
    torch.testing.assert_close(found, whole[:, 5:], atol=1e-5, rtol=0)
    assert (shared.filled, cache.filled) == (9, 5)


def test_a_prompt_is_stored_once(gpt):
    """Continuations have room for what they add alone, and read the prompt where it lies."""
    cache = KVCache(CONFIG, batch=2, length=5)
    gpt(torch.randint(11, (2, 5)), cache=cache)
    shared = SharedKVCache(cache, times=3, length=9)
    gpt(torch.randint(11, (6, 1)), cache=shared)
    keys, _ = shared.write(0, *torch.randn(2, 6, 2, 1, 8))
    assert keys.prompt.data_ptr() == cache.layers[0][0].data_ptr()
    assert shared.own.layers[0][0].shape == (6, 2, 4, 8) and keys.own.shape[2] == 2


def test_rewind_and_first(gpt):
    """Other tokens follow a rewound cache as if nothing else had; its first prompts go on alone."""
    prompts, tails = torch.randint(11, (2, 5)), torch.randint(11, (4, 4))
    cache = KVCache(CONFIG, batch=2, length=5)
    gpt(prompts, cache=cache)
    shared = SharedKVCache(cache, times=2)
    gpt(torch.cat((tails[:, :1], torch.randint(11, (4, 2))), 1), cache=shared)
    shared.rewind(6)
    whole = gpt(torch.cat((prompts.repeat_interleave(2, 0), tails), 1))[:, 5:]
    torch.testing.assert_close(gpt(tails[:2, 1:], cache=shared.first(2)), whole[:2, 1:], atol=1e-5, rtol=0)
    with pytest.raises(ValueError, match="cannot keep -1 of 1 tokens"):
        shared.rewind(4)


def test_what_does_not_fit_is_refused(gpt):
    """No room after the prompt, nobody to continue it, another batch, a token too many."""
    cache = KVCache(CONFIG, batch=1, length=12)
    gpt(torch.randint(11, (1, 5)), cache=cache)
    for times, length, message in ((2, 5, "a cache of 0 tokens"), (0, 9, "a cache for 0 sequences")):
        with pytest.raises(ValueError, match=message):
            SharedKVCache(cache, times, length)
    shared = SharedKVCache(cache, times=2, length=7)
    with pytest.raises(ValueError, match="3 sequences meet a cache of 2"):
        gpt(torch.randint(11, (3, 1)), cache=shared)
    with pytest.raises(ValueError, match="8 tokens do not fit a cache of 7"):
        gpt(torch.randint(11, (2, 3)), cache=shared)
