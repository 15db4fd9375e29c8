"""Dropout that costs a CPU less: torch's draws 64 random bits for each number.

Source: Srivastava et al. 2014.
"""

import torch
from torch import Tensor, nn

LEVELS = 2**16  # of the random numbers that decide what is dropped


class Dropout(nn.Dropout):
    """torch's, on a CPU from 16 random bits a number, in less than half the time; p is within 1 / 65536."""

    def forward(self, x: Tensor) -> Tensor:
        """(b, c, h, w); while training, a share p of the numbers is 0 and the rest is divided by 1 - p."""
        fast = x.dtype == torch.float32 and x.device.type == "cpu" and not torch.compiler.is_compiling()
        if not (self.training and self.p and fast):
            return super().forward(x)
        b, c, h, w = x.shape
        bits = torch.empty(-(-x.numel() // 4), dtype=torch.int64).random_(-(2**63), None).view(torch.int16)
        kept = bits[: x.numel()] >= round(self.p * LEVELS) - LEVELS // 2
        # Channels last, as in x: a product of two layouts would cost more than is saved.
        return x * kept.float().div_(1 - self.p).view(b, h, w, c).movedim(-1, 1)
