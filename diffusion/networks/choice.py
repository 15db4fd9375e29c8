"""The networks a recipe can name by `kind`."""

from diffusion.networks.dit import DiT, DiTConfig
from diffusion.networks.unet import UNet, UNetConfig

NetworkConfig = UNetConfig | DiTConfig  # the first is what a mapping without `kind` means
Network = UNet | DiT
