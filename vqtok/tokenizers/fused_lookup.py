"""The best of many codes in one Triton kernel: scores live in registers and are never written.

A program takes a tile of vectors past a span of codes, tile by tile, and keeps the best score and its index.
Few vectors meet many spans at once, so that they too fill a GPU. No score depends on the spans, or on which
other vectors come along; so neither do the ids.

Accuracy: a score is d products and a bias, summed in IEEE float32 (`input_precision="ieee"`: fused
multiply-adds, where tensor cores would round the factors to the 11 bits of TF32). It is off by at most
(d + 1) 2^-24 (|z| |e| + |bias|), as on a CPU. So a code can only win over a better one if the two are closer
than twice that; such near-ties are all that may differ between devices.

Letters: n vectors z, k codes e, d their width; s spans of codes.
"""

import torch
import triton
import triton.language as tl
from torch import Tensor

# A tile is 8 x 8 scores a thread: sm_80 and sm_90 hold them in registers, and do 11 multiply-adds a load.
VECTORS = tl.constexpr(64)
CODES = tl.constexpr(128)
WIDTH = tl.constexpr(16)
PROGRAMS = 512  # fill any GPU


def best_codes(vectors: Tensor, codes: Tensor, bias: Tensor) -> Tensor:
    """(n,) int64 index of the highest of vectors @ codes.T + bias; the lower index wins an exact tie.

    Args:
        vectors: (n, d) on a GPU, n > 0, any floating dtype; read as float32.
        codes: (k, d) float32, k > 0.
        bias: (k,) float32.
    """
    vectors, codes, (count, width) = vectors.contiguous(), codes.contiguous(), vectors.shape
    spans = spans_for(count, len(codes))
    scores = codes.new_empty(spans, count)
    ids = codes.new_empty(spans, count, dtype=torch.int32)
    with torch.cuda.device_of(vectors):
        _best_of_span[triton.cdiv(count, VECTORS.value), spans](
            *(vectors, codes, bias, scores, ids, count, len(codes), width),
            enable_fp_fusion=True,  # a fused multiply-add rounds once, product and sum round twice
        )
    return ids.take_along_dim(scores.argmax(0, keepdim=True), 0).squeeze(0).long()


def spans_for(vectors: int, codes: int) -> int:
    """Spans of whole tiles, none of them empty, in which programs for all vectors share the codes."""
    tiles = triton.cdiv(codes, CODES.value)
    wanted = triton.cdiv(PROGRAMS, triton.cdiv(vectors, VECTORS.value))
    return triton.cdiv(tiles, triton.cdiv(tiles, min(tiles, wanted)))


@triton.jit(do_not_specialize=["n", "k"])  # compiled once for any amount of them
def _best_of_span(vectors, codes, bias, scores, ids, n, k, d):
    """Best score and id of a tile of vectors among a span of codes, to (s, n) scores and ids."""
    row = tl.program_id(0).to(tl.int64) * VECTORS + tl.arange(0, VECTORS)
    span = CODES * tl.cdiv(tl.cdiv(k, CODES), tl.num_programs(1))
    first = tl.program_id(1) * span
    best = tl.full((VECTORS,), float("-inf"), tl.float32)
    best_id = tl.zeros((VECTORS,), tl.int32) + first
    for start in range(first, tl.minimum(first + span, k), CODES):
        code = start + tl.arange(0, CODES)
        found = tl.zeros((VECTORS, CODES), tl.float32)
        for offset in range(0, d, WIDTH):
            column = offset + tl.arange(0, WIDTH)
            z, has_z = vectors + row[:, None] * d + column[None, :], (row < n)[:, None]
            e, has_e = codes + code.to(tl.int64)[None, :] * d + column[:, None], (code < k)[None, :]
            z = tl.load(z, has_z & (column < d)[None, :], 0.0).to(tl.float32)
            e = tl.load(e, has_e & (column < d)[:, None], 0.0)
            found = tl.dot(z, e, found, input_precision="ieee")
        found += tl.load(bias + code, code < k, float("-inf"))[None, :]
        found = tl.where(found > float("-inf"), found, float("-inf"))  # NaN too is below all
        top, place = tl.max(found, 1, return_indices=True)  # the first of equals
        higher = top > best  # so nothing beyond the last code is ever taken
        best = tl.where(higher, top, best)
        best_id = tl.where(higher, start + place, best_id)
    out = tl.program_id(1).to(tl.int64) * n + row
    tl.store(scores + out, best, row < n)
    tl.store(ids + out, best_id, row < n)
