"""Keys and values of the tokens already seen, so that each token is computed once, and a shared prompt once.

Letters: b batch, t new tokens, s tokens seen and new, m key/value heads, k head width, p prompts.
"""

from copy import copy
from typing import NamedTuple

import torch
from torch import Tensor

from vqtok.gpt.config import GPTConfig
from vqtok.gpt.masks import Places
from vqtok.gpt.shifts import NOTHING, earlier_ids


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
        self.layers: list[tuple[Tensor, Tensor]] = []  # keys and values (b, m, length, k) of each block
        self.ids: Tensor | None = None  # (b, length), for models that look at earlier ids

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

    def earlier(self, ids: Tensor, skipped: int = 0) -> Tensor:
        """Notes new ids (b, t), and gives those at the model's shifts before each of them, (b, n, t).

        Args:
            ids: That stand after the filled tokens.
            skipped: Places between, of a prefix, which have no ids.
        """
        self._room(ids.device)
        start = self.filled + skipped
        self.ids[:, self.filled : start] = NOTHING
        self.ids[:, start : start + ids.shape[1]] = ids
        places = torch.arange(start, start + ids.shape[1], device=ids.device)
        return earlier_ids(self.ids, places, self.config.shifts)

    def write(self, layer: int, keys: Tensor, values: Tensor) -> tuple[Tensor, Tensor]:
        """Puts keys and values (b, m, t, k) after the filled ones; returns all so far, (b, m, s, k) each.

        `filled` stays until `advance`, so that a forward pass which fails half-way leaves no trace.
        """
        if not self.layers:
            self.allocate(keys)
        start, new = self.filled, keys.shape[2]
        seen = []
        for held, written in zip(self.layers[layer], (keys, values), strict=True):
            held.narrow(2, start, new).copy_(written.detach())
            seen.append(held.narrow(2, 0, start + new))
        return seen[0], seen[1]

    def read(self, layer: int) -> tuple[Tensor, Tensor]:
        """The filled keys and values of a block, (b, m, s, k) each."""
        keys, values = self.layers[layer]
        return keys.narrow(2, 0, self.filled), values.narrow(2, 0, self.filled)

    def advance(self, new: int) -> None:
        """Counts `new` tokens as filled, once all layers have written them."""
        self.filled += new

    def rewind(self, filled: int) -> None:
        """Forgets all but the first `filled` tokens."""
        if not 0 <= filled <= self.filled:
            raise ValueError(f"cannot keep {filled} of {self.filled} tokens: rewind to 0 up to {self.filled}")
        self.filled = filled

    def first(self, batch: int) -> "KVCache":
        """The first `batch` sequences as a cache of their own, in the same store."""
        part = copy(self)
        part.batch = batch
        part.layers = [(keys[:batch], values[:batch]) for keys, values in self.layers]
        part.ids = None if self.ids is None else self.ids[:batch]
        return part

    @torch.inference_mode(False)  # a store born under inference_mode could not be written outside it
    def allocate(self, like: Tensor) -> None:
        """Makes room on the device of `like`; the first write does, where nobody has."""
        shape = (self.config.depth, 2, self.batch, self.config.key_heads, self.length, self.config.head_width)
        dtype = self.dtype or (torch.float32 if like.device.type == "cpu" else like.dtype)
        store = torch.empty(shape, dtype=dtype, device=like.device)
        self.layers = [(store[layer, 0], store[layer, 1]) for layer in range(self.config.depth)]
        if self.config.shifts:
            self._room(like.device)

    @torch.inference_mode(False)
    def _room(self, device: torch.device) -> None:
        if self.ids is None:
            self.ids = torch.full((self.batch, self.length), NOTHING, device=device)


class Shared(NamedTuple):
    """Keys, or values, of prompts, and of what continues each of them in several ways.

    Args:
        prompt: (p, m, s, k).
        own: (b, m, s, k) of what comes after; b is a multiple of p, and continuations of a prompt stand
            together.
    """

    prompt: Tensor
    own: Tensor


class SharedKVCache:
    """A filled cache whose prompts are continued in several ways, and room for what each continuation adds.

    The prompts' keys and values are stored once, and read once for all continuations: `write` gives both
    parts, and `vqtok.gpt.shared` attends to them. All else is as in a `KVCache` of as many sequences as there
    are continuations, in which every prompt is written out.

    Args:
        prompt: Holds p prompts of at least one token, and must not change meanwhile.
        times: Continuations of each.
        length: Room in tokens, the prompt's included; None means config.length.

    Raises:
        ValueError: if times is below 1, or there is no room after the prompt.
    """

    def __init__(self, prompt: KVCache, times: int, length: int | None = None) -> None:
        length = prompt.config.length if length is None else length
        self.config, self.batch, self.length = prompt.config, prompt.batch * times, length
        self.prompt = prompt
        self.own = KVCache(prompt.config, self.batch, length - prompt.filled, prompt.dtype)
        self.own.allocate(prompt.layers[0][0])

    @property
    def filled(self) -> int:
        """Tokens of each sequence, the prompt's included."""
        return self.prompt.filled + self.own.filled

    check = KVCache.check
    places = KVCache.places

    def earlier(self, ids: Tensor, skipped: int = 0) -> Tensor:
        """As that of a `KVCache`; prompts are filled, so that nothing is skipped."""
        start = self.own.filled
        self.own.ids[:, start : start + ids.shape[1]] = ids
        places = torch.arange(self.filled, self.filled + ids.shape[1], device=ids.device)
        return earlier_ids(self.ids, places, self.config.shifts)

    @property
    def ids(self) -> Tensor | None:
        """(b, s) of prompts and all the room after them, for models that look at earlier ids."""
        if self.own.ids is None:
            return None
        prompts = self.prompt.ids[:, : self.prompt.filled]
        times = self.batch // len(prompts)
        return torch.cat([prompts.repeat_interleave(times, dim=0), self.own.ids], dim=1)

    def write(self, layer: int, keys: Tensor, values: Tensor) -> tuple[Shared, Shared]:
        """Puts keys and values (b, m, t, k) after the filled ones; returns all so far, in two parts each."""
        pairs = zip(self.prompt.read(layer), self.own.write(layer, keys, values), strict=True)
        keys, values = (Shared(*pair) for pair in pairs)
        return keys, values

    def advance(self, new: int) -> None:
        """Counts `new` tokens as filled, once all layers have written them."""
        self.own.advance(new)

    def rewind(self, filled: int) -> None:
        """Forgets all but the first `filled` tokens, of which the prompt's stay."""
        self.own.rewind(filled - self.prompt.filled)

    def first(self, batch: int) -> "SharedKVCache":
        """The first `batch` sequences, all those of some prompts, as a cache of their own, in one store."""
        part = copy(self)
        part.batch = batch
        part.prompt = self.prompt.first(batch * self.prompt.batch // self.batch)
        part.own = self.own.first(batch)
        return part


Cache = KVCache | SharedKVCache
