"""gamma(t): how noisy a variational diffusion model is at each time, fixed or learned.

    gamma = log((1 - a) / a),   a = sigmoid(-gamma),   1 - a = sigmoid(gamma),   SNR = exp(-gamma)

Time runs from 0, where almost nothing is added, to 1, almost pure noise. Between, gamma may rise

    linear            in a straight line between two given ends
    learned linear    in a straight line whose ends are learned
    monotone          by a small network that cannot fall, between ends that are learned

T equal steps of it are tables of a process like any other (`schedule_of`). VDM also adds a little noise to
the picture before its first step, and calls that time 0; a `Schedule` calls the picture time 0. So T steps
here are T + 1 times there, and time t here is entry 1 + t T there.

Letters: a is alpha_bar; t time in [0, 1]; b batch, w inner units, T steps.

Source: Kingma et al. 2021, VDM, section 3.1, and appendix H for the network.
"""

import math
from dataclasses import dataclass
from typing import Literal

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from diffusion.schedules import Schedule


class Gamma(nn.Module):
    """gamma(t), (b,) of times (b,) in [0, 1], in the finer type of both; it rises."""

    def with_slope(self, t: Tensor) -> tuple[Tensor, Tensor]:
        """gamma and its derivative at times (b,); both have gradients if those are switched on."""
        learning = torch.is_grad_enabled()
        with torch.enable_grad():
            t = t.detach().requires_grad_()
            gamma = self(t)
            (slope,) = torch.autograd.grad(gamma.sum(), t, create_graph=learning)
        return (gamma, slope) if learning else (gamma.detach(), slope)


@dataclass(frozen=True, kw_only=True)
class Ends:
    """Where gamma begins and ends, or where what is learned of them begins.

    Args:
        first: gamma(0). At -13.3 noise is a sixth of the distance between two of 256 levels.
        last: gamma(1). At 5 less than a hundredth of the variance is picture.
    """

    first: float = -13.3
    last: float = 5.0

    def __post_init__(self) -> None:
        if not -math.inf < self.first < self.last < math.inf:
            raise ValueError(
                f"gamma from {self.first} to {self.last} does not rise: give finite ends, first below last, "
                "such as -13.3 and 5"
            )


@dataclass(frozen=True, kw_only=True)
class LinearGammaConfig(Ends):
    """A straight line, not learned.

    Args:
        kind: Names this gamma in recipes.
    """

    kind: Literal["linear"] = "linear"

    def build(self) -> Gamma:
        """The function."""
        return LinearGamma(self)


@dataclass(frozen=True, kw_only=True)
class LearnedLinearGammaConfig(Ends):
    """A straight line whose two ends are learned.

    Args:
        kind: Names this gamma in recipes.
    """

    kind: Literal["learned_linear"] = "learned_linear"

    def build(self) -> Gamma:
        """The function."""
        return LearnedLinearGamma(self)


@dataclass(frozen=True, kw_only=True)
class MonotoneGammaConfig(Ends):
    """A network of weights that are not negative; it begins almost as a straight line.

    Args:
        kind: Names this gamma in recipes.
        width: Inner units w.
    """

    kind: Literal["monotone"] = "monotone"
    width: int = 1024

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.width < 1:
            raise ValueError(f"gamma.width {self.width} is below 1: the paper has 1024")

    def build(self) -> Gamma:
        """The function, drawn from torch's global random numbers."""
        return MonotoneGamma(self)


# The first is what a mapping without `kind` means.
GammaConfig = LinearGammaConfig | LearnedLinearGammaConfig | MonotoneGammaConfig


class LinearGamma(Gamma):
    """first + (last - first) t."""

    def __init__(self, config: LinearGammaConfig) -> None:
        super().__init__()
        self.first, self.rise = config.first, config.last - config.first

    def forward(self, t: Tensor) -> Tensor:
        """(b,) of times (b,)."""
        return self.first + self.rise * t


class LearnedLinearGamma(Gamma):
    """first + |rise| t, both learned."""

    def __init__(self, config: Ends) -> None:
        super().__init__()
        self.first = nn.Parameter(torch.tensor([config.first]))
        self.rise = nn.Parameter(torch.tensor([config.last - config.first]))

    def forward(self, t: Tensor) -> Tensor:
        """(b,) of times (b,)."""
        return self.first + self.rise.abs() * t


class MonotoneGamma(LearnedLinearGamma):
    """first + |rise| (l(t) - l(0)) / (l(1) - l(0)), with l = l1 + l3 sigmoid(l2 l1) of weights of no sign.

    Products and sums are written out: autocast would compute matrix products in bfloat16, whose 8 bits are
    too few for gamma.
    """

    def __init__(self, config: MonotoneGammaConfig) -> None:
        super().__init__(config)
        self.slope = nn.Parameter(torch.ones(1))
        self.inner = nn.Parameter(torch.randn(config.width))
        self.bias = nn.Parameter(torch.randn(config.width))
        self.outer = nn.Parameter(torch.randn(config.width) / config.width)

    def forward(self, t: Tensor) -> Tensor:
        """(b,) of times (b,)."""
        start, end = self._unscaled(t.new_tensor([0.0])), self._unscaled(t.new_tensor([1.0]))
        return super().forward((self._unscaled(t) - start) / (end - start))

    def _unscaled(self, t: Tensor) -> Tensor:
        line = self.slope.abs() * t
        bent = (line[:, None] * self.inner.abs() + self.bias).sigmoid() * self.outer.abs()
        return line + bent.sum(1)


@torch.no_grad()
def schedule_of(gamma: Gamma, steps: int) -> Schedule:
    """T equal steps of gamma as the tables of a process of T + 1 times: entry 1 + i is time i / T.

    Args:
        gamma: Of a VDM.
        steps: T.

    Raises:
        ValueError: if steps are none.
    """
    values = gammas(gamma, steps)
    return Schedule(torch.cat((values.new_zeros(1), F.logsigmoid(-values))))


@torch.no_grad()
def gammas(gamma: Gamma, steps: int) -> Tensor:
    """(T + 1,) float64 on the CPU: gamma(0), gamma(1 / T), ..., gamma(1).

    Raises:
        ValueError: if steps are none.
    """
    if steps != int(steps) or steps < 1:
        raise ValueError(f"steps {steps} is no whole number from 1: a discrete-time VDM has 1000, or so")
    device = next((weight.device for weight in gamma.parameters()), "cpu")
    return gamma(torch.linspace(0, 1, int(steps) + 1, dtype=torch.float64, device=device)).cpu()
