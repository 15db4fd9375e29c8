"""The nearest code, exact in float32 whatever the autocast, without a matrix of all distances.

argmin |z - e|^2 = argmax z.e - |e|^2 / 2: dropping |z|^2, which is the same for every code, is both cheaper and better
conditioned (van den Oord et al. 2017, equation 1, is the definition). Rows go in chunks small enough for the cache.

Letters: n vectors, k codes, d their width.
"""

import torch
from torch import Tensor

SCORES_CPU = 2**22  # scores held at once: 16 MiB of float32 stay near the cache
SCORES_GPU = 2**26
ROWS = 512  # more rows than this at once gain nothing on a CPU


@torch.no_grad()
def nearest_code(vectors: Tensor, codebook: Tensor) -> Tensor:
    """Index of the closest code by Euclidean distance, (n,) int64; the lower index wins an exact tie.

    For unit vectors this is also the code of highest cosine similarity.

    Args:
        vectors: (n, d), any floating dtype; compared in float32.
        codebook: (k, d).

    Raises:
        ValueError: if the widths differ or the codebook is empty.
    """
    if vectors.ndim != 2 or codebook.ndim != 2 or vectors.shape[1] != codebook.shape[1] or not len(codebook):
        raise ValueError(
            f"vectors {tuple(vectors.shape)} and codebook {tuple(codebook.shape)} must be (n, d) and (k, d) with k > 0"
        )
    with torch.autocast(vectors.device.type, enabled=False):
        vectors, codebook = vectors.float(), codebook.float()
        minus_half_squares = codebook.square().sum(1).mul_(-0.5)
        transposed = codebook.t().contiguous()
        rows = min(ROWS, max(1, SCORES_CPU // len(codebook)))
        if vectors.is_cuda:
            rows = max(1, SCORES_GPU // len(codebook))
        ids = torch.empty(len(vectors), dtype=torch.int64, device=vectors.device)
        for start in range(0, len(vectors), rows):
            chunk = vectors[start : start + rows]
            ids[start : start + rows] = torch.addmm(minus_half_squares, chunk, transposed).argmax(1)
    return ids
