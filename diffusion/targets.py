"""What a network predicts, and how the picture is computed from it.

    noise       eps                                              x_0 = (x_t - sqrt(1 - a) eps) / sqrt(a)
    image       x_0
    velocity    v = sqrt(a) eps - sqrt(1 - a) x_0                x_0 = sqrt(a) x_t - sqrt(1 - a) v
    mean        of q(x_{t-1} | x_t, x_0)                         x_0 = (mean - c_t x_t) / c_0

Given x_t all four say the same. How much an error of the output is one of the picture, d x_0 / d output, is
the target's `gain`: it turns a weight of errors of the picture into one of errors of the output.

Letters: a is alpha_bar_t; b batch, c h w picture; t time from 1 to T.

Sources: Ho et al. 2020 (noise, image, mean); Salimans & Ho 2022 (velocity).
"""

from dataclasses import dataclass
from typing import Literal

from torch import Tensor

from diffusion.gaussians import posterior_weights, shaped
from diffusion.schedules import Schedule, Times


@dataclass(frozen=True, kw_only=True)
class NoiseTarget:
    """The noise that is in x_t, of variance 1."""

    kind: Literal["noise"] = "noise"

    def of(self, schedule: Schedule, x_0: Tensor, noise: Tensor, t: Times) -> Tensor:
        """What the network should say."""
        return noise

    def image(self, schedule: Schedule, output: Tensor, x_t: Tensor, t: Times) -> Tensor:
        """x_0 according to the output."""
        kept, added = schedule.kept(t), schedule.added(t)
        return shaped(kept.rsqrt(), x_t) * x_t - shaped((added / kept).sqrt(), x_t) * output

    def gain(self, schedule: Schedule, t: Times) -> Tensor:
        """Absolute value of d x_0 / d output; () or (b,) float64."""
        return schedule.snr(t).rsqrt()


@dataclass(frozen=True, kw_only=True)
class ImageTarget:
    """The clean picture."""

    kind: Literal["image"] = "image"

    def of(self, schedule: Schedule, x_0: Tensor, noise: Tensor, t: Times) -> Tensor:
        """What the network should say."""
        return x_0

    def image(self, schedule: Schedule, output: Tensor, x_t: Tensor, t: Times) -> Tensor:
        """x_0 according to the output."""
        return output

    def gain(self, schedule: Schedule, t: Times) -> Tensor:
        """Absolute value of d x_0 / d output; () or (b,) float64."""
        return schedule.kept(t) ** 0


@dataclass(frozen=True, kw_only=True)
class VelocityTarget:
    """The noise and the picture, mixed so that neither end of time is hard to say."""

    kind: Literal["velocity"] = "velocity"

    def of(self, schedule: Schedule, x_0: Tensor, noise: Tensor, t: Times) -> Tensor:
        """What the network should say."""
        return shaped(schedule.kept(t).sqrt(), x_0) * noise - shaped(schedule.added(t).sqrt(), x_0) * x_0

    def image(self, schedule: Schedule, output: Tensor, x_t: Tensor, t: Times) -> Tensor:
        """x_0 according to the output."""
        return shaped(schedule.kept(t).sqrt(), x_t) * x_t - shaped(schedule.added(t).sqrt(), x_t) * output

    def gain(self, schedule: Schedule, t: Times) -> Tensor:
        """Absolute value of d x_0 / d output; () or (b,) float64."""
        return schedule.added(t).sqrt()


@dataclass(frozen=True, kw_only=True)
class MeanTarget:
    """The mean of the step from t to t - 1, were the picture known."""

    kind: Literal["mean"] = "mean"

    def of(self, schedule: Schedule, x_0: Tensor, noise: Tensor, t: Times) -> Tensor:
        """What the network should say."""
        image, noisy = posterior_weights(schedule, t, t - 1)
        from_image = image + noisy * schedule.kept(t).sqrt()
        return shaped(from_image, x_0) * x_0 + shaped(noisy * schedule.added(t).sqrt(), x_0) * noise

    def image(self, schedule: Schedule, output: Tensor, x_t: Tensor, t: Times) -> Tensor:
        """x_0 according to the output."""
        image, noisy = posterior_weights(schedule, t, t - 1)
        return shaped(1 / image, x_t) * output - shaped(noisy / image, x_t) * x_t

    def gain(self, schedule: Schedule, t: Times) -> Tensor:
        """Absolute value of d x_0 / d output; () or (b,) float64."""
        return 1 / posterior_weights(schedule, t, t - 1)[0]


# The first is what a mapping without `kind` means.
Target = NoiseTarget | ImageTarget | VelocityTarget | MeanTarget


def noise_in(schedule: Schedule, x_0: Tensor, x_t: Tensor, t: Times) -> Tensor:
    """The noise that leads from x_0 to x_t."""
    kept, added = schedule.kept(t), schedule.added(t)
    return shaped(added.rsqrt(), x_t) * x_t - shaped((kept / added).sqrt(), x_t) * x_0


def convert(
    schedule: Schedule, output: Tensor, x_t: Tensor, t: Times, source: Target, goal: Target
) -> Tensor:
    """What a network of the target `goal` would say in the place of this output of one of `source`.

    Args:
        schedule: Of the process.
        output: (b, c, h, w).
        x_t: (b, c, h, w).
        t: One time, or (b,).
        source: What the output is.
        goal: What is wanted.
    """
    schedule.check(t)
    x_0 = source.image(schedule, output, x_t, t)
    return goal.of(schedule, x_0, noise_in(schedule, x_0, x_t, t), t)
