"""Quantizers that score every code: one pass over vectors in chunks, so that n x k scores are never held.

Going back, a chunk's scores are computed once more (Chen et al. 2016, "Training Deep Nets with Sublinear
Memory Cost"), which costs one more product and saves what limits the number of codes.

Letters: b images, d width, h w grid, n = b h w vectors, r of a chunk, k codes.
"""

from collections.abc import Callable

import torch
import torch.nn.functional as F
from einops import rearrange
from torch import Tensor
from torch.utils.checkpoint import checkpoint

from vqtok.tokenizers.lookup import chunk_rows, nearest_code, whole_float32

Parts = tuple[Tensor, ...]


def by_chunks(score: Callable[[Tensor], Parts], vectors: Tensor, codes: int) -> list[Parts]:
    """What `score` gives for every chunk of vectors (n, d), in order; there is at least one chunk.

    Args:
        score: Of vectors (r, d). It may hold r x k numbers, which are forgotten until the gradient needs
            them.
        vectors: (n, d).
        codes: k.
    """
    chunks = vectors.split(chunk_rows(len(vectors), codes, vectors.is_cuda))
    if not torch.is_grad_enabled():
        return [score(chunk) for chunk in chunks]

    def again(chunk: Tensor) -> Parts:
        with whole_float32(chunk.device.type):  # also when it runs again, outside of the quantizer
            return score(chunk)

    return [checkpoint(again, chunk, use_reentrant=False) for chunk in chunks]


def best_ids(score: Callable[[Tensor], Tensor], vectors: Tensor, codes: int) -> Tensor:
    """(b, h, w) id of the highest of the scores (r, k) of vectors (b, d, h, w); the lower id wins a tie."""
    parts = by_chunks(lambda chunk: (score(chunk).argmax(1),), rows(vectors), codes)
    return _grid(torch.cat([ids for (ids,) in parts]), vectors)


def nearest_ids(vectors: Tensor, codebook: Tensor) -> Tensor:
    """(b, h, w) id of the code (k, d) that is nearest to each of vectors (b, d, h, w)."""
    return _grid(nearest_code(rows(vectors), codebook), vectors)


def rows(vectors: Tensor) -> Tensor:
    """(n, d) of (b, d, h, w)."""
    return rearrange(vectors, "b d h w -> (b h w) d")


def through_weights(weights: Tensor, codebook: Tensor, ids: Tensor) -> Tensor:
    """(r, d) the chosen codes, as if chosen by `weights`: one-hot forward, soft backward.

    The codebook's gradient is that of a gather, the weights' that of the product weights @ codebook; there is
    no one-hot.

    Args:
        weights: (r, k), such as probabilities.
        codebook: (k, d).
        ids: (r,) the code chosen for each vector.
    """
    soft = weights @ codebook.detach()
    return F.embedding(ids, codebook) + (soft - soft.detach())


def _grid(ids: Tensor, vectors: Tensor) -> Tensor:
    """(b, h, w) of the ids (n,) of vectors (b, d, h, w)."""
    height, width = vectors.shape[-2:]
    return rearrange(ids, "(b h w) -> b h w", h=height, w=width)
