"""Binary spherical quantization: the signs of d channels of a vector of length one are the bits of an id.

Zhao, Xiong and Krähenbühl 2024, "Image and Video Tokenization with Binary Spherical Quantization".

Letters: b images, d bits, h w grid.
"""

import math
from dataclasses import dataclass
from typing import Literal

import torch.nn.functional as F
from torch import Tensor

from vqtok.tokenizers.quantizers.lfq import LFQ, LFQConfig


@dataclass(frozen=True, kw_only=True)
class BSQConfig(LFQConfig):
    """Bits, and the loss that keeps all of their patterns in use; settings are those of `LFQConfig`.

    q(code | vector) is a softmax of -|vector - code|^2 / temperature, which on the sphere is the paper's
    softmax of tau code.vector with tau = 2 / temperature. A vector is never far from its code, so beta may be
    0.
    """

    kind: Literal["bsq"] = "bsq"
    beta: float = 0.0
    group: int | None = 9


class BSQ(LFQ):
    """Codes are the corners of the cube inside the unit sphere, the vectors of +-1/sqrt(d)."""

    @property
    def _size(self) -> float:
        return 1 / math.sqrt(self.config.bits)

    def _prepare(self, vectors: Tensor) -> Tensor:
        return F.normalize(vectors, dim=1)
