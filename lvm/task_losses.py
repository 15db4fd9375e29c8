"""Each task's own loss: what it is, and how to give all tasks one scale.

A mask costs a tenth of the nats of a drawing, so with one plain mean the drawings own the gradient. Dividing
each task's loss by a running mean of it gives them all one scale; loss balancing in multi-task learning does
the same by other rules (Kendall et al. 2018; Liu et al. 2019).

Letters: k tasks, n tokens.
"""

import math
from collections.abc import Callable, Sequence

import torch
from torch import Tensor, nn


class TaskLosses(nn.Module):
    """Running means of each task's nats a token, and the factors that follow from them.

    They move once a step and are the same on all processes, so that batches may be split at will.

    Args:
        names: Of the k tasks.
        decay: Of a running mean, for each step in which its task comes.
    """

    def __init__(self, names: Sequence[str], decay: float = 0.98) -> None:
        super().__init__()
        self.names, self.decay = tuple(names), decay
        self.register_buffer("mean", torch.full((len(names),), torch.nan))
        self._sums: Tensor | None = None  # (2, k) nats and tokens of the step under way, of this process
        self._step = -1

    def factors(self, tasks: Tensor) -> Tensor:
        """(n,) what tokens of tasks (n,) count, so that all tasks pull alike.

        Over the tasks that have come they average 1; a task that has not come yet counts 1.
        """
        known = self.mean.isfinite()
        inverse = torch.where(known, 1 / self.mean.clamp(min=1e-3), 0.0)
        scale = known.sum() / inverse.sum()
        return torch.where(known, inverse * scale, 1.0)[tasks]

    def count(self, nats: Tensor, tasks: Tensor, step: int) -> None:
        """Take note of nats (n,) of tokens of tasks (n,) in a micro-batch of `step`.

        Of a step that was left out, and so never settled, nothing stays.
        """
        parts = nats.detach().float(), torch.ones_like(nats, dtype=torch.float32)
        sums = torch.stack([torch.zeros_like(self.mean).index_add(0, tasks, part) for part in parts])
        self._sums = sums if self._sums is None or step != self._step else self._sums + sums
        self._step = step

    def settle(self, reduce: Callable[[Tensor], Tensor]) -> None:
        """End a step: `reduce` gives the sum of a tensor over all processes."""
        total, count = reduce(self._sums)
        self._sums = None
        mean = total / count  # nan where a task did not come
        moved = self.mean.lerp(mean, 1 - self.decay)
        moved = torch.where(self.mean.isnan(), mean, moved)
        self.mean.copy_(torch.where(count > 0, moved, self.mean))

    def facts(self) -> dict[str, float]:
        """Loss and perplexity by task, of those that have come."""
        known = {name: mean for name, mean in zip(self.names, self.mean.tolist(), strict=True)
                 if math.isfinite(mean)}
        losses = {f"train/loss/{name}": mean for name, mean in known.items()}
        return losses | {f"train/perplexity/{name}": math.exp(mean) for name, mean in known.items()}
