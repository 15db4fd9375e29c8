"""Gumbel-softmax: a linear classifier scores the codes, and training draws from its softmax.

Jang et al. 2017 and Maddison et al. 2017 (Gumbel-softmax); Ramesh et al. 2021 (DALL-E's dVAE), section 2.1
and appendix A.2 for the schedules of tau and of the KL weight; tensors are named as in taming's
`GumbelQuantize`.

Letters: b images, d width, h w grid, n = b h w vectors, r of a chunk, k codes.
"""

import math
from dataclasses import dataclass
from typing import Literal

import torch
import torch.nn.functional as F
from einops import rearrange
from torch import Tensor, nn

from vqtok.tokenizers.quantizers.quantizer import Codebook, Quantized, Quantizer
from vqtok.tokenizers.quantizers.scores import best_ids, by_chunks, rows, through_weights


@dataclass(frozen=True, kw_only=True)
class GumbelConfig(Codebook):
    """A codebook that a classifier chooses from.

    Args:
        kind: Names this quantizer in recipes.
        tau: Temperature of the relaxation; `GumbelQuantizer.tau` starts here.
        kl: Weight of the divergence from even use, a mean over vectors; `GumbelQuantizer.kl` starts here. The
            dVAE's 6.6 is 6.6 / 192 beside a mean over pixels and channels, as it has 192 of them a vector.
        hard: Give the decoder one code, with the gradient of the mixture, as taming does. The dVAE gives it
            the mixture.
    """

    kind: Literal["gumbel"] = "gumbel"
    tau: float = 1.0
    kl: float = 5e-4
    hard: bool = False

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.tau <= 0:
            raise ValueError(f"tau {self.tau} must be above 0: the dVAE goes from 1 to 1/16")


class GumbelQuantizer(Quantizer):
    """Training adds Gumbel noise to the scores and mixes codes by their softmax; else the best code wins.

    `tau` and `kl` are plain numbers that a trainer sets before each step, as functions of the step; they are
    no part of the state. The noise is drawn from torch's global generator, as dropout's is.
    """

    def __init__(self, config: GumbelConfig) -> None:
        super().__init__(config)
        self.proj = nn.Conv2d(config.width, config.codes, 1)
        self.embed = nn.Embedding(config.codes, config.width)
        self.tau, self.kl = config.tau, config.kl

    def _quantize(self, vectors: Tensor) -> Quantized:
        """The loss is kl times the mean over vectors of KL(q || even use), in nats."""
        (b, _, h, w), k = vectors.shape, self.config.codes
        mixed, ids, divergence = zip(*by_chunks(self._draw, rows(vectors), k), strict=True)
        divergence = torch.stack(divergence).sum() / (b * h * w)
        vectors = rearrange(torch.cat(mixed), "(b h w) d -> b d h w", b=b, h=h)
        ids = rearrange(torch.cat(ids), "(b h w) -> b h w", b=b, h=h)
        return Quantized(vectors, ids, self.kl * divergence, {"kl": divergence.detach()})

    def _draw(self, vectors: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Codes (r, d) or mixtures of them, ids (r,) of the best ones, and the sum () of KL divergences."""
        scores = self._scores(vectors)
        divergence = from_even(scores).sum()
        if self.training:
            scores = noisy(scores)
        ids, weights = scores.argmax(1), F.softmax(scores / self.tau, dim=1)
        codebook = self.embed.weight.float()
        if self.config.hard or not self.training:
            return through_weights(weights, codebook, ids), ids, divergence
        return weights @ codebook, ids, divergence

    def _scores(self, vectors: Tensor) -> Tensor:
        """(r, k) of vectors (r, d)."""
        weight = rearrange(self.proj.weight, "k d 1 1 -> k d")
        return F.linear(vectors, weight.float(), self.proj.bias.float())

    def _encode(self, vectors: Tensor) -> Tensor:
        return best_ids(self._scores, vectors, self.config.codes)

    def _decode(self, ids: Tensor) -> Tensor:
        return rearrange(F.embedding(ids, self.embed.weight.float()), "b h w d -> b d h w")


class GumbelScores(Quantizer):
    """Gumbel-softmax where the networks around it bring classifier and codebook, as OpenAI's dVAE does.

    Its vectors are scores (b, k, h, w) of the codes on the way in, and weights of the codes on the way out:
    in training the softmax of noisy scores, else one-hot. `tau` and `kl` are as `GumbelQuantizer`'s. There is
    nothing to learn and no state.
    """

    def __init__(self, codes: int) -> None:
        super().__init__(GumbelConfig(codes=codes, width=codes))
        self.tau, self.kl = self.config.tau, self.config.kl

    def _quantize(self, vectors: Tensor) -> Quantized:
        """The loss is kl times the mean over places of KL(q || even use), in nats."""
        divergence = from_even(vectors).mean()
        if self.training:
            vectors = noisy(vectors)
        ids = vectors.argmax(1)
        weights = F.softmax(vectors / self.tau, dim=1) if self.training else self._decode(ids)
        return Quantized(weights, ids, self.kl * divergence, {"kl": divergence.detach()})

    def _encode(self, vectors: Tensor) -> Tensor:
        return vectors.argmax(1)

    def _decode(self, ids: Tensor) -> Tensor:
        return rearrange(F.one_hot(ids, self.config.codes), "b h w k -> b k h w").float()


def from_even(scores: Tensor) -> Tensor:
    """KL(q || even use) in nats, of q = softmax of scores (b, k, ...): (b, ...)."""
    log_q = F.log_softmax(scores, dim=1)
    return (log_q.exp() * (log_q + math.log(scores.shape[1]))).sum(1)


def noisy(scores: Tensor) -> Tensor:
    """Scores plus Gumbel noise: the best of them is a draw from their softmax."""
    return scores - torch.empty_like(scores).exponential_().log()
