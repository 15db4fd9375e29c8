"""Attention to a prompt that several sequences continue, whose keys and values are read once for all of them.

Letters: p prompts, r sequences of each, b = p r sequences, t new tokens, s tokens of the prompt and own ones,
n heads, m key/value heads, g query heads that share one of these, k head width.

The weights are those of attention to the prompt written out before every sequence: the scores of both parts
stand beside each other when the softmax is taken. Juravsky et al. 2024 (Hydragen) share prompts by the same
products of matrices.
"""

import torch
from einops import rearrange
from torch import Tensor

from vqtok.gpt.cache import Shared


def shared_attention(queries: Tensor, keys: Shared, values: Shared, mask: Tensor | None = None) -> Tensor:
    """Each query attends to its prompt, and to its own sequence up to its place.

    Args:
        queries: (b, n, t, k).
        keys: Of p prompts and b sequences.
        values: Likewise.
        mask: Broadcasts to (b, n, t, s) bool, true where a query attends; None means all up to its place.

    Returns:
        (b, n, t, k).
    """
    new, parts = queries.shape[2], [keys.prompt.shape[2], keys.own.shape[2]]
    if mask is None and new > 1:
        mask = torch.ones(new, sum(parts), dtype=torch.bool, device=queries.device).tril(sum(parts) - new)
    queries = queries.type_as(keys.own) * queries.shape[-1] ** -0.5
    scores = torch.cat([_meet(queries, part.mT) for part in keys], dim=-1)
    if mask is not None:
        scores = scores.masked_fill(~mask, -torch.inf)
    weights = scores.softmax(-1).split(parts, dim=-1)
    prompt, own = (_meet(weight, part) for weight, part in zip(weights, values, strict=True))
    return prompt + own


def _meet(x: Tensor, matrices: Tensor) -> Tensor:
    """The products (b, n, t, y) of rows (b, n, t, x) with matrices (p or b, m, x, y).

    Rows that meet the same matrix form one with it: those of a prompt's sequences, heads and tokens.
    """
    batch, heads, new, _ = x.shape
    sizes = {"r": batch // len(matrices), "g": heads // matrices.shape[1], "t": new}
    rows = rearrange(x, "(p r) (m g) t x -> p m (r g t) x", r=sizes["r"], g=sizes["g"])
    return rearrange(rows @ matrices, "p m (r g t) y -> (p r) (m g) t y", **sizes)
