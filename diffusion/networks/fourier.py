"""Fourier features: fine differences of pixels, made large enough for a network to see.

Kingma et al. 2021, VDM, appendix C: a density of images to the last bit depends on them, a picture for people
hardly does.

Letters: b images, c channels, h w size, f frequencies.
"""

import math

import torch
from torch import Tensor, nn


class FourierFeatures(nn.Module):
    """Images with sin(2^n pi x) and cos(2^n pi x) appended as channels, for n from `first` to `last`.

    VDM takes 7 and 8 for images of 256 levels in [-1, 1], where neighbors differ by 2/255.
    """

    def __init__(self, first: int = 7, last: int = 8) -> None:
        super().__init__()
        if not 0 <= first <= last <= 12:
            raise ValueError(f"first {first}, last {last}: give 0 <= first <= last <= 12; 7 and 8 are VDM's")
        self.frequencies = [2.0**n * math.pi for n in range(first, last + 1)]

    def channels(self, channels: int) -> int:
        """Channels of the result, for images of `channels`."""
        return channels * (1 + 2 * len(self.frequencies))

    def forward(self, x: Tensor) -> Tensor:
        """(b, c (1 + 2 f), h, w) of x (b, c, h, w): x, all sines, all cosines; angles are float32."""
        angles = torch.cat([x.float() * frequency for frequency in self.frequencies], dim=1)
        return torch.cat((x, angles.sin().to(x.dtype), angles.cos().to(x.dtype)), dim=1)
