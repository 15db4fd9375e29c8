"""k-means, as a start for codebooks: codes where the encoder's first outputs are.

Lloyd 1982; as the start of a codebook Zeghidour et al. 2021 (SoundStream).

Letters: n vectors, d width, k centers.
"""

import torch
import torch.nn.functional as F
from torch import Tensor

from vqtok.tokenizers.lookup import nearest_code
from vqtok.tokenizers.quantizers.ranks import draw_rows, sum_over_ranks


@torch.no_grad()
def kmeans(vectors: Tensor, centers: int, rounds: int, normalize: bool = False) -> Tensor:
    """(k, d) means of the vectors that are nearest to them, the same on every rank.

    Args:
        vectors: (n, d) float32 of this rank; counts and sums are those of all ranks.
        centers: How many; they start as vectors that rank 0 draws.
        rounds: Assignments, each followed by a move to the means. A center that nobody chooses stays.
        normalize: Bring means to length one, for vectors of length one.
    """
    means = draw_rows(vectors, centers)
    for _ in range(rounds):
        ids = nearest_code(vectors, means)
        counts = sum_over_ranks(torch.bincount(ids, minlength=centers).float())[:, None]
        sums = sum_over_ranks(torch.zeros_like(means).index_add_(0, ids, vectors))
        moved = F.normalize(sums, dim=1) if normalize else sums / counts.clamp_min(1)
        means = torch.where(counts > 0, moved, means)
    return means
