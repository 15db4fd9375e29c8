"""The Markovian hierarchical VAE: latents above latents, each seeing only its neighbors.

    q(z_1 | x) q(z_2 | z_1) ... q(z_L | z_{L-1})
    N(z_L; 0, 1) p(z_{L-1} | z_L) ... p(z_1 | z_2) p(x | z_1)

Its bound has the three terms of diffusion: reconstruction, prior matching, and between them one for each
level but the last, as seen from below against the same as seen from above. With one level it is the VAE.
With T levels of the picture's shape, whose encoder only adds noise, it is diffusion:
`diffusion.chains.DiffusionChain`. (Hierarchical VAEs whose latents see more than their neighbors, such as
NVAE, are not Markovian, and not here.)

Letters: b pictures, c h w a picture, z_l latents of level l from 1 to L.

Sources: Rezende et al. 2014; Luo 2022, section "Hierarchical Variational Autoencoders".
"""

from dataclasses import dataclass, field
from typing import Literal

import torch
from torch import Tensor, nn

from diffusion.chains import climb, consistency, importance_weighted
from diffusion.levels import Down, LevelConfig, Up
from diffusion.normals import Normal
from diffusion.pixels import unsigned
from diffusion.terms import Terms
from diffusion.vae import Pictures, check_sizes, device_of, generators, levels_log_likelihood
from vqtok.storage.pretrained import Pretrained


def _three() -> tuple[LevelConfig, ...]:
    return (LevelConfig(latent=8), LevelConfig(latent=16), LevelConfig(latent=32))


@dataclass(frozen=True, kw_only=True)
class HVAEConfig(Pictures):
    """Shape of one hierarchical VAE.

    Args:
        kind: Names this model in recipes.
        chain: Its levels, the one next to the picture first.
    """

    kind: Literal["hvae"] = "hvae"
    chain: tuple[LevelConfig, ...] = field(default_factory=_three)

    def __post_init__(self) -> None:
        super().__post_init__()
        if not self.chain:
            raise ValueError("chain is empty: a hierarchical VAE has a level or more")
        check_sizes(self.size, [*self.chain])

    def build(self) -> "HVAE":
        """The model, drawn from torch's global random numbers."""
        return HVAE(self)


class HVAE(nn.Module, Pretrained):
    """Encoders q(z_l | z_{l-1}) and decoders p(z_{l-1} | z_l), z_0 being the picture."""

    def __init__(self, config: HVAEConfig) -> None:
        super().__init__()
        self.config, self.levels = config, len(config.chain)
        below = [config.channels, *(level.latent for level in config.chain)]
        self.encoders = nn.ModuleList(Up(level, c) for level, c in zip(config.chain, below, strict=False))
        self.decoders = nn.ModuleList(Down(level, c) for level, c in zip(config.chain, below, strict=False))

    def forward(self, images: Tensor, generator: torch.Generator) -> Terms:
        """The bound of images (b, c, h, w) in [0, 1], one draw of the latents each, with gradients."""
        x = self.config.read(images)
        return consistency(self, x, climb(self, x, generator))

    def up(self, below: Tensor, level: int) -> Normal:
        """q(z_level | z_{level-1})."""
        return self.encoders[level - 1](below)

    def down(self, above: Tensor, level: int) -> Normal:
        """p(z_{level-1} | z_level)."""
        return self.decoders[level - 1](above)

    def log_likelihood(self, x: Tensor, latents: Tensor) -> Tensor:
        """log p(x | z_1) in nats: (b,)."""
        return levels_log_likelihood(x, self.down(latents, 1))

    @torch.no_grad()
    def elbo(self, images: Tensor, seed: int = 0) -> Terms:
        """The bound on -log2 p(images) per dimension, on the CPU.

        Args:
            images: (b, c, h, w) in [0, 1] on 256 levels.
            seed: Of the draws of the latents.

        Raises:
            ValueError: if the images are not the model's.
        """
        # The class's own `forward`, without the autocast that a trainer may have put around this model's.
        found = HVAE.forward(self, images.to(device_of(self)), torch.Generator().manual_seed(seed))
        return Terms(*(term.cpu() for term in found))

    @torch.no_grad()
    def importance_weighted(self, images: Tensor, count: int = 100, seed: int = 0) -> Tensor:
        """A tighter bound than `elbo`, (b,) bits per dimension: that of `count` draws of all latents."""
        x = self.config.read(images.to(device_of(self)))
        return importance_weighted(self, x, torch.Generator().manual_seed(seed), count).cpu()

    @torch.no_grad()
    def reconstruct(self, images: Tensor, level: int = 1, seed: int = 0) -> Tensor:
        """What comes back of images that are encoded up to a level, (b, c, h, w) in [0, 1].

        Args:
            images: (b, c, h, w) in [0, 1] on 256 levels.
            level: How far up; at the last one, only what that level holds is left of the picture.
            seed: Of the draws.

        Raises:
            ValueError: if the images are not the model's, or there is no such level.
        """
        if not 1 <= level <= self.levels:
            raise ValueError(f"level {level} is outside [1, {self.levels}]: 1 is next to the picture")
        x = self.config.read(images.to(device_of(self)))
        generator = torch.Generator().manual_seed(seed)
        z = climb(self, x, generator)[level - 1]
        for above in range(level, 1, -1):
            z = self.down(z, above).draw(generator)
        return unsigned(self.down(z, 1).mean)

    @torch.no_grad()
    def sample(self, count: int, seed: int = 0) -> Tensor:
        """Pictures (count, c, h, w) in [0, 1]: the latents are drawn downwards, the picture is a mean.

        Args:
            count: How many; of one seed, the first are the same whatever the count.
            seed: Of the draws.

        Raises:
            ValueError: if there are none to draw.
        """
        return torch.cat([self._drawn(generator) for generator in generators(seed, count)])

    def _drawn(self, generator: torch.Generator) -> Tensor:
        side = self.config.size
        for level in self.config.chain:
            side //= level.factor
        z = torch.randn(1, self.config.chain[-1].latent, side, side, generator=generator)
        z = z.to(device_of(self))
        for level in range(self.levels, 1, -1):
            z = self.down(z, level).draw(generator)
        return unsigned(self.down(z, 1).mean)
