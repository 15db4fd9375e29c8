"""One level of a VAE: a network up to a Gaussian over its latents, and one down from them.

Letters: b pictures, c channels below, z channels of the latents, h w size below, f factor between both sizes.

Source: Kingma & Welling 2014, appendix C (Gaussians whose mean and log variance a network says); the blocks
are those of the tokenizers' autoencoder.
"""

import math
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from diffusion.decoders import HALF
from diffusion.normals import Normal
from vqtok.tokenizers.autoencoder import Downsample, Pyramid, ResidualBlock, Upsample, group_norm

# Log variance of a Gaussian of which 99.7 % lie within one of 256 levels: nothing is gained by a narrower
# one, and without a floor flat colors would drive it down for ever.
NARROWEST = 2 * math.log(HALF / 3)


@dataclass(frozen=True, kw_only=True)
class LevelConfig(Pyramid):
    """Shape of one level; every entry of `multipliers` but the last halves the size.

    Args:
        latent: Channels of the latents.
    """

    channels: int = 32
    multipliers: tuple[int, ...] = (1, 2)
    blocks: int = 1
    groups: int = 8
    latent: int = 8

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.latent < 1:
            raise ValueError(f"latent {self.latent} is below 1: a level needs a channel")


class Up(nn.Module):
    """(b, c, h, w) -> a Gaussian over (b, z, h/f, w/f)."""

    def __init__(self, config: LevelConfig, below: int) -> None:
        super().__init__()
        widths = config.widths
        self.conv_in = nn.Conv2d(below, widths[0], 3, padding=1)
        layers: list[nn.Module] = []
        for number, width in enumerate(widths):
            if number:
                layers.append(Downsample(widths[number - 1]))
            inner = [widths[max(number - 1, 0)], *[width] * (config.blocks - 1)]
            layers += [ResidualBlock(config, width_in, width) for width_in in inner]
        self.layers = nn.Sequential(*layers)
        self.norm_out = group_norm(config, widths[-1])
        self.conv_out = nn.Conv2d(widths[-1], 2 * config.latent, 3, padding=1)

    def forward(self, below: Tensor) -> Normal:
        """q of the latents, given what is below them."""
        return _normal(self.conv_out(F.silu(self.norm_out(self.layers(self.conv_in(below))))))


class Down(nn.Module):
    """(b, z, h/f, w/f) -> a Gaussian over (b, c, h, w)."""

    def __init__(self, config: LevelConfig, below: int) -> None:
        super().__init__()
        widths = config.widths
        self.conv_in = nn.Conv2d(config.latent, widths[-1], 3, padding=1)
        layers: list[nn.Module] = []
        for number, width in reversed([*enumerate(widths)]):
            inner = [widths[min(number + 1, len(widths) - 1)], *[width] * (config.blocks - 1)]
            layers += [ResidualBlock(config, width_in, width) for width_in in inner]
            if number:
                layers.append(Upsample(width))
        self.layers = nn.Sequential(*layers)
        self.norm_out = group_norm(config, widths[0])
        self.conv_out = nn.Conv2d(widths[0], 2 * below, 3, padding=1)

    def forward(self, latents: Tensor) -> Normal:
        """p of what is below the latents."""
        return _normal(self.conv_out(F.silu(self.norm_out(self.layers(self.conv_in(latents))))))


def _normal(output: Tensor) -> Normal:
    """Mean and log variance, half of the channels each, in float32 or better."""
    mean, raw = output.to(torch.promote_types(output.dtype, torch.float32)).chunk(2, dim=1)
    return Normal(mean, NARROWEST + F.softplus(raw - NARROWEST))
