"""Drawing tokens: how the next one is chosen, and the loop that draws many.

Letters: b batch, t prompt tokens, v vocabulary, c ids that may come next.

Sources: Fan et al. 2018 (top-k); Holtzman et al. 2020 (top-p).
"""

import math
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from vqtok.gpt.cache import KVCache
from vqtok.gpt.model import GPT, check_ids


@dataclass(frozen=True, kw_only=True)
class Sampling:
    """How the next token is chosen from the scores of all.

    Args:
        temperature: Scores are divided by it: below 1 is safer, above 1 more varied, 0 takes the best.
        top_k: Keep the k best ids; None keeps all.
        top_p: Then keep the fewest best ids whose probabilities reach p together; None keeps all.
    """

    temperature: float = 1.0
    top_k: int | None = None
    top_p: float | None = None

    def __post_init__(self) -> None:
        if not 0 <= self.temperature < math.inf:
            raise ValueError(f"temperature {self.temperature} is outside [0, inf): 0 is greedy, 1 is usual")
        if self.top_k is not None and (self.top_k < 1 or self.top_k != int(self.top_k)):
            raise ValueError(f"top_k {self.top_k} is no whole number from 1: give one, or None to keep all")
        if self.top_p is not None and not 0 < self.top_p <= 1:
            raise ValueError(f"top_p {self.top_p} is outside (0, 1]: give a share, or None to keep all")


def generate(
    gpt: GPT,
    ids: Tensor,
    count: int,
    sampling: Sampling,
    generator: torch.Generator | None = None,
    allowed: Tensor | None = None,
    candidates: int = 1,
) -> Tensor:
    """The `count` tokens that follow each prompt; the prompt is read once, then each token costs one step.

    Args:
        gpt: Its dropout is off meanwhile, in whatever mode it is.
        ids: (b, t) prompts in [0, v), t at least 1.
        count: New tokens; t + count - 1 must not exceed the model's length, since the last one is not read.
        sampling: How each token is chosen.
        generator: Where randomness comes from, on any device; only greedy choices can do without.
        allowed: (v,) bool; the ids that may be drawn. None allows all.
        candidates: Continuations of each prompt; the prompt is read once for all of them.

    Returns:
        (b * candidates, count) int64; those of one prompt stand one after the other.

    Raises:
        ValueError: if an id is outside the vocabulary, tokens do not fit, or nothing is allowed.
    """
    check_ids(ids, gpt.config.vocab)
    _check_counts(gpt, ids.shape[1], count, candidates)
    _check_source(sampling, generator, allowed, gpt.config.vocab)
    drawn = torch.empty(len(ids) * candidates, count, dtype=torch.int64, device=ids.device)
    cache = KVCache(gpt.config, len(ids), length=ids.shape[1] + count - 1)
    with torch.inference_mode(), _evaluating(gpt):
        last = gpt.features(ids, cache)[:, -1]
        last, cache = last.repeat_interleave(candidates, dim=0), cache.repeat(candidates)
        for place in range(count):
            if place:
                last = gpt.features(drawn[:, place - 1 : place], cache)[:, 0]
            drawn[:, place] = _choose(gpt.head(last), sampling, generator, allowed)
    return drawn


def draw(
    logits: Tensor,
    sampling: Sampling,
    generator: torch.Generator | None = None,
    allowed: Tensor | None = None,
) -> Tensor:
    """One id for each row of scores.

    Args:
        logits: (b, v).
        sampling: How it is chosen.
        generator: Where randomness comes from, one number a row; only greedy choices can do without. It may
            be on another device than the logits: a CPU generator draws the same ids everywhere.
        allowed: (v,) bool; the ids that may be drawn. None allows all.

    Returns:
        (b,) int64.

    Raises:
        ValueError: if a random draw has no generator, or `allowed` allows nothing or has another size.
    """
    _check_source(sampling, generator, allowed, logits.shape[-1])
    return _choose(logits, sampling, generator, allowed)


def shortlist(logits: Tensor, sampling: Sampling) -> tuple[Tensor, Tensor]:
    """The ids that may come next and their probabilities; temperature acts first, then top-k, then top-p.

    Args:
        logits: (b, v); an id of score -inf has probability 0.
        sampling: Of a temperature above 0.

    Returns:
        Ids (b, c) int64, and probabilities (b, c) float64 that sum to 1 and are 0 for what top-p leaves out.
    """
    vocab = logits.shape[-1]
    if sampling.top_k is None and sampling.top_p is None:
        ids = torch.arange(vocab, device=logits.device).expand(logits.shape)
        scores = logits.float()
    else:
        scores, ids = logits.float().topk(min(sampling.top_k or vocab, vocab), dim=-1)
    # At most 0 and in float64 before the division: no temperature overflows, and sums round far below scores.
    scores = (scores - scores.amax(-1, keepdim=True)).double()
    shares = (scores / sampling.temperature).softmax(-1)
    if sampling.top_p is not None:
        reached = F.pad(shares.cumsum(-1)[:, :-1], (1, 0))  # by all better ids together
        shares = shares.where(reached < sampling.top_p, 0)
        shares = shares / shares.sum(-1, keepdim=True)
    return ids, shares


def _choose(
    logits: Tensor, sampling: Sampling, generator: torch.Generator | None, allowed: Tensor | None
) -> Tensor:
    """As `draw`, without its checks."""
    if allowed is not None:
        logits = logits.masked_fill(~allowed, -math.inf)
    if sampling.temperature == 0:
        return logits.argmax(-1)
    ids, shares = shortlist(logits, sampling)
    ends = shares.cumsum(-1)
    dart = torch.rand(len(ends), 1, generator=generator, dtype=torch.float64, device=generator.device)
    # To the right of equals: an id of probability 0 ends where the one before it does, and is never hit.
    hit = torch.searchsorted(ends, dart.to(ends.device) * ends[:, -1:], right=True)
    return ids.gather(1, hit)[:, 0]


def _check_counts(gpt: GPT, prompt: int, count: int, candidates: int) -> None:
    if count < 1 or candidates < 1:
        raise ValueError(
            f"{count} tokens of {candidates} candidates are nothing to draw: ask for at least 1 of each"
        )
    if prompt + count - 1 > gpt.config.length:
        raise ValueError(
            f"{prompt} prompt tokens and {count} new ones do not fit a model of length {gpt.config.length}: "
            f"shorten the prompt, draw fewer, or build it with length={prompt + count - 1}"
        )


def _check_source(
    sampling: Sampling, generator: torch.Generator | None, allowed: Tensor | None, vocab: int
) -> None:
    if sampling.temperature > 0 and generator is None:
        raise ValueError(
            f"temperature {sampling.temperature} draws at random: "
            "give generator=torch.Generator().manual_seed(0), or temperature=0"
        )
    if allowed is None:
        return
    if allowed.dtype != torch.bool or allowed.shape != (vocab,) or not allowed.any():
        raise ValueError(
            f"allowed is {allowed.dtype} of shape {tuple(allowed.shape)} with {int(allowed.sum())} ids: "
            f"give bool of shape ({vocab},) with at least one true"
        )


@contextmanager
def _evaluating(gpt: nn.Module) -> Iterator[None]:
    """Dropout off within, and every module's mode as it was afterwards."""
    modes = [(module, module.training) for module in gpt.modules()]
    gpt.eval()
    try:
        yield
    finally:
        for module, mode in modes:
            module.training = mode
