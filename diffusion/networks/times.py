"""What tells a network how noisy its input is: sines and cosines of the step, then a small MLP.

Letters: b images, d width of the result, f half of the frequencies' width.

Sources: Vaswani et al. 2017 (the frequencies); Ho et al. 2020 (sines first, over f - 1); Nichol & Dhariwal
2021 (cosines first, over f), as in all that OpenAI published, latent diffusion and DiT.
"""

import math
from dataclasses import dataclass
from typing import Literal

import torch
import torch.nn.functional as F
from torch import Tensor, nn

LONGEST = 10_000.0  # the period of the slowest wave is 2 pi times this, in steps


@dataclass(frozen=True, kw_only=True)
class TimeConfig:
    """Which of the two published conventions the waves follow.

    Args:
        first: Whether sines or cosines fill the first half.
        shift: Taken from f where frequencies are LONGEST^(-i / (f - shift)): 1 makes the last one exactly
            1 / LONGEST, as in DDPM, 0 is OpenAI's.
    """

    first: Literal["sin", "cos"] = "sin"
    shift: int = 1

    def __post_init__(self) -> None:
        if self.shift not in (0, 1):
            raise ValueError(f"time.shift {self.shift} is neither 1 (DDPM) nor 0 (OpenAI): give one of them")


class TimeEmbedding(nn.Module):
    """Steps (b,) -> (b, d), through waves and two matrices with a SiLU between them."""

    def __init__(self, config: TimeConfig, waves: int, width: int) -> None:
        super().__init__()
        self.config = config
        self.waves = waves
        self.up = nn.Linear(waves, width)
        self.out = nn.Linear(width, width)

    def forward(self, t: Tensor) -> Tensor:
        """(b, d) of steps (b,), whole or fractional; the waves are float32 whatever the weights are."""
        waves = wave(t, self.waves, self.config).to(self.up.weight.dtype)
        return self.out(F.silu(self.up(waves)))


def wave(t: Tensor, width: int, config: TimeConfig) -> Tensor:
    """Sines and cosines (..., width) float32 of numbers (...); `width` is even."""
    half = width // 2
    exponents = torch.arange(half, device=t.device, dtype=torch.float32) / (half - config.shift)
    angles = t.float()[..., None] * torch.exp(-math.log(LONGEST) * exponents)
    pair = (angles.sin(), angles.cos())
    return torch.cat(pair if config.first == "sin" else pair[::-1], dim=-1)


def check_times(t: Tensor, batch: int) -> None:
    """Raise a ValueError unless there is one step for every image."""
    if t.shape != (batch,) or t.dtype in (torch.bool, torch.complex64, torch.complex128):
        raise ValueError(
            f"t is {t.dtype} of shape {tuple(t.shape)}: give one step for each of {batch} images, such as "
            f"torch.full(({batch},), step)"
        )
