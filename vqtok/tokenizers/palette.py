"""A palette: every pixel is one token, the nearest of k colors (Chen et al. 2020, ImageGPT, section 3).

Colors are in [-1, 1], as OpenAI and transformers publish them; `fit_palette.py` finds those of a data set.

Letters: b images, h w size, k colors.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal, NoReturn

import torch
from einops import rearrange
from torch import Tensor, nn

from vqtok.tokenizers.interface import TOLERANCE, ImageTokenizer
from vqtok.tokenizers.lookup import nearest_code


@dataclass(frozen=True, kw_only=True)
class PaletteConfig:
    """A palette.

    Args:
        codes: Colors; 512 are ImageGPT's nine bits a pixel.
        size: Pixels a side of the images it is for; it takes all others too.
        kind: Tells palettes from other tokenizers.

    Raises:
        ValueError: if there is no color or no pixel.
    """

    codes: int = 512
    size: int = 32
    kind: Literal["palette"] = "palette"

    def __post_init__(self) -> None:
        if self.codes < 1 or self.size < 1:
            raise ValueError(f"{self.codes} colors for {self.size} pixels a side: give at least 1 of each")

    @property
    def factor(self) -> int:
        """Pixels a side that one code stands for: one."""
        return 1

    @property
    def vocab(self) -> int:
        """Ids run from 0 to vocab - 1."""
        return self.codes


class PaletteTokenizer(ImageTokenizer):
    """Images (b, 3, h, w) in [0, 1] <-> ids (b, h, w) of colors.

    What ids lose is color only, and no gradient trains it.
    """

    config: PaletteConfig

    def __init__(self, config: PaletteConfig) -> None:
        super().__init__()
        self.config = config
        # A parameter, because that is where a tokenizer's device and type are looked for.
        self.colors = nn.Parameter(torch.zeros(config.codes, 3), requires_grad=False)

    @classmethod
    def of(cls, colors: Tensor, size: int = 32) -> "PaletteTokenizer":
        """The palette of colors (k, 3) in [-1, 1], for images of `size` pixels a side.

        Raises:
            ValueError: if colors have another shape, are no numbers, or lie outside.
        """
        if colors.ndim != 2 or not len(colors) or colors.shape[1] != 3:
            raise ValueError(f"colors are (k, 3), red, green and blue, not {tuple(colors.shape)}")
        low, high = float(colors.min()), float(colors.max())
        if not -1 - TOLERANCE <= low <= high <= 1 + TOLERANCE:  # false for nan too
            raise ValueError(
                f"colors reach from {low:g} to {high:g}, not within [-1, 1]: divide 8-bit values by 127.5 "
                "and subtract 1"
            )
        palette = cls(PaletteConfig(codes=len(colors), size=size))
        palette.colors.copy_(colors)
        return palette.eval()

    @property
    def inside(self) -> Sequence[nn.Module]:
        """Nothing that a trainer could train."""
        _refuse()

    def forward(self, images: Tensor) -> NoReturn:
        """Raises ValueError: a palette has no gradient."""
        _refuse()

    def _ids(self, images: Tensor) -> Tensor:
        pixels = rearrange(images * 2 - 1, "b c h w -> (b h w) c")
        return nearest_code(pixels, self.colors).view(len(images), *images.shape[2:])

    def _images(self, ids: Tensor) -> Tensor:
        return rearrange(self.colors[ids] / 2 + 0.5, "b h w c -> b c h w")


def _refuse() -> NoReturn:
    raise ValueError(
        "a palette is not trained by gradient: fit it with vqtok.tokenizers.fit_palette, as in "
        "recipes/tokenizer/palette-emoji32.yaml"
    )
