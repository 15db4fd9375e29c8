"""The variance of a step backwards, from x_t to x_s.

    small           of q(x_s | x_t, x_0): right if all pictures were one
    large           1 - a_t / a_s, beta at neighboring times: right if pictures were noise
    learned range   between both, pixel by pixel: log variance = f log large + (1 - f) log small, f in [0, 1]
                    when the network's second half, 2 f - 1, is in [-1, 1]

Of a step to time 0 the small and the large variance are both that of the posterior from 2 to 1, as DDPM has
it.

Letters: a is alpha_bar; t, s times with s < t; b batch, c h w picture.

Sources: Ho et al. 2020, DDPM, section 3.2; Nichol & Dhariwal 2021, eq. 15.
"""

from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor

from diffusion.gaussians import posterior_log_variance, shaped
from diffusion.schedules import Schedule, Times


@dataclass(frozen=True, kw_only=True)
class SmallVariance:
    """That of q(x_s | x_t, x_0)."""

    kind: Literal["small"] = "small"
    learned = False

    def log(self, schedule: Schedule, t: Times, s: Times, learned: Tensor) -> Tensor:
        """Log variance, in the shape of `learned`, which is not read."""
        return shaped(posterior_log_variance(schedule, t, s), learned) + torch.zeros_like(learned)


@dataclass(frozen=True, kw_only=True)
class LargeVariance:
    """That of q(x_t | x_s)."""

    kind: Literal["large"] = "large"
    learned = False

    def log(self, schedule: Schedule, t: Times, s: Times, learned: Tensor) -> Tensor:
        """Log variance, in the shape of `learned`, which is not read."""
        last = torch.as_tensor(s).cpu() == 0
        log = torch.where(last, posterior_log_variance(schedule, t, s), schedule.added(t, s).log())
        return shaped(log, learned) + torch.zeros_like(learned)


@dataclass(frozen=True, kw_only=True)
class LearnedRange:
    """Between both, said by the network in as many channels again."""

    kind: Literal["learned_range"] = "learned_range"
    learned = True

    def log(self, schedule: Schedule, t: Times, s: Times, learned: Tensor) -> Tensor:
        """Log variance of the second half of the network's output, (b, c, h, w): -1 is small, 1 large."""
        small = shaped(posterior_log_variance(schedule, t, s), learned)
        large = shaped(schedule.added(t, s).log(), learned)
        return small + (learned + 1) / 2 * (large - small)


Variance = LargeVariance | SmallVariance | LearnedRange  # the first is what a mapping without `kind` means
