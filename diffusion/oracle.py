"""A network that is never wrong: for data of independent Gaussian pixels the best output is a formula.

Every sampler and every bound can be tried on it, without data or training, against answers known beforehand.

    x_0 ~ N(mu, v):   E[x_0 | x_t] = mu + k (x_t - sqrt(a) mu),    k = sqrt(a) v / (a v + 1 - a)
                      Var[x_0 | x_t] = v (1 - a) / (a v + 1 - a)
    p(x_s | x_t) = E[q(x_s | x_t, x_0) | x_t] is Gaussian too: posterior variance + c_0^2 Var[x_0 | x_t]

Letters: a is alpha_bar_t; b batch, c h w picture; t time from 1 to T.
"""

import math

import torch
from torch import Tensor

from diffusion.gaussians import posterior_log_variance, posterior_variance, posterior_weights, shaped
from diffusion.process import Process
from diffusion.targets import noise_in


class GaussianOracle:
    """A `Network` for x_0 ~ N(mean, variance), every pixel by itself.

    Args:
        process: Its target and variance say what is answered.
        mean: (c, h, w), or what broadcasts to it.
        variance: (c, h, w), or what broadcasts to it. Up to 1 each, the learned range holds the true variance
            of every step.
    """

    def __init__(self, process: Process, mean: Tensor, variance: Tensor) -> None:
        self.process, self.mean, self.variance = process, mean, variance

    def sample(self, count: int, generator: torch.Generator) -> Tensor:
        """(count, c, h, w), x_0."""
        mean, variance = torch.broadcast_tensors(self.mean, self.variance)
        noise = torch.randn(count, *mean.shape, generator=generator, dtype=mean.dtype)
        return mean + variance.sqrt() * noise

    def log_likelihood(self, x_0: Tensor) -> Tensor:
        """(b,), in nats."""
        squares = (x_0 - self.mean).square() / self.variance
        return -(squares + self.variance.log() + math.log(2 * math.pi)).flatten(1).sum(1) / 2

    def __call__(self, x_t: Tensor, t: Tensor, labels: Tensor | None = None) -> Tensor:
        """What a network that cannot be better says, (b, o, h, w)."""
        schedule, target = self.process.schedule, self.process.target
        kept, added = shaped(schedule.kept(t), x_t), shaped(schedule.added(t), x_t)
        spread = kept * self.variance + added
        x_0 = self.mean + kept.sqrt() * self.variance / spread * (x_t - kept.sqrt() * self.mean)
        output = target.of(schedule, x_0, noise_in(schedule, x_0, x_t, t), t)
        if not self.process.variance.learned:
            return output
        weight = shaped(posterior_weights(schedule, t, t - 1)[0], x_t)
        known = shaped(posterior_variance(schedule, t, t - 1), x_t)
        true = known + weight**2 * self.variance * added / spread
        small = shaped(posterior_log_variance(schedule, t, t - 1), x_t)
        large = shaped(schedule.added(t, t - 1).log(), x_t)
        learned = 2 * (true.log() - small) / (large - small) - 1
        return torch.cat((output, learned.expand_as(output)), 1)
