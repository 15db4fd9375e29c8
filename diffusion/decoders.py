"""The last term of the bound, log p(x_0 | x_1): what a decoder gives to the very levels of a picture.

A density may be as large as it likes, so bits per dimension of pictures need probabilities: both discrete
decoders sum to 1 over 256 levels. The density is for data that are continuous, and for tests.

Letters: b batch, c h w picture, k level in [0, 256).

Sources: Ho et al. 2020, DDPM, eq. 13 (discretized Gaussian, open at both ends); Kingma et al. 2021, VDM,
section 3.3 (a softmax over levels).
"""

import math
from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor

from diffusion.gaussians import shaped
from diffusion.pixels import LEVELS, check_levels, levels, signed
from diffusion.process import Estimate
from diffusion.schedules import Schedule

HALF = 1 / (LEVELS - 1)  # half the distance between levels within [-1, 1]


@dataclass(frozen=True, kw_only=True)
class DiscretizedGaussian:
    """DDPM's: p(x_0 | x_1) is a Gaussian, and a level has what lies around it; the ends have all beyond."""

    kind: Literal["discretized_gaussian"] = "discretized_gaussian"

    def read(self, images: Tensor) -> Tensor:
        """x_0 of images in [0, 1] on 256 levels; raises ValueError for others."""
        return _levelled(images)

    def log_likelihood(self, schedule: Schedule, x_0: Tensor, x_1: Tensor, estimate: Estimate) -> Tensor:
        """(b, c, h, w) in nats, of pixels x_0 within [-1, 1]."""
        return discretized_gaussian(x_0, estimate.mean, estimate.log_variance)


@dataclass(frozen=True, kw_only=True)
class Softmax256:
    """VDM's: p(x_0 = level | x_1) is q(x_1 | level) over the sum of all levels'; no network says anything."""

    kind: Literal["softmax"] = "softmax"

    def read(self, images: Tensor) -> Tensor:
        """x_0 of images in [0, 1] on 256 levels; raises ValueError for others."""
        return _levelled(images)

    def log_likelihood(self, schedule: Schedule, x_0: Tensor, x_1: Tensor, estimate: Estimate) -> Tensor:
        """(b, c, h, w) in nats, of pixels x_0 within [-1, 1]; holds 256 numbers a pixel of one picture."""
        values = torch.arange(LEVELS, device=x_1.device, dtype=x_1.dtype) * (2 * HALF) - 1
        center = x_1 * shaped(schedule.kept(1).rsqrt(), x_1)
        snr = float(schedule.snr(1))
        scored = [(-snr / 2 * (one[..., None] - values).square()).log_softmax(-1) for one in center]
        return torch.stack(
            [one.gather(-1, k[..., None])[..., 0] for one, k in zip(scored, levels(x_0), strict=True)]
        )


@dataclass(frozen=True, kw_only=True)
class GaussianDensity:
    """For continuous data of any range, such as latents: a density, so bits may be below 0."""

    kind: Literal["density"] = "density"

    def read(self, images: Tensor) -> Tensor:
        """What was given."""
        return images

    def log_likelihood(self, schedule: Schedule, x_0: Tensor, x_1: Tensor, estimate: Estimate) -> Tensor:
        """(b, c, h, w) in nats, of real x_0."""
        squares = (x_0 - estimate.mean).square() * (-estimate.log_variance).exp()
        return -(squares + estimate.log_variance + math.log(2 * math.pi)) / 2


# The first is what a mapping without `kind` means.
Decoder = DiscretizedGaussian | Softmax256 | GaussianDensity


def discretized_gaussian(x_0: Tensor, mean: Tensor, log_variance: Tensor) -> Tensor:
    """Log of the probability of each pixel's level, in nats, in the shape of x_0 within [-1, 1].

    Exact far from the mean too: where both ends of a level's bin are above it, the bin is mirrored, so that
    two small tails are subtracted and not two numbers near 1; and the logs are subtracted, not what they are
    of.
    """
    scale = (-log_variance / 2).exp()
    low, high = (x_0 - HALF - mean) * scale, (x_0 + HALF - mean) * scale
    bottom, top = x_0 < -1 + HALF, x_0 > 1 - HALF
    mirrored = top | ((low + high > 0) & ~bottom)
    low, high = torch.where(mirrored, -high, low), torch.where(mirrored, -low, high)
    upper = _log_cdf(high)
    share = -torch.expm1(_log_cdf(low) - upper)
    # A Gaussian so wide that the bin's ends round to one must not give a logarithm of 0.
    share = share.clamp(min=torch.finfo(share.dtype).tiny)
    return upper + share.log().masked_fill(bottom | top, 0)


def _log_cdf(x: Tensor) -> Tensor:
    """Log of the normal distribution function, with a gradient that holds in the tail.

    That of torch.special.log_ndtr in float32 is 4 % off at x = -1000, and 0 from -1e6 on.
    """
    tail = x.clamp(max=-1)
    far = torch.special.erfcx(-tail / math.sqrt(2)).log() - math.log(2) - tail.square() / 2
    return torch.where(x < -1, far, torch.special.log_ndtr(x.clamp(min=-1)))


def _levelled(images: Tensor) -> Tensor:
    x_0 = signed(images)
    check_levels(x_0)
    return x_0
