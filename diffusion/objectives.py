"""What a diffusion network is trained to do: four losses, picture by picture.

    simple         E (target - output)^2                                        DDPM's L_simple: not the bound
    min-SNR        the same, times min(SNR, gamma) in errors of the picture
    hybrid         simple + 0.001 x bound, where the bound teaches variances only
    variational    the bound itself, but for prior matching, which nothing is learned from

The weight of min-SNR is one of errors of x_0. An error of the output is one of x_0 times the target's gain,
so the weight is min(SNR, gamma) gain^2, whatever the target: min(SNR, gamma) / SNR for noise, min(SNR, gamma)
for the image, min(SNR, gamma) / (SNR + 1) for velocity.

Outputs become float32 before any loss is computed, whatever autocast says.

Letters: b batch, c h w picture, o channels of output, t time, T steps of the process.

Sources: Ho et al. 2020, DDPM, eq. 14; Hang et al. 2023, min-SNR; Nichol & Dhariwal 2021, eq. 16, and its code
for the scale of the hybrid (bits per dimension, times T).
"""

import math
from dataclasses import dataclass
from typing import Literal, NamedTuple

import torch
from torch import Tensor

from diffusion.conditioning import Network, conditioned
from diffusion.likelihood import term_of
from diffusion.noise import Noise
from diffusion.pixels import signed
from diffusion.process import Process
from diffusion.times import Choice
from diffusion.variances import LearnedRange


@dataclass(frozen=True, kw_only=True)
class Simple:
    """Mean squared error of the output.

    Args:
        kind: Names this objective in recipes.
    """

    kind: Literal["simple"] = "simple"

    def check(self, process: Process) -> None:
        """Raise a ValueError if this objective cannot train such a network."""
        _check_fixed(process, self.kind)

    def __call__(
        self, process: Process, output: Tensor, x_0: Tensor, x_t: Tensor, t: Tensor, noise: Tensor
    ) -> Tensor:
        """(b,) of an output (b, o, h, w)."""
        return _squares(process, process.halves(output, x_t)[0], x_0, t, noise)


@dataclass(frozen=True, kw_only=True)
class MinSNR:
    """Mean squared error, with the weight of low noise cut.

    Args:
        kind: Names this objective in recipes.
        gamma: Where the signal-to-noise ratio is cut.
    """

    kind: Literal["min_snr"] = "min_snr"
    gamma: float = 5.0

    def __post_init__(self) -> None:
        if not self.gamma > 0:
            raise ValueError(f"gamma {self.gamma} is not above 0: 5 is the paper's")

    def check(self, process: Process) -> None:
        """Raise a ValueError if this objective cannot train such a network."""
        _check_fixed(process, self.kind)

    def weight(self, process: Process, t: Tensor) -> Tensor:
        """(b,) float64, of squared errors of the output at times t."""
        gain = process.target.gain(process.schedule, t)
        return process.schedule.snr(t).clamp(max=self.gamma) * gain.square()

    def __call__(
        self, process: Process, output: Tensor, x_0: Tensor, x_t: Tensor, t: Tensor, noise: Tensor
    ) -> Tensor:
        """(b,) of an output (b, o, h, w)."""
        squares = _squares(process, process.halves(output, x_t)[0], x_0, t, noise)
        return self.weight(process, t).to(squares.device, squares.dtype) * squares


@dataclass(frozen=True, kw_only=True)
class Hybrid:
    """Mean squared error teaches the mean, a little of the bound teaches the variances.

    Args:
        kind: Names this objective in recipes.
        weight: Of the bound, which is T times a time's term, in bits per dimension.
    """

    kind: Literal["hybrid"] = "hybrid"
    weight: float = 0.001

    def __post_init__(self) -> None:
        if not 0 < self.weight < math.inf:
            raise ValueError(f"weight {self.weight} is outside (0, inf): 0.001 is the paper's")

    def check(self, process: Process) -> None:
        """Raise a ValueError if this objective cannot train such a network."""
        if not isinstance(process.variance, LearnedRange):
            raise ValueError(
                f"objective 'hybrid' teaches variances, and '{process.variance.kind}' learns none: "
                "take variance 'learned_range', or objective 'simple'"
            )

    def __call__(
        self, process: Process, output: Tensor, x_0: Tensor, x_t: Tensor, t: Tensor, noise: Tensor
    ) -> Tensor:
        """(b,) of an output (b, o, h, w)."""
        prediction, learned = process.halves(output, x_t)
        bits = term_of(process, torch.cat((prediction.detach(), learned), 1), x_0, x_t, t)
        return _squares(process, prediction, x_0, t, noise) + self.weight * process.steps * bits


@dataclass(frozen=True, kw_only=True)
class Variational:
    """The bound: T times a time's term; over uniform times, reconstruction and denoising matching.

    Args:
        kind: Names this objective in recipes.
    """

    kind: Literal["variational"] = "variational"

    def check(self, process: Process) -> None:
        """Nothing: every network can be trained by the bound."""

    def __call__(
        self, process: Process, output: Tensor, x_0: Tensor, x_t: Tensor, t: Tensor, noise: Tensor
    ) -> Tensor:
        """(b,) of an output (b, o, h, w), in bits per dimension."""
        return process.steps * term_of(process, output, x_0, x_t, t)


Objective = Simple | MinSNR | Hybrid | Variational  # the first is what a mapping without `kind` means


class Losses(NamedTuple):
    """Of one batch.

    Attributes:
        t: (b,) int64 on the CPU, the times that were drawn.
        values: (b,) float32, each picture's loss, before weights: what logs and loss-aware times want.
        weights: (b,) float32, what makes the mean that of uniform times.
    """

    t: Tensor
    values: Tensor
    weights: Tensor

    @property
    def mean(self) -> Tensor:
        """(), what is minimized."""
        return (self.values * self.weights).mean()


def losses(
    objective: Objective,
    process: Process,
    network: Network,
    images: Tensor,
    times: Choice,
    generator: torch.Generator,
    labels: Tensor | None = None,
) -> Losses:
    """A batch's losses, at times and with noise of this generator.

    Args:
        objective: What is minimized.
        process: Schedule, target and variance.
        network: (x_t, t, labels) -> output (b, o, h, w).
        images: (b, c, h, w) in [0, 1].
        times: Which times are drawn.
        generator: Of times and noise.
        labels: (b,) int64, for a network that knows classes, and leaves some out by itself while training.

    Raises:
        ValueError: if images or labels are wrong, or objective, process and times do not go together.
    """
    objective.check(process)
    if times.steps != process.steps:
        raise ValueError(f"times up to {times.steps} for a process of {process.steps} steps: give equal ones")
    x_0 = signed(images)
    ask = conditioned(network, labels, None, len(x_0))
    t, weights = times.draw(len(x_0), generator)
    noise = Noise(x_0.shape, generator, x_0.device, x_0.dtype).draw()
    x_t = process.diffuse(x_0, t, noise)
    values = objective(process, ask(x_t, t), x_0, x_t, t, noise)
    return Losses(t, values, weights.to(values.device))


def _squares(process: Process, prediction: Tensor, x_0: Tensor, t: Tensor, noise: Tensor) -> Tensor:
    wanted = process.target.of(process.schedule, x_0, noise, t)
    return (prediction - wanted).square().flatten(1).mean(1)


def _check_fixed(process: Process, kind: str) -> None:
    if process.variance.learned:
        raise ValueError(
            f"objective '{kind}' teaches no variances, and '{process.variance.kind}' must learn them: "
            "take objective 'hybrid' or 'variational', or variance 'large'"
        )
