"""The nearest code, exact in float32 whatever the autocast, without a matrix of all distances.

argmin |z - e|^2 = argmax z.e - |e|^2 / 2: dropping |z|^2, which is the same for every code, is both cheaper
and better conditioned (van den Oord et al. 2017, equation 1, is the definition).

On a GPU one kernel does it all (`fused_lookup.py`). Elsewhere rows go in chunks that stay in the cache, and
the best code is sought in two stages, because the maximum of a short block is vectorized where argmax over a
whole row is not: 1.5 to 2.5 times faster on a CPU than argmax alone.

Accuracy, on every device: a score is d products and a bias summed in float32, so to first order it is off by
at most (d + 1) 2^-24 (|z| |e| + |e|^2), whatever the order of the sum. A code that is chosen though another
is nearer is one of a near-tie: half its squared distance is too large by at most twice that.

Letters: n vectors, k codes, d their width; r rows of a chunk, s blocks of l codes each.
"""

import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache

import torch
import torch.nn.functional as F
from einops import rearrange
from torch import Tensor

try:  # torch brings Triton on Linux only
    from vqtok.tokenizers.fused_lookup import best_codes
except ImportError:
    best_codes = None

BLOCK = 64  # codes whose maximum is taken first
SCORES_CPU = 2**20  # scores held at once: 4 MiB of float32 stay in the cache
SCORES_GPU = 2**26
ROWS = 512  # more rows than this at once gain nothing on a CPU
CAPABILITY = (7, 0)  # Triton compiles for Volta and later


@torch.no_grad()
def nearest_code(vectors: Tensor, codebook: Tensor, cosine: bool = False) -> Tensor:
    """Index of the closest code, (n,) int64; the lower index wins an exact tie. No gradient goes through it.

    From some thousand vectors on it holds less than a tenth of n x k float32 numbers; on a GPU, none.

    Args:
        vectors: (n, d), any floating dtype; compared in float32.
        codebook: (k, d).
        cosine: Compare directions, by cosine similarity, instead of Euclidean distances. For codes of length
            one both choose the same.

    Raises:
        ValueError: if the widths differ or the codebook is empty.
    """
    if vectors.ndim != 2 or codebook.ndim != 2 or vectors.shape[1] != codebook.shape[1] or not len(codebook):
        raise ValueError(
            f"vectors {tuple(vectors.shape)} and codebook {tuple(codebook.shape)} must be (n, d) and (k, d) "
            "with k > 0: bring them into rows of one width"
        )
    if not len(vectors):
        return torch.empty(0, dtype=torch.int64, device=vectors.device)
    with whole_float32(vectors.device.type):
        codes = F.normalize(codebook.float(), dim=1) if cosine else codebook.float()
        bias = codes.new_zeros(len(codes)) if cosine else torch.linalg.vecdot(codes, codes).mul_(-0.5)
        best = best_codes if vectors.is_cuda and _fuses_on(vectors.device) else _best_by_chunks
        return best(vectors, codes, bias)


@cache
def _fuses_on(device: torch.device) -> bool:
    """Whether the kernel runs on this GPU, tried once: Triton may be absent, or lack a compiler to start."""
    if best_codes is None or torch.cuda.get_device_capability(device) < CAPABILITY:
        return False
    try:
        best_codes(*(torch.ones(shape, device=device) for shape in ((1, 1), (1, 1), (1,))))
    except Exception as error:  # Triton's, a compiler's, the driver's: all of them mean no
        warnings.warn(f"nearest codes go the slower way on {device}, as Triton fails: {error}", stacklevel=3)
        return False
    return True


def _best_by_chunks(vectors: Tensor, codes: Tensor, bias: Tensor) -> Tensor:
    """(n,) int64 index of the highest of vectors (n, d) @ codes (k, d).T + bias (k,), the first of equals."""
    rows = chunk_rows(len(vectors), len(codes), vectors.is_cuda)
    ids = torch.empty(len(vectors), dtype=torch.int64, device=vectors.device)
    bias, transposed = _padded(bias), _padded(codes).t().contiguous()  # (s l), (d, s l)
    scores = codes.new_empty(min(rows, len(vectors)), len(bias))
    for start in range(0, len(vectors), rows):
        chunk = vectors[start : start + rows].float()
        found = torch.addmm(bias, chunk, transposed, out=scores[: len(chunk)])
        ids[start : start + rows] = _first_maximum(rearrange(found, "r (s l) -> r s l", l=BLOCK))
    return ids.clamp_(max=len(codes) - 1)  # what lies above repeats the last code


def chunk_rows(vectors: int, codes: int, cuda: bool = False) -> int:
    """Vectors to compare at once: what fits the cache of a CPU, and on a GPU a small part of them all."""
    if cuda:
        return max(1, min(SCORES_GPU // codes, max(ROWS, vectors // 16)))
    return max(16, min(SCORES_CPU // codes, ROWS))


def _padded(codes: Tensor) -> Tensor:
    """(s l, ...): the last one again and again, up to a whole number of blocks."""
    missing = -len(codes) % BLOCK
    return torch.cat([codes, codes[-1:].expand(missing, *codes.shape[1:])]) if missing else codes


def _first_maximum(scores: Tensor) -> Tensor:
    """(r,) index in (s l) of the largest of scores (r, s, l), of the first one if there are several."""
    block = scores.amax(2).argmax(1)  # (r,)
    inside = scores.take_along_dim(block[:, None, None], dim=1).squeeze(1).argmax(1)
    return block * scores.shape[2] + inside


@contextmanager
def whole_float32(device: str) -> Iterator[None]:
    """No autocast, and products in float32 even where the process allows them TF32 or bfloat16."""
    backend = torch.backends.cuda if device == "cuda" else torch.backends.mkldnn
    allowed = backend.matmul.fp32_precision
    backend.matmul.fp32_precision = "ieee"
    try:
        with torch.autocast(device, enabled=False):
            yield
    finally:
        backend.matmul.fp32_precision = allowed
