"""Finite scalar quantization: every channel is bounded and rounded to a few levels, and there is no codebook.

Mentzer et al. 2023, "Finite Scalar Quantization: VQ-VAE Made Simple", section 3 and appendix A.1. Two details
are those of vector-quantize-pytorch and of the codecs built on it, not of the appendix: channels are shifted
by atanh, so that 0 stays 0 where levels are even, and reach a thousandth beyond the outermost levels.

Letters: b images, d channels, h w grid, l levels of a channel.
"""

import math
from dataclasses import dataclass
from typing import Literal

import torch
from einops import rearrange
from torch import Tensor

from vqtok.tokenizers.quantizers.digits import from_digits, to_digits
from vqtok.tokenizers.quantizers.gradients import straight_through
from vqtok.tokenizers.quantizers.quantizer import Quantized, Quantizer

REACH = 1e-3  # how far beyond the outermost levels the bound lies, as a share
LARGEST = 2**62  # ids are int64


@dataclass(frozen=True, kw_only=True)
class FSQConfig:
    """The grid.

    Args:
        kind: Names this quantizer in recipes.
        levels: Values of each channel, at least 3. The paper's sets are (8, 6, 5) for about 2^8 codes,
            (8, 5, 5, 5) for 2^10, (7, 5, 5, 5, 5) for 2^12, (8, 8, 8, 6, 5) for 2^14, (8, 8, 8, 5, 5, 5) for
            2^16.
    """

    kind: Literal["fsq"] = "fsq"
    levels: tuple[int, ...]

    def __post_init__(self) -> None:
        if not self.levels or min(self.levels) < 3:
            raise ValueError(f"levels {self.levels} must be 3 or more each: for two levels take lfq or bsq")
        if self.vocab > LARGEST:
            raise ValueError(f"levels {self.levels} make {self.vocab} codes, too many for int64: drop some")

    @property
    def vocab(self) -> int:
        """Ids run from 0 to vocab - 1."""
        return math.prod(self.levels)

    @property
    def width(self) -> int:
        """Channels of the vectors: one for each entry of `levels`."""
        return len(self.levels)


class FSQ(Quantizer):
    """Rounds d channels to a grid of levels in [-1, 1]; it learns nothing and has no loss.

    The first channel counts ones in an id (`vqtok.tokenizers.quantizers.digits`). A code is not its own code:
    the bound pulls it inward. `ids_of` finds the id of vectors that are codes already.
    """

    def __init__(self, config: FSQConfig) -> None:
        super().__init__(config)
        levels = torch.tensor(config.levels)[:, None, None]  # (d, 1, 1)
        self.register_buffer("levels", levels, persistent=False)

    def ids_of(self, codes: Tensor) -> Tensor:
        """(b, h, w) ids of (b, d, h, w) vectors that `decode` or `forward` gave."""
        return self._ids((codes.float() * self._middle).round() + self._middle)

    @property
    def _middle(self) -> Tensor:
        """(d, 1, 1) the digit that stands for 0."""
        return self.levels // 2

    def _bounded(self, vectors: Tensor) -> Tensor:
        """(b, d, h, w) in units of one level: -l/2 to l/2 - 1 where l is even, else -(l-1)/2 to (l-1)/2."""
        half = (self.levels - 1) * (1 + REACH) / 2
        offset = (self.levels % 2 == 0) / 2
        return torch.tanh(vectors + torch.atanh(offset / half)) * half - offset

    def _digits(self, bounded: Tensor) -> Tensor:
        """(b, d, h, w) int64 in [0, l)."""
        return (bounded.round().long() + self._middle).clamp(min=0).minimum(self.levels - 1)

    def _ids(self, digits: Tensor) -> Tensor:
        return from_digits(rearrange(digits, "b d h w -> b h w d"), self.config.levels)

    def _codes(self, digits: Tensor) -> Tensor:
        return (digits - self._middle) / self._middle

    def _quantize(self, vectors: Tensor) -> Quantized:
        bounded = self._bounded(vectors)
        digits = self._digits(bounded.detach())
        codes = straight_through(bounded / self._middle, self._codes(digits))
        return Quantized(codes, self._ids(digits), vectors.new_zeros(()))

    def _encode(self, vectors: Tensor) -> Tensor:
        return self._ids(self._digits(self._bounded(vectors)))

    def _decode(self, ids: Tensor) -> Tensor:
        return self._codes(rearrange(to_digits(ids, self.config.levels), "b h w d -> b d h w"))
