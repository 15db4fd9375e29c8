"""Exponential moving average of a model's weights.

Source: Polyak & Juditsky 1992; the warm-up of the decay follows Tarvainen & Valpola 2017 in spirit: early
    averages
forget faster.
"""

import copy

import torch
from torch import nn


class EMA:
    """`model` is a copy for evaluation and saving, whose weights trail those of `source`.

    Args:
        source: The model in training, not wrapped.
        decay: Share of the average that stays at a step, in [0, 1), reached after some 10 / (1 - decay)
            steps.
    """

    def __init__(self, source: nn.Module, decay: float) -> None:
        if not 0 <= decay < 1:
            raise ValueError(f"decay {decay} must lie in [0, 1): 0.999 averages over about 1,000 steps")
        self.source, self.decay = source, decay
        self.model = copy.deepcopy(source).eval().requires_grad_(False)

    def share(self, step: int) -> float:
        """How far the average moves towards the weights at a step."""
        return 1 - min(self.decay, (1 + step) / (10 + step))

    @torch.no_grad()
    def update(self, step: int) -> None:
        """Move the average towards the weights after optimiser step number `step`, counted from 1."""
        share = self.share(step)
        averages, weights = list(self.model.parameters()), list(self.source.parameters())
        torch._foreach_lerp_(averages, weights, share)
        for mine, theirs in zip(self.model.buffers(), self.source.buffers(), strict=True):
            mine.copy_(theirs)
