"""Networks of noisy images and steps: the UNet of DDPM, a DiT, and Fourier features before them."""

from diffusion.networks.choice import Network, NetworkConfig
from diffusion.networks.classes import ClassesConfig
from diffusion.networks.dit import DiT, DiTConfig
from diffusion.networks.fourier import FourierFeatures
from diffusion.networks.times import TimeConfig
from diffusion.networks.unet import UNet, UNetConfig

__all__ = [
    "ClassesConfig",
    "DiT",
    "DiTConfig",
    "FourierFeatures",
    "Network",
    "NetworkConfig",
    "TimeConfig",
    "UNet",
    "UNetConfig",
]
