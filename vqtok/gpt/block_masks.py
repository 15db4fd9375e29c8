"""Masks of one pass: dense ones for SDPA, and on a GPU blocks, of which FlexAttention skips the empty ones.

Letters: b batch, t tokens, n query heads, m key/value heads, k head width.
"""

from functools import cache, lru_cache
from importlib.util import find_spec

import torch
from torch import Tensor
from torch.nn.attention.flex_attention import BlockMask, create_block_mask, flex_attention

from vqtok.gpt.config import GPTConfig
from vqtok.gpt.masks import GridConfig, MaskConfig, Pattern, Places

SHORTEST = 512  # tokens below which a mask of blocks of 128 has next to nothing to skip


def masks_of(config: GPTConfig, places: Places) -> dict[Pattern | None, Tensor | BlockMask]:
    """The masks of one pass by kind of layer; empty where causal or full attention needs none.

    Dense ones are (t, s) or (b, 1, t, s) bool.
    """
    mask = config.attention.mask
    if places.documents is None and not places.padded and not isinstance(mask, GridConfig):
        return {}
    patterns = {mask.pattern(layer, config.depth) for layer in range(config.depth)}
    if places.whole and blocks_help(places.new.device, places.total, config.head_width):
        return {pattern: block_mask(mask, pattern, places) for pattern in patterns}
    return {pattern: places.dense(mask, pattern) for pattern in patterns}


def blocks_help(device: torch.device, length: int, head_width: int) -> bool:
    """Whether FlexAttention's kernel is there, fits, and has something to skip."""
    fits = 16 <= head_width <= 256 and head_width & (head_width - 1) == 0
    return device.type == "cuda" and find_spec("triton") is not None and fits and length >= SHORTEST


def block_mask(mask: MaskConfig, pattern: Pattern | None, places: Places) -> BlockMask:
    """The blocks of a mask over a whole sequence, (1 or b, 1, t, t).

    Args:
        mask: Who attends to whom.
        pattern: Kind of layer.
        places: Of a pass without a cache.
    """
    length, device = places.new.shape[-1], places.new.device
    if places.documents is None:
        return _fixed(mask, pattern, length, device)
    new, documents = places.new, places.documents

    def sees(b: Tensor, h: Tensor, q: Tensor, k: Tensor) -> Tensor:
        return mask.sees(new[b, q], new[b, k], pattern) & (documents[b, q] == documents[b, k])

    return create_block_mask(sees, len(new), None, length, length, device)


def block_attention(queries: Tensor, keys: Tensor, values: Tensor, mask: BlockMask) -> Tensor:
    """Attention (b, n, t, k) of queries (b, n, t, k) to keys and values (b, m, t, k), block by block.

    On a CPU this is FlexAttention's plain form, which saves nothing and is there to be compared with.
    """
    attend = _compiled() if queries.device.type == "cuda" else flex_attention
    return attend(queries, keys, values, block_mask=mask, enable_gqa=queries.shape[1] != keys.shape[1])


@lru_cache(maxsize=32)
def _fixed(mask: MaskConfig, pattern: Pattern | None, length: int, device: torch.device) -> BlockMask:
    """A mask that is the same for all sequences of one length."""

    def sees(b: Tensor, h: Tensor, q: Tensor, k: Tensor) -> Tensor:
        return mask.sees(q, k, pattern)

    return create_block_mask(sees, None, None, length, length, device)


@cache
def _compiled():
    return torch.compile(flex_attention)
