"""How the next token is chosen from its scores.

Letters: b batch, v vocabulary, c ids that may come next.

Sources: Fan et al. 2018 (top-k); Holtzman et al. 2020 (top-p); Nguyen et al. 2024 (min-p).
"""

import math
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

from vqtok.gpt.guidance import Guidance


@dataclass(frozen=True, kw_only=True)
class Sampling:
    """How the next token is chosen from the scores of all.

    The defaults draw from what the model says, unchanged: every id, temperature 1, no guidance. Nothing makes
    an id less likely for having been drawn before: images repeat their codes.

    Args:
        temperature: Scores are divided by it: below 1 is safer, above 1 more varied, 0 takes the best.
        top_k: Keep the k best ids; None keeps all.
        top_p: Then keep the fewest best ids whose probabilities reach p together; None keeps all.
        min_p: Then keep the ids at least p times as probable as the best; None keeps all.
        guidance: How far scores are pushed away from those of an unconditional prompt, before all else;
            None reads no such prompt.
    """

    temperature: float = 1.0
    top_k: int | None = None
    top_p: float | None = None
    min_p: float | None = None
    guidance: Guidance | None = None

    def __post_init__(self) -> None:
        if not 0 <= self.temperature < math.inf:
            raise ValueError(f"temperature {self.temperature} is outside [0, inf): 0 is greedy, 1 is usual")
        if self.top_k is not None and (self.top_k < 1 or self.top_k != int(self.top_k)):
            raise ValueError(f"top_k {self.top_k} is no whole number from 1: give one, or None to keep all")
        for name in ("top_p", "min_p"):
            share = getattr(self, name)
            if share is not None and not 0 < share <= 1:
                raise ValueError(f"{name} {share} is outside (0, 1]: give a share, or None to keep all")


def draw(
    logits: Tensor,
    sampling: Sampling,
    generator: torch.Generator | None = None,
    allowed: Tensor | None = None,
) -> Tensor:
    """One id for each row of scores.

    Args:
        logits: (b, v).
        sampling: How it is chosen; its guidance is no matter of these scores alone, and is left out.
        generator: Where randomness comes from, one number a row; only greedy choices can do without. It may
            be on another device than the logits: a CPU generator draws the same ids everywhere.
        allowed: (v,) bool; the ids that may be drawn. None allows all.

    Returns:
        (b,) int64.

    Raises:
        ValueError: if a random draw has no generator, or `allowed` allows nothing or has another size.
    """
    check_random(sampling, generator)
    check_allowed(allowed, (logits.shape[-1],))
    darts = None
    if sampling.temperature > 0:
        darts = throw(generator, len(logits), 1, logits.device)[0]
    return choose(logits, sampling, darts, allowed)


def shortlist(logits: Tensor, sampling: Sampling) -> tuple[Tensor, Tensor]:
    """The ids that may come next and their probabilities; temperature, then top-k, then top-p, then min-p.

    Args:
        logits: (b, v); an id of score -inf has probability 0.
        sampling: Of a temperature above 0.

    Returns:
        Ids (b, c) int64, and probabilities (b, c) float64 that sum to 1 and are 0 for what top-p and min-p
        leave out.
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
    kept = None
    if sampling.top_p is not None:
        kept = F.pad(shares.cumsum(-1)[:, :-1], (1, 0)) < sampling.top_p  # what all better ids reach together
    if sampling.min_p is not None:
        likely = shares >= sampling.min_p * shares.amax(-1, keepdim=True)
        kept = likely if kept is None else kept & likely
    if kept is not None:
        shares = shares.where(kept, 0)
        shares = shares / shares.sum(-1, keepdim=True)
    return ids, shares


def choose(logits: Tensor, sampling: Sampling, darts: Tensor | None, allowed: Tensor | None) -> Tensor:
    """As `draw`, from numbers thrown before, without its checks and without waiting for a GPU.

    Args:
        logits: (b, v).
        sampling: How.
        darts: (b,) float64 in [0, 1), on the scores' device; None for greedy choices.
        allowed: (v,) bool, or None.
    """
    if allowed is not None:
        logits = logits.masked_fill(~allowed, -math.inf)
    if sampling.temperature == 0:
        return logits.argmax(-1)
    ids, shares = shortlist(logits, sampling)
    ends = shares.cumsum(-1)
    # To the right of equals: an id of probability 0 ends where the one before it does, and is never hit.
    hit = torch.searchsorted(ends, darts[:, None] * ends[:, -1:], right=True)
    return ids.gather(1, hit)[:, 0]


def throw(
    generator: torch.Generator | list[torch.Generator], rows: int, count: int, device: torch.device
) -> Tensor:
    """(count, b) float64 in [0, 1) on `device`: what `count` draws of `rows` sequences take, all at once.

    One generator gives every token's numbers before the next token's; a list has one for each sequence.
    """
    shape = {"dtype": torch.float64}
    if isinstance(generator, torch.Generator):
        darts = torch.rand(count, rows, generator=generator, device=generator.device, **shape)
    else:
        own = [torch.rand(count, generator=one, device=one.device, **shape) for one in generator]
        darts = torch.stack(own, dim=1)
    return darts.to(device)


def check_random(sampling: Sampling, generator: object | None) -> None:
    """Raises ValueError if tokens are drawn at random from nowhere."""
    if sampling.temperature > 0 and generator is None:
        raise ValueError(
            f"temperature {sampling.temperature} draws at random: "
            "give generator=torch.Generator().manual_seed(0), or temperature=0"
        )


def check_allowed(allowed: Tensor | None, shape: tuple[int, ...]) -> None:
    """Raises ValueError unless `allowed` is bool of this shape with a true in every row."""
    if allowed is None:
        return
    if allowed.dtype != torch.bool or allowed.shape != shape or not allowed.any(-1).all():
        raise ValueError(
            f"allowed is {allowed.dtype} of shape {tuple(allowed.shape)} with {int(allowed.sum())} ids: "
            f"give bool of shape {shape} with at least one true in every row"
        )
