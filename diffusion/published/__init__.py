"""UNets that others published, read strictly: diffusers', OpenAI's; and both written."""

from diffusion.published.diffusers import (
    PublishedUNet,
    diffusers_config,
    load_diffusers,
    save_diffusers,
)
from diffusion.published.openai import load_openai, openai_config, openai_tensors

__all__ = [
    "PublishedUNet",
    "diffusers_config",
    "load_diffusers",
    "load_openai",
    "openai_config",
    "openai_tensors",
    "save_diffusers",
]
