"""A diffusion process: a schedule, what the network predicts, and the variance of its steps backwards.

    p(x_s | x_t) = N(mean of q(x_s | x_t, estimate of x_0), variance)

Letters: b batch, c h w picture; t, s times with s < t; o channels of the network's output, c or 2 c.

Sources: Ho et al. 2020, DDPM; Nichol & Dhariwal 2021.
"""

from dataclasses import dataclass, field
from typing import NamedTuple

import torch
from torch import Tensor

from diffusion.corrections import Correction
from diffusion.gaussians import diffuse, posterior_mean
from diffusion.schedules import LinearConfig, Schedule, ScheduleConfig, Times
from diffusion.targets import NoiseTarget, Target, noise_in
from diffusion.variances import LargeVariance, Variance


class Estimate(NamedTuple):
    """What an output of the network says at x_t; each (b, c, h, w), in float32 or better.

    Attributes:
        image: Of x_0, after the correction if there is one.
        noise: That leads from `image` to x_t.
        mean: Of p(x_s | x_t).
        log_variance: Of p(x_s | x_t).
    """

    image: Tensor
    noise: Tensor
    mean: Tensor
    log_variance: Tensor


@dataclass(frozen=True, kw_only=True)
class ProcessConfig:
    """A diffusion process; the defaults are DDPM's.

    Args:
        schedule: How much of a picture is left at each time.
        target: What the network predicts.
        variance: Of a step backwards.
    """

    schedule: ScheduleConfig = field(default_factory=LinearConfig)
    target: Target = field(default_factory=NoiseTarget)
    variance: Variance = field(default_factory=LargeVariance)

    def build(self) -> "Process":
        """The process."""
        return Process(self.schedule.build(), self.target, self.variance)


class Process:
    """Schedule, target and variance, and what follows from the three of them.

    Args:
        schedule: Tables over times 0..T.
        target: What the network predicts.
        variance: Of a step backwards.
    """

    def __init__(self, schedule: Schedule, target: Target, variance: Variance) -> None:
        self.schedule, self.target, self.variance = schedule, target, variance

    @property
    def steps(self) -> int:
        """T."""
        return self.schedule.steps

    def channels(self, channels: int) -> int:
        """Channels the network gives for pictures of so many: twice as many where it says variances."""
        return channels * (1 + self.variance.learned)

    def diffuse(self, x_s: Tensor, t: Times, noise: Tensor, s: Times = 0) -> Tensor:
        """A draw of q(x_t | x_s), from noise of the shape of x_s: see `diffusion.gaussians.diffuse`."""
        return diffuse(self.schedule, x_s, t, noise, s)

    def halves(self, output: Tensor, x_t: Tensor) -> tuple[Tensor, Tensor]:
        """Prediction and what is said of the variance, (b, c, h, w) each, in float32 or better.

        The second is the first again where variances are not learned: nobody reads it.

        Raises:
            ValueError: if the output has another shape than (b, o, h, w).
        """
        b, c, *size = x_t.shape
        if output.shape != (b, self.channels(c), *size):
            raise ValueError(
                f"the network's output is {tuple(output.shape)}, not {(b, self.channels(c), *size)}: "
                f"variance '{self.variance.kind}' wants {self.channels(c)} channels for pictures of {c}"
            )
        output = output.to(torch.promote_types(output.dtype, torch.float32))
        return (output[:, :c], output[:, c:]) if self.variance.learned else (output, output)

    def split(
        self,
        output: Tensor,
        x_t: Tensor,
        t: Times,
        s: Times | None = None,
        correction: Correction | None = None,
    ) -> Estimate:
        """What the network's output says of the picture, the noise, and the step from t to s.

        Args:
            output: (b, o, h, w).
            x_t: (b, c, h, w).
            t: One time, or (b,).
            s: Where the step goes; None is t - 1.
            correction: What is done to the estimate of x_0 before all else is computed from it.

        Raises:
            ValueError: if not 0 <= s < t <= T, or the output has another shape.
        """
        s = t - 1 if s is None else s
        self.schedule.check_pair(t, s)
        prediction, learned = self.halves(output, x_t)
        x_t = x_t.to(prediction.dtype)
        image = self.target.image(self.schedule, prediction, x_t, t)
        if correction is not None:
            image = correction(image)
        return Estimate(
            image=image,
            noise=noise_in(self.schedule, image, x_t, t),
            mean=posterior_mean(self.schedule, x_t, image, t, s),
            log_variance=self.variance.log(self.schedule, t, s, learned),
        )
