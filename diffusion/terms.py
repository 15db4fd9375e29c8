"""The three terms of a variational bound, which VAE, hierarchical VAE and diffusion have under one name.

    reconstruction    E[-log p(x | z_1)]
    prior             what the last latent still tells of the picture, against N(0, 1)
    denoising         what the steps between cost; a VAE has none

Letters: b batch.

Source: Luo 2022, "Understanding Diffusion Models"; `diffusion.likelihood.Bound` is the same with a curve over
time.
"""

import math
from typing import NamedTuple

from torch import Tensor


class Terms(NamedTuple):
    """Terms of the bound on -log2 p(x), in bits per dimension of x.

    Attributes:
        reconstruction: (b,).
        prior: (b,), prior matching.
        denoising: (b,), denoising matching; in a hierarchical VAE also called consistency.
    """

    reconstruction: Tensor
    prior: Tensor
    denoising: Tensor

    @property
    def total(self) -> Tensor:
        """(b,), the bound of each picture."""
        return self.reconstruction + self.prior + self.denoising

    @property
    def mean(self) -> float:
        """Of all pictures."""
        return float(self.total.double().mean())

    @property
    def standard_error(self) -> float:
        """Of the mean, for the spread of pictures and draws together; NaN of a single picture."""
        return float(self.total.double().std() / math.sqrt(len(self.total)))


def bits(nats: Tensor, x: Tensor) -> Tensor:
    """Nats of whole pictures (b,) as bits per dimension of x (b, ...)."""
    return nats / (x[0].numel() * math.log(2))
