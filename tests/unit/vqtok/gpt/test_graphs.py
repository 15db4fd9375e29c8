"""Static caches give what growing ones give; captured steps give what steps give."""

from functools import partial

import pytest
import torch

from vqtok.gpt.cache import KVCache, SharedKVCache
from vqtok.gpt.config import GPTConfig
from vqtok.gpt.generation import generate, stream
from vqtok.gpt.graphs import Captured, StaticKVCache, repeated
from vqtok.gpt.guidance import CutOff
from vqtok.gpt.prompts import Prompt
from vqtok.gpt.sampling import Sampling

CONFIG = GPTConfig(vocab=23, length=14, width=32, depth=2, heads=4, kv_heads=2, period=5, shifts=(2, 5))


@pytest.fixture
def gpt(lively):
    """A tiny GPT with shared key heads, places and shifts."""
    return lively(CONFIG)


@pytest.mark.parametrize("cuts", [(1,) * 6, (2, 1, 3)])
@pytest.mark.parametrize("times", [1, 2])
def test_a_static_cache_is_the_cache(gpt, cuts, times):
    """Scores are those of whole sequences, though attention reads all the room; prompts may be shared."""
    prompts, tails = torch.randint(23, (2, 5)), torch.randint(23, (2 * times, 6))
    cache = KVCache(CONFIG, batch=2, length=14 if times == 1 else 5)
    gpt(prompts, cache=cache)
    static = StaticKVCache(cache if times == 1 else SharedKVCache(cache, times))
    found = torch.cat([gpt(piece, cache=static) for piece in tails.split(cuts, dim=1)], dim=1)
    whole = gpt(torch.cat((prompts.repeat_interleave(times, 0), tails), 1))
    torch.testing.assert_close(found, whole[:, 5:], atol=1e-5, rtol=0)


def test_a_static_cache_begins_again(gpt):
    """After a rewind the same tokens have the same scores, whatever was written in between."""
    cache = KVCache(CONFIG, batch=2)
    gpt(torch.randint(23, (2, 5)), cache=cache)
    static, ids = StaticKVCache(cache), torch.randint(23, (2, 2))
    first = gpt(ids[:, :1], cache=static)
    gpt(torch.randint(23, (2, 1)), cache=static)
    static.rewind()
    assert torch.equal(gpt(ids[:, :1], cache=static), first)
    assert cache.filled == 5


def test_on_a_cpu_a_step_is_called_as_it_is(gpt):
    """With the growing cache, which reads what is filled and no more."""
    caches = (KVCache(CONFIG, batch=2),)
    assert repeated(lambda caches, ids: (caches, ids), caches, torch.zeros(2))(3) == (caches, 3)


class Static:
    """What `Captured` does, without a graph."""

    def __init__(self, step, caches, *inputs) -> None:
        self.step, self.caches = step, caches
        self.static = [StaticKVCache(cache) for cache in caches]

    def __call__(self, *inputs):
        """One token."""
        for cache in self.caches:
            cache.advance(1)
        return self.step(self.static, *inputs)


def prompts(device: str) -> list[Prompt]:
    """Guided by prompts as long in one cache, and, with votes, by shorter ones in another."""
    ids = torch.randint(23, (4, 5), device=device)
    return [
        Prompt(ids=ids[:2], null=Prompt(ids=ids[2:])),
        Prompt(ids=ids, null=Prompt(ids=ids[::2, :3]), votes=2),
    ]


@pytest.mark.parametrize("candidates", [1, 3])
@pytest.mark.parametrize("which", [0, 1])
def test_static_caches_draw_what_growing_ones_draw(gpt, candidates, which, monkeypatch):
    """Whether one or two are gone on with, and one is left out where guidance ends."""
    sampling = Sampling(guidance=CutOff(scale=2, share=0.5))
    arguments = (gpt, prompts("cpu")[which], 9, sampling, range(2 * candidates), None, candidates)
    expected = generate(*arguments)
    monkeypatch.setattr("vqtok.gpt.generation.repeated", Static)
    assert torch.equal(generate(*arguments), expected)


@pytest.mark.gpu
@pytest.mark.parametrize("which", [0, 1])
@pytest.mark.parametrize("candidates", [1, 3])
def test_captured_steps_draw_what_steps_draw(gpt, candidates, which, monkeypatch):
    """The same ids, with guidance that is cut off, allowed and known ids, and seeds."""
    gpt.cuda()
    prompt = prompts("cuda")[which]
    allowed = torch.rand(9, 23, device="cuda") < 0.7
    allowed[:, 0] = True
    known = torch.full((2 * candidates, 9), -1, device="cuda")
    known[:, 3] = 7
    sampling = Sampling(top_k=9, guidance=CutOff(scale=2, share=0.5))
    seeds = range(2 * candidates)
    arguments = (gpt, prompt, 9, sampling, seeds, allowed, candidates, known)
    captured = generate(*arguments)
    monkeypatch.setattr("vqtok.gpt.generation.repeated", lambda step, caches, *_: partial(step, caches))
    assert torch.equal(generate(*arguments), captured)


@pytest.mark.gpu
def test_tokens_wait_for_nothing(gpt):
    """From the third on, when the step is captured, no token makes the CPU wait for the GPU."""
    ids, allowed = torch.zeros(2, 5, dtype=torch.int64, device="cuda"), torch.arange(23) < 20
    sampling = Sampling(top_k=9, top_p=0.9, min_p=0.01)
    tokens = stream(gpt.cuda(), ids, 9, sampling, [1, 2], allowed)
    for _ in range(2):
        next(tokens)
    torch.cuda.set_sync_debug_mode("error")
    try:
        assert len([*tokens]) == 7
    finally:
        torch.cuda.set_sync_debug_mode("default")


@pytest.mark.gpu
def test_captured_steps_count(gpt):
    """The cache that they fill knows how many tokens it holds, though no Python runs in a captured step."""
    cache = KVCache(CONFIG, batch=2)
    gpt.cuda()(torch.zeros(2, 5, dtype=torch.int64, device="cuda"), cache=cache)
    ids = torch.zeros(2, dtype=torch.int64, device="cuda")
    with torch.inference_mode():
        step = Captured(lambda caches, ids: gpt(ids[:, None], caches[0])[:, 0].argmax(-1), [cache], ids)
        for _ in range(5):
            ids = step(ids)
    assert cache.filled == 10
