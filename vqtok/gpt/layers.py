"""A block of the transformer: attention, its queries and keys turned or not, and an MLP beside it.

Letters: b batch, t new tokens, s tokens attended to (s >= t), d width, n heads, m key/value heads, g query
heads that share one of these, k head width.

Sources: Touvron et al. 2023 (LLaMA); Su et al. 2021 (RoPE); Ainslie et al. 2023 (GQA); Henry et al. 2020
(normed queries and keys).
"""

from functools import partial
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.autograd.function import once_differentiable
from torch.nn.attention.flex_attention import BlockMask

from vqtok.gpt.block_masks import block_attention
from vqtok.gpt.cache import Cache, Shared
from vqtok.gpt.config import GPTConfig
from vqtok.gpt.shared import shared_attention
from vqtok.gpt.tiled import tiled_attention
from vqtok.training.backwards import own_backward_pays

Mask = Tensor | BlockMask | None  # (t, s) or (b, 1, t, s) bool; None means what the model's config says


def rotate(x: Tensor, rope: Tensor) -> Tensor:
    """Heads (b, t, n, k) turned by their places' rows (2, t, 1, k), or (2, b, t, 1, k), of a table; float32.

    A pair (x, y) becomes (x cos - y sin, y cos + x sin); pairs stand half a head apart, and the table has the
    sign.
    """
    x = x.float()
    if own_backward_pays(x):
        return _Rotation.apply(x, rope)
    return torch.addcmul(x * rope[0], x.roll(x.shape[-1] // 2, dims=-1), rope[1])


class _Rotation(torch.autograd.Function):
    """Also backwards, where the turn goes the other way, without copies of halves."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, rope: Tensor) -> Tensor:
        ctx.save_for_backward(rope)
        return _turned(x, *rope)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor, None]:
        cos, sin = ctx.saved_tensors[0]
        return _turned(grad, cos, -sin), None


def _turned(x: Tensor, cos: Tensor, sin: Tensor) -> Tensor:
    half = x.shape[-1] // 2
    turned = x * cos
    turned[..., :half].addcmul_(x[..., half:], sin[..., :half])
    turned[..., half:].addcmul_(x[..., :half], sin[..., half:])
    return turned


def causal_attention(queries: Tensor, keys: Tensor, values: Tensor) -> Tensor:
    """Each query attends to the keys up to its own place, the last query's being the last key.

    Args:
        queries: (b, n, t, k).
        keys: (b, m, s, k) with s >= t and n a multiple of m.
        values: (b, m, s, k).

    Returns:
        (b, n, t, k).
    """
    new, total = queries.shape[2], keys.shape[2]
    if new == 1:  # queries that share a key head form one matrix, so that its keys are read once
        grouped = queries.view(len(keys), keys.shape[1], -1, keys.shape[3])  # (b, m, g, k)
        plain = queries.device.type == "cpu"  # where products of matrices are the faster ones
        attend = single_attention if plain else F.scaled_dot_product_attention
        return attend(grouped, keys, values).view_as(queries)
    if new == total and _tiles_pay(queries):
        return tiled_attention(queries, keys, values)
    mask = None
    if new < total:  # is_causal would put the diagonal at the first key, as if nothing came before
        mask = torch.ones(new, total, dtype=torch.bool, device=queries.device).tril(total - new)
    shared = queries.shape[1] != keys.shape[1]
    return F.scaled_dot_product_attention(
        queries, keys, values, mask, is_causal=mask is None, enable_gqa=shared
    )


def single_attention(queries: Tensor, keys: Tensor, values: Tensor) -> Tensor:
    """One token's queries (b, m, g, k) attend to all keys and values (b, m, s, k); (b, m, g, k)."""
    rows = (queries * queries.shape[-1] ** -0.5).flatten(0, 1)
    return torch.bmm(torch.bmm(rows, keys.flatten(0, 1).mT).softmax(-1), values.flatten(0, 1))


def _tiles_pay(queries: Tensor) -> bool:
    """Whether `tiled_attention` is the faster way: in training on a CPU, and in bfloat16 at all times."""
    if queries.dtype == torch.bfloat16:
        return queries.device.type == "cpu" and not torch.compiler.is_compiling()
    return queries.dtype == torch.float32 and own_backward_pays(queries)


def masked_attention(queries: Tensor, keys: Tensor, values: Tensor, mask: Mask) -> Tensor:
    """As `causal_attention`, but each query attends to the keys that `mask` says; None means all."""
    if isinstance(mask, BlockMask):
        return block_attention(queries, keys, values, mask)
    shared = queries.shape[1] != keys.shape[1]
    return F.scaled_dot_product_attention(queries, keys, values, mask, enable_gqa=shared)


class Attention(nn.Module):
    """Self-attention; queries, keys and values come from one matrix."""

    def __init__(self, config: GPTConfig) -> None:
        super().__init__()
        self.heads, self.key_heads, self.head_width = config.heads, config.key_heads, config.head_width
        self.causal = config.causal
        stacked = (config.heads + 2 * config.key_heads) * config.head_width
        self.qkv = nn.Linear(config.width, stacked, bias=config.attention.bias)
        self.out = nn.Linear(config.width, config.width, bias=config.attention.bias)
        normed = config.attention.qk_norm
        self.query_norm = config.norm.build(config.head_width) if normed else None
        self.key_norm = config.norm.build(config.head_width) if normed else None

    def forward(
        self, x: Tensor, rope: Tensor | None, mask: Mask = None, cache: Cache | None = None, layer: int = 0
    ) -> Tensor:
        """(b, t, d) from (b, t, d); `layer` names this block's share of the cache."""
        heads = self.qkv(x).unflatten(-1, (-1, self.head_width))  # einops would add to the time of a token
        turned, values = heads.split([self.heads + self.key_heads, self.key_heads], dim=2)
        if self.query_norm is not None:
            queries, keys = turned.split([self.heads, self.key_heads], dim=2)
            turned = torch.cat((self.query_norm(queries), self.key_norm(keys)), dim=2)
        if rope is not None:
            turned = rotate(turned, rope)
        queries, keys = turned.type_as(values).transpose(1, 2).split([self.heads, self.key_heads], dim=1)
        values = values.transpose(1, 2)
        if cache is not None:
            keys, values = cache.write(layer, keys, values)
        if isinstance(keys, Shared):
            out = shared_attention(queries, keys, values, mask)
        else:
            plain = self.causal and mask is None
            attend = causal_attention if plain else partial(masked_attention, mask=mask)
            out = attend(queries.type_as(keys), keys, values)
        return self.out(out.transpose(1, 2).flatten(2).type_as(x))


class Block(nn.Module):
    """Attention, then an MLP, each on the normed stream and added to it."""

    def __init__(self, config: GPTConfig) -> None:
        super().__init__()
        self.attention_norm = config.norm.build(config.width)
        self.attention = Attention(config)
        self.mlp_norm = config.norm.build(config.width)
        self.mlp = config.mlp.build(config.width, config.inner)
        self.dropout = nn.Dropout(config.dropout) if config.dropout else nn.Identity()

    def forward(
        self, x: Tensor, rope: Tensor | None, mask: Mask = None, cache: Cache | None = None, layer: int = 0
    ) -> Tensor:
        """(b, t, d) from (b, t, d)."""
        x = x + self.dropout(self.attention(self.attention_norm(x), rope, mask, cache, layer))
        return x + self.dropout(self.mlp(self.mlp_norm(x)))
