"""The parts of a LLaMA block: rotary positions, causal attention, SwiGLU.

Letters: b batch, t new tokens, s tokens attended to (s >= t), d width, n heads, m key/value heads, g query
heads that share one of these, k head width.

Sources: Touvron et al. 2023 (LLaMA); Su et al. 2021 (RoPE); Shazeer 2020 (SwiGLU); Ainslie et al. 2023 (GQA).
Channels turn in pairs taken from the two halves of a head, as in transformers, not in neighboring pairs as in
the papers: published weights are in this order.
"""

import torch
import torch.nn.functional as F
from einops import rearrange
from torch import Tensor, nn

from vqtok.gpt.cache import KVCache
from vqtok.gpt.config import GPTConfig


def rope_table(config: GPTConfig, device: torch.device | None = None) -> Tensor:
    """Cosines and sines of every position, (2, length, 1, k) float32, the first half of the sines negated."""
    exponents = torch.arange(0, config.head_width, 2, device=device) / config.head_width
    frequencies = 1 / config.rope_base**exponents
    angles = torch.outer(torch.arange(config.length, device=device), frequencies)
    cos, sin = angles.cos(), angles.sin()
    return torch.stack((torch.cat((cos, cos), dim=1), torch.cat((-sin, sin), dim=1)))[:, :, None]


def rotate(x: Tensor, rope: Tensor) -> Tensor:
    """Heads (b, t, n, k) turned by their positions' rows (2, t, 1, k) of `rope_table`; float32.

    A pair (x, y) becomes (x cos - y sin, y cos + x sin): the roll brings the partner, the table the sign.
    """
    x = x.float()
    return torch.addcmul(x * rope[0], x.roll(x.shape[-1] // 2, dims=-1), rope[1])


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
        queries = rearrange(queries, "b (m g) 1 k -> b m g k", m=keys.shape[1])
        out = F.scaled_dot_product_attention(queries, keys, values)
        return rearrange(out, "b m g k -> b (m g) 1 k")
    if new == total and queries.dtype == torch.bfloat16 and queries.device.type == "cpu":
        return tiled_attention(queries, keys, values)
    mask = None
    if new < total:  # is_causal would put the diagonal at the first key, as if nothing came before
        mask = torch.ones(new, total, dtype=torch.bool, device=queries.device).tril(total - new)
    shared = queries.shape[1] != keys.shape[1]
    return F.scaled_dot_product_attention(
        queries, keys, values, mask, is_causal=mask is None, enable_gqa=shared
    )


def tiled_attention(queries: Tensor, keys: Tensor, values: Tensor, rows: int = 96) -> Tensor:
    """As `causal_attention` where t = s, by plain products of `rows` queries with the keys up to them.

    In bfloat16 on a CPU, forward and backward together take half the time of scaled_dot_product_attention and
    give gradients as exact; in float32 there is no gain. It keeps b n t^2 / 2 probabilities for the backward.
    """
    shared = queries.shape[1] // keys.shape[1]
    keys, values = keys.repeat_interleave(shared, dim=1), values.repeat_interleave(shared, dim=1)
    queries = queries * queries.shape[-1] ** -0.5
    late = torch.full((rows, rows), -torch.inf, dtype=queries.dtype, device=queries.device).triu(1)
    tiles = []
    for start in range(0, queries.shape[2], rows):
        tile = queries[:, :, start : start + rows]
        new, end = tile.shape[2], start + tile.shape[2]
        scores = tile @ keys[:, :, :end].transpose(-1, -2)
        scores[..., start:] += late[:new, :new]
        tiles.append(scores.softmax(-1) @ values[:, :, :end])
    return torch.cat(tiles, dim=2)


class Attention(nn.Module):
    """Causal self-attention with rotary positions; queries, keys and values come from one matrix."""

    def __init__(self, config: GPTConfig) -> None:
        super().__init__()
        self.heads, self.key_heads = config.heads, config.key_heads
        stacked = (config.heads + 2 * config.key_heads) * config.head_width
        self.qkv = nn.Linear(config.width, stacked, bias=False)
        self.out = nn.Linear(config.width, config.width, bias=False)

    def forward(self, x: Tensor, rope: Tensor, cache: KVCache | None = None, layer: int = 0) -> Tensor:
        """(b, t, d) from (b, t, d); `layer` names this block's share of the cache."""
        heads = rearrange(self.qkv(x), "b t (n k) -> b t n k", k=rope.shape[-1])
        turned, values = heads.split([self.heads + self.key_heads, self.key_heads], dim=2)
        turned = rotate(turned, rope).type_as(values)
        queries, keys = turned.transpose(1, 2).split([self.heads, self.key_heads], dim=1)
        values = values.transpose(1, 2)
        if cache is not None:
            keys, values = cache.write(layer, keys, values)
        out = causal_attention(queries.type_as(keys), keys, values)
        return self.out(rearrange(out, "b n t k -> b t (n k)").type_as(x))


class SwiGLU(nn.Module):
    """down(silu(gate x) * up x); gate and up come from one matrix."""

    def __init__(self, config: GPTConfig) -> None:
        super().__init__()
        self.gate_up = nn.Linear(config.width, 2 * config.inner, bias=False)
        self.down = nn.Linear(config.inner, config.width, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        """(b, t, d) from (b, t, d)."""
        gate, up = self.gate_up(x).chunk(2, dim=-1)
        return self.down(F.silu(gate) * up)


class Block(nn.Module):
    """Attention, then SwiGLU, each on the normed stream and added to it."""

    def __init__(self, config: GPTConfig) -> None:
        super().__init__()
        self.attention_norm = nn.RMSNorm(config.width, config.norm_eps)
        self.attention = Attention(config)
        self.mlp_norm = nn.RMSNorm(config.width, config.norm_eps)
        self.mlp = SwiGLU(config)
        self.dropout = nn.Dropout(config.dropout)

    def forward(self, x: Tensor, rope: Tensor, cache: KVCache | None = None, layer: int = 0) -> Tensor:
        """(b, t, d) from (b, t, d)."""
        x = x + self.dropout(self.attention(self.attention_norm(x), rope, cache, layer))
        return x + self.dropout(self.mlp(self.mlp_norm(x)))
