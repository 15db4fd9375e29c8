"""Causal attention of whole sequences by plain products of matrices, for training on a CPU.

Queries are taken some at a time, with the keys up to them, so that most of the half of the scores that nobody
needs is never computed. What the backward needs of them is computed once more in float32, and kept in
bfloat16, where it is half as large and products of it cost more.

Letters: b batch, n heads, t tokens, k head width; rows are queries of a tile.
"""

from collections.abc import Iterator
from typing import Any

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

ROWS = 96  # queries of a tile
HEADS = {torch.float32: 4, torch.bfloat16: 16}  # of a tile: their scores shall fit into a core's cache


class _Tiled(torch.autograd.Function):
    """Attention over sequences (h, t, k) of all heads, h = b n, whose queries are scaled already."""

    @staticmethod
    def forward(ctx: Any, *given: Tensor) -> Tensor:
        out = torch.empty_like(given[0])
        keep, kept, late = out.dtype != torch.float32, [], _late(out)
        for queries, keys, values, into in _groups(*given, out):
            for start, end in _tiles(queries):
                weights = _weights(queries[:, start:end], keys[:, :end], late)
                into[:, start:end] = weights @ values[:, :end]
                if keep:
                    kept.append(weights)
        ctx.save_for_backward(*given, out, *kept)
        return out

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        queries, keys, values, out, *kept = ctx.saved_tensors
        left, late = iter(kept), _late(out)
        # What a softmax takes away is the mean of the scores' gradients by the weights, which is this.
        means = (grad * out).sum(-1, keepdim=True)
        to_queries = torch.empty_like(queries)
        # Those of keys and values are gathered as (h, k, t), which makes the faster products.
        to_keys, to_values = queries.new_zeros(2, *keys.mT.shape)
        given = _groups(queries, keys, values, grad, means)
        into = _groups(to_queries, to_keys, to_values)
        for some, of_some in zip(given, into, strict=True):
            _pull(*some, of_some, left, late)
        return to_queries, to_keys.mT, to_values.mT


def _pull(
    queries: Tensor,
    keys: Tensor,
    values: Tensor,
    grad: Tensor,
    means: Tensor,
    into: tuple[Tensor, ...],
    kept: Iterator[Tensor],
    late: Tensor,
) -> None:
    """Writes the gradients of some heads; `kept` begins with their tiles' weights, if they were kept."""
    to_queries, to_keys, to_values = into
    for start, end in _tiles(queries):
        rows, given = queries[:, start:end], grad[:, start:end]
        weights = next(kept, None)
        if weights is None:
            weights = _weights(rows, keys[:, :end], late)
        to_values[:, :, :end].baddbmm_(given.mT, weights)
        scores = torch.baddbmm(means[:, start:end], given, values[:, :end].mT, beta=-1).mul_(weights)
        to_queries[:, start:end] = scores @ keys[:, :end]
        to_keys[:, :, :end].baddbmm_(rows.mT, scores)


def tiled_attention(queries: Tensor, keys: Tensor, values: Tensor) -> Tensor:
    """Each query attends to the keys up to its own place.

    Args:
        queries: (b, n, t, k).
        keys: (b, m, t, k) with n a multiple of m.
        values: Likewise.

    Returns:
        (b, n, t, k).
    """
    times = queries.shape[1] // keys.shape[1]
    queries = queries * queries.shape[-1] ** -0.5
    keys, values = (part.repeat_interleave(times, dim=1) if times > 1 else part for part in (keys, values))
    out = _Tiled.apply(*(part.flatten(0, 1) for part in (queries, keys, values)))
    return out.view_as(queries)


def _groups(*parts: Tensor) -> Iterator[tuple[Tensor, ...]]:
    """Some heads of everything at a time."""
    return zip(*(part.split(HEADS[parts[0].dtype]) for part in parts), strict=True)


def _tiles(queries: Tensor) -> Iterator[tuple[int, int]]:
    """First query of each tile, and one more than the last."""
    for start in range(0, queries.shape[1], ROWS):
        yield start, min(start + ROWS, queries.shape[1])


def _late(like: Tensor) -> Tensor:
    """(ROWS, ROWS): -inf where a key of a tile comes after the query, else 0."""
    return like.new_full((ROWS, ROWS), -torch.inf).triu(1)


def _weights(queries: Tensor, keys: Tensor, late: Tensor) -> Tensor:
    """Shares (h, rows, s) of the keys (h, s, k) up to the place of each of the last queries (h, rows, k)."""
    scores = queries @ keys.mT
    rows = queries.shape[1]
    scores[..., -rows:] += late[:rows, :rows]
    return torch.softmax(scores, -1, out=scores)
