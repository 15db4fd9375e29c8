"""Steps of the same shape, captured once as a CUDA graph: a GPU gets all kernels of a token in one call.

Small transformers spend most of a token's time on launching kernels. A captured step runs the same kernels on
the same addresses again, so that nothing of it may depend on a Python number that changes: the cache is
written where a tensor says, and attention reads all of its room, masked.

Letters: b batch, t new tokens, s room in tokens, m key/value heads, k head width.
"""

from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

import torch
from torch import Tensor

from vqtok.gpt.cache import Cache, KVCache, Shared, SharedKVCache
from vqtok.gpt.masks import Places
from vqtok.gpt.shifts import earlier_ids

Step = Callable[..., Any]  # (caches, *tensors or None) -> tensor, or several


class StaticKVCache:
    """A cache as it stands, gone on with at addresses and in shapes that do not change.

    It writes into the store of the cache it is made of, whose `filled` stays: whoever runs steps counts them.
    A model sees it as that cache.

    Args:
        cache: Filled by at least one token.
    """

    def __init__(self, cache: Cache) -> None:
        self._cache = cache
        self.config, self.batch, self.length = cache.config, cache.batch, cache.length
        self.filled = cache.filled
        self._prompt = cache.prompt if isinstance(cache, SharedKVCache) else None
        self._own = cache.own if isinstance(cache, SharedKVCache) else cache
        store = [tensor for layer in self._own.layers for tensor in layer]
        for tensor in store:  # what nobody has written may be nan, which no weight of 0 takes away
            tensor[:, :, self._own.filled :] = 0
        self._next = torch.tensor([self.filled], device=store[0].device)  # place of the next token

    check = KVCache.check

    def places(self, new: int, device: torch.device) -> Places:
        """Of `new` tokens and of all the room, filled or not."""
        return Places(self._next + torch.arange(new, device=device), self.length, padded=True)

    def earlier(self, ids: Tensor, skipped: int = 0) -> Tensor:
        """Notes new ids (b, t) at the next places, and gives those at the model's shifts before each."""
        places = self._next + torch.arange(ids.shape[1], device=ids.device)
        shared = 0 if self._prompt is None else self._prompt.filled
        self._own.ids.index_copy_(1, places - shared, ids)
        return earlier_ids(self._cache.ids, places, self.config.shifts)

    def write(
        self, layer: int, keys: Tensor, values: Tensor
    ) -> tuple[Tensor, Tensor] | tuple[Shared, Shared]:
        """Puts keys and values (b, m, t, k) at the next places; returns all the room, (b, m, s, k) each."""
        shared = 0 if self._prompt is None else self._prompt.filled
        places = self._next - shared + torch.arange(keys.shape[2], device=keys.device)
        own = self._own.layers[layer]
        for held, written in zip(own, (keys, values), strict=True):
            held.index_copy_(2, places, written.detach().to(held.dtype))
        if self._prompt is None:
            return own
        keys, values = (Shared(*pair) for pair in zip(self._prompt.read(layer), own, strict=True))
        return keys, values

    def advance(self, new: int) -> None:
        """Moves on by `new` places, on the device."""
        self._next += new

    def rewind(self) -> None:
        """Goes back to the place where it began."""
        self._next.fill_(self.filled)


class Captured:
    """A step as a CUDA graph, run by copying its inputs to where it reads them.

    What it returns is overwritten by the next call.

    Args:
        step: Is run twice before it is captured, and must leave nothing behind but in its caches.
        caches: That it reads and fills, one token each a call.
        inputs: Of the shapes that all later ones have; None stays None.
    """

    def __init__(self, step: Step, caches: Sequence[Cache], *inputs: Tensor | None) -> None:
        self._caches, static = caches, [StaticKVCache(cache) for cache in caches]
        self._inputs = [None if tensor is None else tensor.clone() for tensor in inputs]
        stream = torch.cuda.Stream()  # one for trial and capture, since libraries make workspaces for each
        stream.wait_stream(torch.cuda.current_stream())
        with torch.cuda.stream(stream):
            for _ in range(2):
                step(static, *self._inputs)
                for cache in static:
                    cache.rewind()
        torch.cuda.current_stream().wait_stream(stream)
        self._graph = torch.cuda.CUDAGraph()
        with torch.cuda.graph(self._graph, stream=stream):
            self._output = step(static, *self._inputs)

    def __call__(self, *inputs: Tensor | None) -> Any:
        """Run it; waits for nothing."""
        for held, tensor in zip(self._inputs, inputs, strict=True):
            if held is not None:
                held.copy_(tensor)
        self._graph.replay()
        for cache in self._caches:
            cache.advance(1)
        return self._output


def repeated(step: Step, caches: Sequence[Cache], *inputs: Tensor | None) -> Step:
    """The step with its caches, for many calls with inputs like these; a CUDA graph where there are such."""
    if inputs[0].device.type == "cuda" and hasattr(torch.cuda, "CUDAGraph"):
        return Captured(step, caches, *inputs)
    return partial(step, caches)
