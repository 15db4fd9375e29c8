"""Learning rates and other numbers that change while training, as pure functions of the step.

Source: Loshchilov & Hutter 2017 (SGDR), cosine annealing without restarts, after a linear warm-up.
"""

import math
from dataclasses import dataclass


@dataclass(frozen=True, kw_only=True)
class LRConfig:
    """A learning rate that rises in a line and falls along half a cosine.

    Args:
        peak: Highest learning rate, reached after the warm-up.
        warmup_steps: Steps of the rise.
        steps: Steps of rise and fall together; the rate is constant afterwards.
        floor: Share of the peak that is left at the end.
    """

    peak: float
    warmup_steps: int
    steps: int
    floor: float = 0.1

    def __post_init__(self) -> None:
        if not 0 <= self.warmup_steps < self.steps:
            raise ValueError(
                f"warmup_steps {self.warmup_steps} must lie in [0, {self.steps}): lower it, or raise steps"
            )
        if not (0 < self.peak < math.inf and 0 <= self.floor <= 1):
            raise ValueError(
                f"peak {self.peak} must be above 0 and floor {self.floor} in [0, 1]: change them"
            )


def cosine(step: int, config: LRConfig) -> float:
    """Learning rate of the optimiser step number `step`, counted from 0."""
    if step < config.warmup_steps:
        return config.peak * (step + 1) / config.warmup_steps
    done = min(1.0, (step - config.warmup_steps) / (config.steps - config.warmup_steps))
    return config.peak * (config.floor + (1 - config.floor) * (1 + math.cos(math.pi * done)) / 2)


@dataclass(frozen=True, kw_only=True)
class Ramp:
    """A number that goes along half a cosine from one value to another.

    Args:
        start: Value until the change begins.
        end: Value after it.
        steps: Steps that the change takes; 0 is a jump.
        wait: Steps before it.
    """

    start: float
    end: float
    steps: int
    wait: int = 0

    def __post_init__(self) -> None:
        if self.steps < 0 or self.wait < 0:
            raise ValueError(f"steps {self.steps} and wait {self.wait} must be at least 0: raise them")


def ramped(step: int, ramp: Ramp) -> float:
    """Value at the optimiser step number `step`, counted from 0."""
    if step < ramp.wait:
        return ramp.start
    done = min(1.0, (step - ramp.wait) / ramp.steps) if ramp.steps else 1.0
    return ramp.start + (ramp.end - ramp.start) * (1 - math.cos(math.pi * done)) / 2
