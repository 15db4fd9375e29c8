"""Where a sampler's randomness comes from.

Letters: b batch, c h w picture.
"""

from collections.abc import Sequence

import torch
from torch import Tensor


class Noise:
    """Draws standard normal pictures, from one generator, or for each picture from a seed of its own.

    With seeds a picture is the same in any batch, but for rounding.

    Args:
        shape: (b, c, h, w) of every draw.
        source: A generator, or b seeds.
        device: Where draws go. A CPU generator draws the same numbers for every device.
        dtype: Of the draws.

    Raises:
        ValueError: if the shape is no picture's, or there is not one seed for each.
    """

    def __init__(
        self,
        shape: Sequence[int],
        source: torch.Generator | Sequence[int],
        device: torch.device | str = "cpu",
        dtype: torch.dtype = torch.float32,
    ) -> None:
        self.shape, self.device, self.dtype = tuple(shape), torch.device(device), dtype
        if len(self.shape) != 4 or min(self.shape) < 1:
            raise ValueError(f"shape {self.shape} is not (b, c, h, w) of at least 1 each")
        if isinstance(source, torch.Generator):
            self.sources = [source]
        else:
            if len(source) != self.shape[0]:
                raise ValueError(
                    f"{len(source)} seeds for {self.shape[0]} pictures: "
                    "give one for each, or one generator for all"
                )
            self.sources = [torch.Generator().manual_seed(int(seed)) for seed in source]

    def draw(self) -> Tensor:
        """The next (b, c, h, w)."""
        rows = self.shape[0] // len(self.sources)
        drawn = [
            torch.randn(rows, *self.shape[1:], generator=one, device=one.device, dtype=self.dtype)
            for one in self.sources
        ]
        return torch.cat(drawn).to(self.device)
