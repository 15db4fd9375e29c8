"""Keys and values of the tokens already seen, so that each token is computed once.

Letters: b batch, t new tokens, s tokens seen and new, m key/value heads, k head width, l layers.
"""

import torch
from torch import Tensor

from vqtok.gpt.config import GPTConfig
from vqtok.gpt.masks import Places


class KVCache:
    """A preallocated store of keys and values, passed to the model as an argument and never part of it.

    The model reads the slice that is filled, and a single new token needs no mask. No gradient passes.

    Args:
        config: Shape of the model that will use it.
        batch: Sequences.
        length: Room in tokens; None means config.length.
        dtype: Of the store; None means float32 on the CPU, where attention of a single query is slower in
            bfloat16, and elsewhere that of the first keys written.

    Raises:
        ValueError: if batch is below 1 or length outside [1, config.length].
    """

    def __init__(
        self, config: GPTConfig, batch: int, length: int | None = None, dtype: torch.dtype | None = None
    ) -> None:
        length = config.length if length is None else length
        if batch < 1:
            raise ValueError(f"a cache for {batch} sequences holds nothing: give batch=1 or more")
        if not 1 <= length <= config.length:
            raise ValueError(
                f"a cache of {length} tokens is outside [1, {config.length}], the model's length: "
                f"use fewer tokens, or build the model with length={length}"
            )
        self.config, self.batch, self.length, self.dtype = config, batch, length, dtype
        self.filled = 0
        self._store: Tensor | None = None  # (l, 2, b, m, length, k), made by the first write

    def check(self, batch: int, new: int) -> None:
        """Raises ValueError unless `new` tokens of `batch` sequences fit."""
        end = self.filled + new
        if batch != self.batch:
            raise ValueError(f"{batch} sequences meet a cache of {self.batch}: build it with batch={batch}")
        if end > self.length:
            owner = "cache" if end <= self.config.length else "model"
            raise ValueError(
                f"{end} tokens do not fit a cache of {self.length}: "
                f"draw fewer, or build the {owner} with length={end}"
            )

    def places(self, new: int, device: torch.device) -> Places:
        """Where `new` tokens will stand, and how many there will be."""
        return Places.between(self.filled, self.filled + new, device)

    def write(self, layer: int, keys: Tensor, values: Tensor) -> tuple[Tensor, Tensor]:
        """Puts keys and values (b, m, t, k) after the filled ones; returns all so far, (b, m, s, k) each.

        `filled` stays until `advance`, so that a forward pass which fails half-way leaves no trace.
        """
        if self._store is None:
            self._store = self._allocate(keys)
        end = self.filled + keys.shape[2]
        self._store[layer, 0, :, :, self.filled : end] = keys.detach()
        self._store[layer, 1, :, :, self.filled : end] = values.detach()
        return self._store[layer, 0, :, :, :end], self._store[layer, 1, :, :, :end]

    def advance(self, new: int) -> None:
        """Counts `new` tokens as filled, once all layers have written them."""
        self.filled += new

    def rewind(self, filled: int) -> None:
        """Forgets all but the first `filled` tokens."""
        if not 0 <= filled <= self.filled:
            raise ValueError(f"cannot keep {filled} of {self.filled} tokens: rewind to 0 up to {self.filled}")
        self.filled = filled

    def repeat(self, times: int) -> "KVCache":
        """A new cache with every sequence `times` times in a row, to continue one prompt in several ways."""
        copy = KVCache(self.config, self.batch * times, self.length, self.dtype)
        copy.filled = self.filled
        if self._store is not None:
            filled = self._store[..., : self.filled, :]
            copy._store = copy._allocate(filled)
            copy._store[..., : self.filled, :] = filled.repeat_interleave(times, dim=2)
        return copy

    @torch.inference_mode(False)  # a store born under inference_mode could not be written outside it
    def _allocate(self, like: Tensor) -> Tensor:
        shape = (self.config.depth, 2, self.batch, self.config.key_heads, self.length, self.config.head_width)
        dtype = self.dtype or (torch.float32 if like.device.type == "cpu" else like.dtype)
        return torch.empty(shape, dtype=dtype, device=like.device)
