"""Greedy drawing in fewer passes: tokens are guessed ahead, and checked several at a time.

A pass reads the last sure token and guesses behind it. Its best ids are what greedy drawing takes, up to the
first guess that was not the best id after all before it; the rest are the next pass's guesses. So every pass
makes at least one token sure, and more where an image goes on as guessed: in plain areas, say.

It pays for one sequence at a time, where a pass of a few tokens costs little more than that of one.

Letters: t tokens, v vocabulary, w tokens of a pass.

Sources: Song et al. 2021 (Jacobi iteration of feedforward computation); Santilli et al. 2023 (transformers);
Teng et al. 2024 (images, drawn at random, which is not offered here).
"""

import math

import torch
from torch import Tensor

from vqtok.gpt.cache import KVCache
from vqtok.gpt.generation import drawing
from vqtok.gpt.model import GPT
from vqtok.gpt.prompts import Prompt, check_prompt
from vqtok.gpt.sampling import check_allowed


def generate_greedily(
    gpt: GPT, prompt: Prompt | Tensor, count: int, allowed: Tensor | None = None, window: int = 16
) -> Tensor:
    """What `generate` draws at temperature 0, prompt by prompt.

    Scores of several tokens at once differ in their last bits from those of one, so an id may be another
    where two are the best but for rounding.

    Args:
        gpt: Its dropout is off meanwhile, in whatever mode it is.
        prompt: What comes before; ids (p, t) alone will do.
        count: New tokens.
        allowed: (v,) bool; the ids that may be drawn. None allows all.
        window: Most tokens of a pass.

    Returns:
        (p, count) int64.

    Raises:
        ValueError: if an id is outside the vocabulary, tokens do not fit, nothing is allowed, window is below
            1, or prompts vote.
    """
    prompt = prompt if isinstance(prompt, Prompt) else Prompt(ids=prompt)
    check_prompt(gpt, prompt, count)
    check_allowed(allowed, (gpt.config.vocab,))
    if prompt.votes > 1:
        raise ValueError(f"{prompt.votes} votes a token are not taken here: draw with vqtok.gpt.generate")
    if window < 1:
        raise ValueError(f"a window of {window} tokens is none: 1 is plain greedy drawing, 16 is usual")
    forbidden = torch.zeros(gpt.config.vocab, dtype=torch.bool) if allowed is None else ~allowed
    prefixes = [None] * len(prompt.ids) if prompt.prefix is None else prompt.prefix.split(1)
    starts = zip(prompt.ids.split(1), prefixes, strict=True)
    with drawing(gpt, count) as gpt, torch.inference_mode():
        drawn = [_follow(gpt, *start, count, forbidden.to(prompt.ids.device), window) for start in starts]
    return torch.stack(drawn)


def _follow(
    gpt: GPT, ids: Tensor, prefix: Tensor | None, count: int, forbidden: Tensor, window: int
) -> Tensor:
    """The (count,) ids that follow ids (1, t)."""

    def best(ids: Tensor, prefix: Tensor | None = None, last: int = window) -> Tensor:
        """The best ids to follow the last ones of (1, w)."""
        x, places = gpt.stream(ids, cache, prefix)
        scores = gpt.score(x[:, -last:], places[-last:])[0]
        return scores.masked_fill(forbidden, -math.inf).argmax(-1)

    cache = KVCache(gpt.config, 1, length=gpt.config.prefix_places + ids.shape[1] + count - 1)
    sure = best(ids, prefix, last=1)
    guesses = sure[:0]
    while len(sure) < count:
        start, width = cache.filled, min(window, count - len(sure))
        seen = torch.cat((sure[-1:], guesses))[:width]
        seen = torch.cat((seen, seen[-1:].expand(width - len(seen))))  # behind the guesses nothing changes
        found = best(seen[None])
        agreed = 1 + int((found[:-1] == seen[1:]).cumprod(0).sum())
        sure, guesses = torch.cat((sure, found[:agreed])), found[agreed:]
        cache.rewind(start + agreed)
    return sure
