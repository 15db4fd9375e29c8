"""Diffusion, the comparison baseline: noise is added by a known law, and a network learns to take it away.

What to import from where:

    schedules     how much of a picture is left at each time
    targets       what a network predicts: noise, image, velocity or mean
    variances     the noise of a step backwards: small, large or learned
    process       all three together, and the Gaussians that follow from them
    objectives    what is trained
    likelihood    bits per dimension, in three terms
    spacing       which times a sampler visits
    samplers      ancestral, DDIM, DPM-Solver++(2M) and Heun
    inpainting    RePaint
    oracle        a network that is exact, for data that are Gaussian: to try all of the above on
    model         DDPM: all of it behind from_pretrained
"""

from diffusion.model import DDPM, DDPMConfig

__all__ = ["DDPM", "DDPMConfig"]
