"""Means of what a loop notes, over micro-batches, processes and the steps between two records."""

from collections.abc import Callable, Mapping

import torch
from torch import Tensor


class Window:
    """Sums numbers by name until they are taken as means.

    What is noted counts once its step is done; of a step that is left out nothing stays.

    Args:
        totals: Sum and count by name: the whole state, as JSON can hold it.
    """

    def __init__(self, totals: Mapping[str, list[float]] | None = None) -> None:
        self.totals = {name: list(total) for name, total in (totals or {}).items()}
        self._noted: dict[str, Tensor] = {}  # (2,) sum and count of the step under way, of this process

    def add(self, name: str, value: float) -> None:
        """Count a number that all processes agree on."""
        entry = self.totals.setdefault(name, [0.0, 0])
        entry[:] = [entry[0] + value, entry[1] + 1]

    def note(self, name: str, value: float | Tensor, device: torch.device) -> None:
        """Count a number () of this process's micro-batch, without waiting for it."""
        value = torch.as_tensor(value, dtype=torch.float32, device=device).detach()
        pair = torch.stack([value, torch.ones_like(value)])
        self._noted[name] = self._noted[name] + pair if name in self._noted else pair

    def close(self, reduce: Callable[[Tensor], Tensor], keep: bool) -> None:
        """End a step: add up what all processes noted, the same names in the same order, or drop it."""
        noted, self._noted = self._noted, {}
        if not (keep and noted):
            return
        sums = reduce(torch.stack([*noted.values()])).tolist()
        for name, (total, count) in zip(noted, sums, strict=True):
            self.add(name, total / count)

    def means(self) -> dict[str, float]:
        """Mean by name."""
        return {name: total / count for name, (total, count) in self.totals.items()}
