"""Attention of every place of a grid to every place.

torch's kernel, but for bfloat16 on a CPU, where its backward is slow: there, scores are written out. Measured
on one core, forward and backward: 0.56 of the time for 16 images of 256 places of one head of 128 channels,
0.25 for 32 of 64 places of 64 channels, 0.47 for 16 of 256 places of four heads of 32; forward alone, 0.60 to
0.80.

Letters: b images, n places, c channels of a head.
"""

import torch
import torch.nn.functional as F
from torch import Tensor

PLACES = 1024  # up to so many: scores are n^2 numbers a head


def attended(q: Tensor, k: Tensor, v: Tensor) -> Tensor:
    """softmax(q k' / sqrt(c)) v, each (b, heads, n, c)."""
    if q.device.type != "cpu" or q.dtype != torch.bfloat16 or q.shape[2] > PLACES:
        return F.scaled_dot_product_attention(q, k, v)
    many, scale = q.shape[:2], q.shape[-1] ** -0.5
    q, k, v = (part.flatten(0, 1) for part in (q, k, v))
    scores = torch.baddbmm(q.new_empty(1, 1, 1), q, k.mT, beta=0, alpha=scale)  # beta 0: nothing is read
    return (scores.softmax(-1) @ v).unflatten(0, many)
