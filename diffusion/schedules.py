"""How much of a picture is left at each time: tables of a diffusion process, in float64.

Time runs from 0, the clean picture, to T, almost pure noise. Every table has T + 1 entries, and entry t
belongs to time t, so that nothing anywhere subtracts one. (Published networks count 0 for our time 1; who
runs one converts there, and nowhere else.)

    x_t = sqrt(alpha_bar_t) x_0 + sqrt(1 - alpha_bar_t) noise,    alpha_bar_0 = 1
    beta_t = 1 - alpha_bar_t / alpha_bar_{t-1}

What is stored is log alpha_bar: 1 - alpha_bar, which is 1e-4 at first, then has all its digits.

Letters: T steps, t time, b batch.

Sources: Ho et al. 2020, DDPM (linear); Nichol & Dhariwal 2021 (cosine, eq. 17, and the linear schedule
rescaled by 1000/T); Rombach et al. 2022 (linear in the square root of beta); Jabri et al. 2022 and Chen 2023
(sigmoid).
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor

Times = int | Tensor  # one time for the whole batch, or (b,) int64: best on the CPU, where the tables are
LARGEST = 0.999  # beta of schedules that would end in pure noise, where no picture could be computed from it


class Schedule:
    """Tables over times 0..T.

    Args:
        log_alpha_bar: (T + 1,) float64 that starts at 0 and falls: log of the share of the picture's
            variance.

    Attributes:
        steps: T.
        log_alpha_bar: As given.
        alpha_bar: (T + 1,) float64, from 1 to almost 0.
        betas: (T + 1,) float64, variance added from t - 1 to t; entry 0 is 0.

    Raises:
        ValueError: if that is no such table, or T < 2.
    """

    def __init__(self, log_alpha_bar: Tensor) -> None:
        table = log_alpha_bar
        if table.ndim != 1 or len(table) < 3 or table.dtype != torch.float64:
            raise ValueError(
                f"log_alpha_bar is {tuple(table.shape)} {table.dtype}: give (T + 1,) float64, T at least 2"
            )
        if table[0] != 0 or not table.isfinite().all() or not (table.diff() < 0).all():
            raise ValueError(
                "log_alpha_bar must start at 0, stay finite and fall at every step: "
                "every beta must lie between 0 and 1, both excluded"
            )
        self.steps = len(table) - 1
        self.log_alpha_bar = table
        self.alpha_bar = table.exp()
        self.betas = torch.cat((table.new_zeros(1), -torch.expm1(table.diff())))

    @classmethod
    def of_betas(cls, betas: Tensor) -> "Schedule":
        """From betas of times 1..T, (T,) float64.

        Raises:
            ValueError: if one is not between 0 and 1, both excluded.
        """
        if not ((betas > 0) & (betas < 1)).all():
            raise ValueError(
                f"betas reach from {float(betas.min()):.4g} to {float(betas.max()):.4g}, not within (0, 1): "
                "take more steps, or smaller betas"
            )
        return cls(torch.cat((betas.new_zeros(1), torch.log1p(-betas).cumsum(0))))

    def respaced(self, times: Sequence[int]) -> "Schedule":
        """The schedule of a process that knows these rising times only, which become its 1, 2, ..."""
        self.check(torch.tensor([*times]))
        return Schedule(self.log_alpha_bar[[0, *times]])

    def kept(self, t: Times, s: Times = 0) -> Tensor:
        """alpha_bar_t / alpha_bar_s: the share of variance that is left of x_s in x_t; () or (b,) float64."""
        return (self._at(t) - self._at(s)).exp()

    def added(self, t: Times, s: Times = 0) -> Tensor:
        """1 - alpha_bar_t / alpha_bar_s: the variance added from s to t; () or (b,) float64."""
        return -torch.expm1(self._at(t) - self._at(s))

    def snr(self, t: Times) -> Tensor:
        """alpha_bar_t / (1 - alpha_bar_t), of times from 1; () or (b,) float64."""
        return self.kept(t) / self.added(t)

    def check(self, t: Times, first: int = 1) -> None:
        """Raise a ValueError unless every time is a whole number in [first, T]."""
        if isinstance(t, int) and first <= t <= self.steps:
            return  # the usual case of a sampler, and a hundred times faster
        times = torch.as_tensor(t)
        if times.is_floating_point() or times.dtype == torch.bool or not times.numel():
            raise ValueError(f"t is {times.dtype} of shape {tuple(times.shape)}: give whole numbers")
        low, high = int(times.min()), int(times.max())
        if low < first or high > self.steps:
            wrong = low if low < first else high
            raise ValueError(
                f"t {wrong} is outside [{first}, {self.steps}]: "
                f"time 0 is the clean picture, time {self.steps} almost pure noise"
            )

    def check_pair(self, t: Times, s: Times) -> None:
        """Raise a ValueError unless 0 <= s < t <= T everywhere."""
        self.check(t)
        self.check(s, first=0)
        if isinstance(t, int) and isinstance(s, int) and s < t:
            return
        if not (torch.as_tensor(s).cpu() < torch.as_tensor(t).cpu()).all():
            raise ValueError(f"s {s} is not before t {t}: a step goes from the noisier t to the cleaner s")

    def _at(self, t: Times) -> Tensor:
        return self.log_alpha_bar[t if isinstance(t, int) else t.cpu()]


@dataclass(frozen=True, kw_only=True)
class LinearConfig:
    """Betas in a straight line, times 1000 / steps: DDPM's at 1000 steps, as noisy at the end with others.

    Args:
        kind: Names this schedule in recipes.
        steps: T.
        first: beta_1, if T were 1000.
        last: beta_T, if T were 1000.
    """

    kind: Literal["linear"] = "linear"
    steps: int = 1000
    first: float = 1e-4
    last: float = 0.02

    def __post_init__(self) -> None:
        _check(self.steps, self.first, self.last, 1000 / self.steps if self.steps else 1)

    def build(self) -> Schedule:
        """Its tables."""
        scale = 1000 / self.steps
        line = torch.linspace(scale * self.first, scale * self.last, self.steps, dtype=torch.float64)
        return Schedule.of_betas(line)


@dataclass(frozen=True, kw_only=True)
class ScaledLinearConfig:
    """Square roots of betas in a straight line, latent diffusion's; not rescaled with the number of steps.

    Args:
        kind: Names this schedule in recipes.
        steps: T.
        first: beta_1.
        last: beta_T.
    """

    kind: Literal["scaled_linear"] = "scaled_linear"
    steps: int = 1000
    first: float = 0.00085
    last: float = 0.012

    def __post_init__(self) -> None:
        _check(self.steps, self.first, self.last, 1)

    def build(self) -> Schedule:
        """Its tables."""
        roots = torch.linspace(self.first**0.5, self.last**0.5, self.steps, dtype=torch.float64)
        return Schedule.of_betas(roots.square())


@dataclass(frozen=True, kw_only=True)
class CosineConfig:
    """alpha_bar falls like a squared cosine: slower at first, so that less of the chain is almost pure noise.

    Args:
        kind: Names this schedule in recipes.
        steps: T.
        offset: The paper's s, which keeps the first betas from being too small to matter.
    """

    kind: Literal["cosine"] = "cosine"
    steps: int = 1000
    offset: float = 0.008

    def __post_init__(self) -> None:
        _check_steps(self.steps)
        if not 0 <= self.offset < math.inf:
            raise ValueError(f"offset {self.offset} is outside [0, inf): 0.008 is the paper's")

    def build(self) -> Schedule:
        """Its tables."""
        time = torch.arange(self.steps + 1, dtype=torch.float64) / self.steps
        return _falling(((time + self.offset) / (1 + self.offset) * math.pi / 2).cos().square())


@dataclass(frozen=True, kw_only=True)
class SigmoidConfig:
    """alpha_bar falls like a sigmoid from `start` to `end`, stretched to reach from 1 to 0.

    Args:
        kind: Names this schedule in recipes.
        steps: T.
        start: Where on the sigmoid time 0 is.
        end: Where time T is.
        temperature: Below 1 it falls more steeply in the middle.
    """

    kind: Literal["sigmoid"] = "sigmoid"
    steps: int = 1000
    start: float = -3.0
    end: float = 3.0
    temperature: float = 1.0

    def __post_init__(self) -> None:
        _check_steps(self.steps)
        if not self.start < self.end or not self.temperature > 0:
            raise ValueError(
                f"a sigmoid from {self.start} to {self.end} at temperature {self.temperature} does not fall: "
                "give start < end and temperature > 0, such as -3, 3 and 1"
            )

    def build(self) -> Schedule:
        """Its tables."""
        place = torch.linspace(self.start, self.end, self.steps + 1, dtype=torch.float64) / self.temperature
        left = place[-1].sigmoid() - place.sigmoid()
        return _falling(left / left[0])


# The first is what a mapping without `kind` means.
ScheduleConfig = LinearConfig | CosineConfig | SigmoidConfig | ScaledLinearConfig


def _falling(alpha_bar: Tensor) -> Schedule:
    """The schedule whose alpha_bar has these ratios, no beta above the largest."""
    return Schedule.of_betas((1 - alpha_bar[1:] / alpha_bar[:-1]).clamp(max=LARGEST))


def _check_steps(steps: int) -> None:
    if steps != int(steps) or steps < 2:
        raise ValueError(f"steps {steps} is no whole number from 2: 1000 is usual")


def _check(steps: int, first: float, last: float, scale: float) -> None:
    _check_steps(steps)
    if not 0 < first <= last:
        raise ValueError(f"betas from {first} to {last} do not rise from above 0: 1e-4 and 0.02 are DDPM's")
    if not last * scale < 1:
        raise ValueError(
            f"steps {steps} make the last beta {last * scale:.4g}, which must be below 1: "
            f"take at least {int(last * scale * steps) + 1} steps, a smaller beta, or the cosine schedule"
        )
