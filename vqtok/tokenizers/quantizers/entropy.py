"""Entropies that make a quantizer sure of each vector and even over its codes, in nats.

Yu et al. 2023 (MAGVIT-v2), section 3.1: minimize E[H(q)] - diversity H(E[q]), with q(code | vector) a
softmax; Zhao et al. 2024 (BSQ): bits are independent given their vector, so H(q) is a sum over bits, and
H(E[q]) is taken group by group. One observation more: in a group of g bits q is a product of two independent
halves A and B, so E[q] is the matrix A'B / n. It is exact, and n 2^(g/2) numbers are held where others hold n
2^g.

Letters: n vectors, d bits, g bits of a group, k codes.
"""

import torch
import torch.nn.functional as F
from torch import Tensor

from vqtok.tokenizers.quantizers.ranks import mean_over_ranks

RAREST = 1e-12  # of smaller probabilities the logarithm is not taken


def entropy(probabilities: Tensor) -> Tensor:
    """() -sum p log p over all of a tensor; its gradient is finite at 0."""
    return -(probabilities * probabilities.clamp_min(RAREST).log()).sum()


def bit_entropies(logits: Tensor, group: int, together: bool = False) -> tuple[Tensor, Tensor]:
    """E[H(q)] and H(E[q]) of independent bits, the second as a sum over groups of bits.

    Args:
        logits: (n, d) log-odds that a bit is 1.
        group: Bits whose joint distribution is measured; the last group may have fewer.
        together: Take E over the vectors of all ranks, each of which must come here.
    """
    sure = (F.softplus(logits) - logits * torch.sigmoid(logits)).sum(1).mean()
    means = [_mean_joint(part) for part in logits.split(group, dim=1)]
    if together:
        means = [mean_over_ranks(mean) for mean in means]
    return sure, torch.stack([entropy(mean) for mean in means]).sum()


def _mean_joint(logits: Tensor) -> Tensor:
    """(2^a, 2^b) mean over vectors of the joint distribution of a + b bits (n, a + b)."""
    first, second = logits.split([logits.shape[1] // 2, -(-logits.shape[1] // 2)], dim=1)
    return _joint(first).T @ _joint(second) / len(logits)


def _joint(logits: Tensor) -> Tensor:
    """(n, 2^g) joint distribution of independent bits (n, g)."""
    joint = logits.new_ones(len(logits), 1)
    for bit in logits.unbind(1):
        joint = torch.cat([joint * torch.sigmoid(-bit)[:, None], joint * torch.sigmoid(bit)[:, None]], dim=1)
    return joint
