"""The variational autoencoder: a picture from one draw of latents.

    log p(x) >= E[log p(x | z)] - KL(q(z | x), N(0, 1)),   z from q(z | x)
                reconstruction    prior matching

The decoder gives probabilities to the 256 levels of a pixel, not a density, so that the bound is bits per
dimension as everywhere else. It is a chain of one level (`diffusion.chains`).

Letters: b pictures, c h w a picture, z channels of latents, i j their grid, k samples.

Sources: Kingma & Welling 2014; Burda et al. 2016 (importance-weighted bound).
"""

from dataclasses import dataclass, field
from typing import Literal

import torch
from torch import Tensor, nn

from diffusion.chains import climb, importance_weighted
from diffusion.decoders import DiscretizedGaussian, discretized_gaussian
from diffusion.levels import Down, LevelConfig, Up
from diffusion.normals import Normal
from diffusion.pixels import unsigned
from diffusion.terms import Terms, bits
from vqtok.storage.pretrained import Pretrained
from vqtok.training.batches import seed_of


@dataclass(frozen=True, kw_only=True)
class Pictures:
    """Which pictures a model is of.

    Args:
        size: Height and width, in pixels.
        channels: Of the pictures.
    """

    size: int = 32
    channels: int = 3

    def __post_init__(self) -> None:
        for name in ("size", "channels"):
            if getattr(self, name) < 1:
                raise ValueError(f"{name} is {getattr(self, name)}, the least is 1: raise it")

    def read(self, images: Tensor) -> Tensor:
        """x_0 (b, c, h, w) within [-1, 1] of images in [0, 1] on 256 levels.

        Raises:
            ValueError: if they are of another shape or range, or lie between the levels.
        """
        if images.shape[1:] != (self.channels, self.size, self.size):
            raise ValueError(
                f"images are {tuple(images.shape)}, the model's (b, {self.channels}, {self.size}, "
                f"{self.size}): resize them, or build a model of that size"
            )
        return DiscretizedGaussian().read(images)


@dataclass(frozen=True, kw_only=True)
class VAEConfig(Pictures):
    """Shape of one VAE.

    Args:
        kind: Names this model in recipes.
        level: Encoder and decoder.
    """

    kind: Literal["vae"] = "vae"
    level: LevelConfig = field(default_factory=lambda: LevelConfig(multipliers=(1, 2, 2), latent=16))

    def __post_init__(self) -> None:
        super().__post_init__()
        check_sizes(self.size, [self.level])

    def build(self) -> "VAE":
        """The model, drawn from torch's global random numbers."""
        return VAE(self)


class VAE(nn.Module, Pretrained):
    """Encoder q(z | x) and decoder p(x | z); N(0, 1) is what z is of before a picture is seen."""

    levels = 1

    def __init__(self, config: VAEConfig) -> None:
        super().__init__()
        self.config = config
        self.encoder = Up(config.level, config.channels)
        self.decoder = Down(config.level, config.channels)

    def forward(self, images: Tensor, generator: torch.Generator) -> Terms:
        """The bound of images (b, c, h, w) in [0, 1], one draw of z each, with gradients.

        Losses stand here and not beside, because autocast and several processes want one call; what the
        networks say is float32 before any of it is computed.
        """
        x = self.config.read(images)
        posterior = self.encoder(x)
        z = posterior.draw(generator)
        return Terms(
            reconstruction=bits(-self.log_likelihood(x, z), x),
            prior=bits(posterior.divergence(Normal.standard(z)), x),
            denoising=x.new_zeros(len(x)),
        )

    def up(self, below: Tensor, level: int) -> Normal:
        """q(z | x) of x within [-1, 1]."""
        return self.encoder(below)

    def down(self, above: Tensor, level: int) -> Normal:
        """Nothing: there is no level above the first."""
        raise ValueError(f"level {level} of a VAE: it has one, and below it is the picture")

    def log_likelihood(self, x: Tensor, latents: Tensor) -> Tensor:
        """log p(x | z) in nats: (b,)."""
        return levels_log_likelihood(x, self.decoder(latents))

    @torch.no_grad()
    def elbo(self, images: Tensor, seed: int = 0) -> Terms:
        """The bound on -log2 p(images) per dimension, on the CPU.

        Args:
            images: (b, c, h, w) in [0, 1] on 256 levels.
            seed: Of the draws of z.

        Raises:
            ValueError: if the images are not the model's.
        """
        # The class's own `forward`, without the autocast that a trainer may have put around this model's.
        found = VAE.forward(self, images.to(device_of(self)), torch.Generator().manual_seed(seed))
        return Terms(*(term.cpu() for term in found))

    @torch.no_grad()
    def importance_weighted(self, images: Tensor, count: int = 100, seed: int = 0) -> Tensor:
        """A tighter bound than `elbo`, (b,) bits per dimension: that of k draws of z together.

        Args:
            images: (b, c, h, w) in [0, 1] on 256 levels.
            count: k; one draw after another, so that memory does not grow.
            seed: Of the draws.

        Raises:
            ValueError: if the images are not the model's, or k is below 1.
        """
        x = self.config.read(images.to(device_of(self)))
        return importance_weighted(self, x, torch.Generator().manual_seed(seed), count).cpu()

    @torch.no_grad()
    def reconstruct(self, images: Tensor, seed: int = 0) -> Tensor:
        """What the decoder makes of a draw of q(z | x), (b, c, h, w) in [0, 1]: its mean.

        Raises:
            ValueError: if the images are not the model's.
        """
        x = self.config.read(images.to(device_of(self)))
        (z,) = climb(self, x, torch.Generator().manual_seed(seed))
        return unsigned(self.decoder(z).mean)

    @torch.no_grad()
    def sample(self, count: int, seed: int = 0) -> Tensor:
        """Pictures (count, c, h, w) in [0, 1]: the mean of p(x | z), z drawn from N(0, 1).

        Args:
            count: How many; of one seed, the first are the same whatever the count.
            seed: Of the draws.

        Raises:
            ValueError: if there are none to draw.
        """
        side = self.config.size // self.config.level.factor
        z = torch.cat([
            torch.randn(1, self.config.level.latent, side, side, generator=one)
            for one in generators(seed, count)
        ])  # fmt: skip
        return unsigned(self.decoder(z.to(device_of(self))).mean)


def levels_log_likelihood(x: Tensor, said: Normal) -> Tensor:
    """Log probability of the 256 levels of x (b, c, h, w) under a discretized Gaussian, in nats: (b,)."""
    return discretized_gaussian(x, said.mean, said.log_variance).flatten(1).sum(1)


def check_sizes(size: int, levels: list[LevelConfig]) -> None:
    """Raise a ValueError unless all levels together halve the size to a whole number."""
    factor = 1
    for level in levels:
        factor *= level.factor
    if size % factor:
        raise ValueError(f"size {size} does not divide by {factor}, by which the levels halve: take fewer")


def generators(seed: int, count: int) -> list[torch.Generator]:
    """One generator for each picture, so that a picture does not depend on how many are drawn beside it.

    Raises:
        ValueError: if there are none.
    """
    if count < 1:
        raise ValueError(f"{count} pictures are none: ask for at least 1")
    return [torch.Generator().manual_seed(seed_of(seed, number)) for number in range(count)]


def device_of(model: nn.Module) -> torch.device:
    """Where a model computes."""
    return next(model.parameters()).device
