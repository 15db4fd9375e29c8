"""Holes filled in, in a few passes over the whole picture, by a model that sees both sides.

Chang et al. 2022 (MaskGIT), section 3.2, for models that were trained as BERT is. What sees the past is drawn
by `vqtok.gpt.generate`.

Letters: b pictures, t tokens of a picture, v codes, n tokens still hidden.
"""

import math
from collections.abc import Sequence

import torch
from torch import Tensor

from imagegpt.network import Network
from vqtok.gpt.sampling import Sampling, choose

DOUBT = 4.5  # how much chance there is, at first, in which tokens are believed: MaskGIT's


@torch.inference_mode()
def filled(
    network: Network, ids: Tensor, hidden: Tensor, passes: int, sampling: Sampling, seeds: Sequence[int]
) -> Tensor:
    """Ids (b, t) with the hidden ones drawn, in passes that each keep what the model is surest of.

    After pass s of S, a share cos(pi s / 2 S) of the hidden tokens is hidden still. A token is as sure as its
    log-probability, and a chance that fades; greedy choices leave nothing to chance.

    Args:
        network: In evaluation mode; it sees both sides.
        ids: (b, t); what is hidden does not matter.
        hidden: (b, t) bool.
        passes: At least 1. As many as there are hidden tokens make about one token a pass.
        sampling: How a token is drawn.
        seeds: (b,) of the draws.

    Raises:
        ValueError: if there are no passes.
    """
    if passes < 1:
        raise ValueError(f"{passes} passes fill nothing: take at least 1, 8 to 16 are usual")
    ids, left, wanted, random = ids.clone(), hidden, hidden.sum(1), sampling.temperature > 0
    chance = [torch.Generator().manual_seed(seed) for seed in seeds]
    for number in range(1, passes + 1):
        scores, _ = network(ids, hidden=left)  # (n, v)
        darts, doubts = (_thrown(chance, left) if random else None for _ in range(2))  # (n,)
        found = choose(scores, sampling, darts, None)
        sure = scores.log_softmax(-1).gather(1, found[:, None])[:, 0]
        if random:
            gumbel = -(-doubts.clamp(min=1e-12).log()).log()
            sure = sure + gumbel * DOUBT * (1 - number / passes)
        ids[left] = found
        left = _least_sure(sure, left, (wanted * math.cos(math.pi / 2 * number / passes)).long())
    return ids


def _thrown(chance: Sequence[torch.Generator], left: Tensor) -> Tensor:
    """(n,) float64 in [0, 1) for the tokens that are left (b, t), each picture's from its own generator."""
    size = left.shape[1]
    rows = [torch.rand(size, generator=generator, dtype=torch.float64) for generator in chance]
    return torch.stack(rows).to(left.device)[left]


def _least_sure(sure: Tensor, left: Tensor, count: Tensor) -> Tensor:
    """(b, t) bool, what stays hidden: of each picture the `count` (b,) least sure tokens of those left.

    Args:
        sure: (n,) of the tokens left.
        left: (b, t) bool.
        count: (b,).
    """
    ranked = torch.full(left.shape, math.inf, dtype=sure.dtype, device=left.device)
    ranked[left] = sure
    return left & (ranked.argsort(1).argsort(1) < count[:, None])
