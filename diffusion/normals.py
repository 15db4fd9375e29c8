"""Diagonal Gaussians that networks say: draws, densities, divergences.

Letters: b batch; what follows b is of any shape.
"""

import math
from typing import NamedTuple

import torch
from torch import Tensor


class Normal(NamedTuple):
    """Independent Gaussians, one for each number.

    Attributes:
        mean: (b, ...).
        log_variance: (b, ...), in nats.
    """

    mean: Tensor
    log_variance: Tensor

    @classmethod
    def standard(cls, like: Tensor) -> "Normal":
        """N(0, 1) in the shape of `like`."""
        return cls(torch.zeros_like(like), torch.zeros_like(like))

    def at(self, noise: Tensor) -> Tensor:
        """The draw that this standard normal noise, of the shape of the mean, stands for."""
        return self.mean + (self.log_variance / 2).exp() * noise

    def draw(self, generator: torch.Generator) -> Tensor:
        """A draw; a CPU generator draws the same numbers for every device."""
        mean = self.mean
        noise = torch.randn(mean.shape, generator=generator, device=generator.device, dtype=mean.dtype)
        return self.at(noise.to(mean.device))

    def log_density(self, z: Tensor) -> Tensor:
        """Of z (b, ...), in nats: (b,)."""
        squares = (z - self.mean).square() * (-self.log_variance).exp()
        return -(squares + self.log_variance + math.log(2 * math.pi)).flatten(1).sum(1) / 2

    def divergence(self, other: "Normal") -> Tensor:
        """KL(self, other) in nats: (b,). It is no distance: KL(other, self) is another number."""
        gap = self.log_variance - other.log_variance
        squares = (self.mean - other.mean).square() * (-other.log_variance).exp()
        return (torch.expm1(gap) - gap + squares).flatten(1).sum(1) / 2
