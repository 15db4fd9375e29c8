"""Which times a training step sees, and what is known of the loss at each time.

    uniform       every time alike
    loss-aware    a time is drawn in proportion to the root of the mean square of its last losses, and weighs
                  so much less: the mean stays that of uniform times, its spread falls

The full bound needs the second: its terms differ by orders of magnitude between the first times and the
others. State is in buffers, for `Run.hold`, so that a run that goes on draws what it would have drawn. Over
several processes `learn` and `add` want the times and losses of all of them, gathered by who trains.

Letters: b batch, T steps of the process, t time, r losses remembered for each time.

Source: Nichol & Dhariwal 2021, section 3.3, eq. 18.
"""

from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor, nn


class UniformTimes(nn.Module):
    """Every time in 1..T alike.

    Args:
        steps: T.
    """

    def __init__(self, steps: int) -> None:
        super().__init__()
        self.steps = steps

    def draw(self, count: int, generator: torch.Generator) -> tuple[Tensor, Tensor]:
        """Times (count,) int64, and what their losses weigh, (count,) float32: 1. Both on the CPU."""
        times = torch.randint(1, self.steps + 1, (count,), generator=generator, device=generator.device)
        return times.cpu(), torch.ones(count)

    def learn(self, t: Tensor, losses: Tensor) -> None:
        """Nothing."""


class LossAwareTimes(nn.Module):
    """Times whose losses are large are drawn more often; uniform until each has all the losses it remembers.

    Args:
        steps: T.
        remembered: r, losses kept for each time.
        uniform: Share of draws that stay uniform, so that no time is forgotten.

    Raises:
        ValueError: if `remembered` is below 1, or `uniform` outside (0, 1].
    """

    def __init__(self, steps: int, remembered: int = 10, uniform: float = 0.001) -> None:
        if remembered < 1 or not 0 < uniform <= 1:
            raise ValueError(
                f"remembered {remembered} must be at least 1, and uniform {uniform} in (0, 1]: "
                "10 and 0.001 are usual"
            )
        super().__init__()
        self.steps, self.uniform = steps, uniform  # entry 0 of both tables is never used
        self.register_buffer("losses", torch.zeros(steps + 1, remembered, dtype=torch.float64))
        self.register_buffer("counts", torch.zeros(steps + 1, dtype=torch.int64))

    def chances(self) -> Tensor:
        """(T + 1,) float64, of each time; they sum to 1, and that of time 0 is 0."""
        chances = torch.ones(self.steps + 1, dtype=torch.float64)
        if (self.counts[1:] >= self.losses.shape[1]).all():
            chances = self.losses.cpu().square().mean(1).sqrt()
        chances[0] = 0
        if not chances.sum() > 0:  # every loss was 0
            chances[1:] = 1
        even = torch.full_like(chances, self.uniform / self.steps)
        even[0] = 0
        return chances / chances.sum() * (1 - self.uniform) + even

    def draw(self, count: int, generator: torch.Generator) -> tuple[Tensor, Tensor]:
        """Times (count,) int64, and what their losses weigh, (count,) float32. Both on the CPU."""
        chances = self.chances()
        device = generator.device
        times = torch.multinomial(chances.to(device), count, replacement=True, generator=generator).cpu()
        return times, (1 / (self.steps * chances[times])).float()

    def learn(self, t: Tensor, losses: Tensor) -> None:
        """Remember unweighted losses (b,) of times (b,); the oldest go, and none that is not finite comes."""
        room = self.losses.shape[1]
        for time, loss in zip(t.tolist(), losses.detach().double().cpu(), strict=True):
            if loss.isfinite():
                self.losses[time, self.counts[time] % room] = loss
                self.counts[time] += 1


Choice = UniformTimes | LossAwareTimes


@dataclass(frozen=True, kw_only=True)
class UniformConfig:
    """Every time alike.

    Args:
        kind: Names this choice in recipes.
    """

    kind: Literal["uniform"] = "uniform"

    def build(self, steps: int) -> UniformTimes:
        """For a process of so many steps."""
        return UniformTimes(steps)


@dataclass(frozen=True, kw_only=True)
class LossAwareConfig:
    """Times of large losses more often, which the full bound wants.

    Args:
        kind: Names this choice in recipes.
        remembered: Losses kept for each time.
        uniform: Share of draws that stay uniform.
    """

    kind: Literal["loss_aware"] = "loss_aware"
    remembered: int = 10
    uniform: float = 0.001

    def build(self, steps: int) -> LossAwareTimes:
        """For a process of so many steps."""
        return LossAwareTimes(steps, self.remembered, self.uniform)


Times = UniformConfig | LossAwareConfig  # the first is what a mapping without `kind` means


class LossLog(nn.Module):
    """Mean loss at each time since the last reset.

    Args:
        steps: T.
    """

    def __init__(self, steps: int) -> None:
        super().__init__()
        self.register_buffer("sums", torch.zeros(steps + 1, dtype=torch.float64))  # entry 0 is never used
        self.register_buffer("counts", torch.zeros(steps + 1, dtype=torch.int64))

    def add(self, t: Tensor, losses: Tensor) -> None:
        """Count unweighted losses (b,) of times (b,)."""
        t = t.to(self.counts.device)
        self.sums.index_add_(0, t, losses.detach().to(self.sums))
        self.counts.index_add_(0, t, torch.ones_like(t))

    def curve(self) -> Tensor:
        """(T + 1,) float64, mean loss at each time; NaN where there was none, as at 0."""
        return self.sums / self.counts

    def quarters(self) -> dict[str, float]:
        """Mean loss in each quarter of time, `q1` with the least noise; one without losses is left out."""
        steps = len(self.sums) - 1
        found = {}
        for quarter in range(4):
            part = slice(1 + quarter * steps // 4, 1 + (quarter + 1) * steps // 4)
            if count := int(self.counts[part].sum()):
                found[f"q{quarter + 1}"] = float(self.sums[part].sum()) / count
        return found

    def reset(self) -> None:
        """Forget all."""
        self.sums.zero_()
        self.counts.zero_()


def _check_shapes(state: dict[str, Tensor], own: dict[str, Tensor]) -> None:
    found = {name: tuple(value.shape) for name, value in state.items()}
    wanted = {name: tuple(value.shape) for name, value in own.items()}
    if found != wanted:
        raise ValueError(f"state holds {found}, not {wanted}: it is of a process of another number of steps")
