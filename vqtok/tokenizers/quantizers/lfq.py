"""Lookup-free quantization: the signs of d channels are the bits of an id.

Yu et al. 2023, "Language Model Beats Diffusion: Tokenizer is Key to Visual Generation" (MAGVIT-v2), section
3.1, equations 3-5.

Letters: b images, d bits, h w grid, n = b h w vectors.
"""

from dataclasses import dataclass
from typing import Literal

import torch
import torch.nn.functional as F
from einops import rearrange
from torch import Tensor

from vqtok.tokenizers.quantizers.digits import from_digits, to_digits
from vqtok.tokenizers.quantizers.entropy import bit_entropies
from vqtok.tokenizers.quantizers.gradients import straight_through
from vqtok.tokenizers.quantizers.quantizer import Quantized, Quantizer

MOST_BITS, MOST_TOGETHER = 62, 24  # of an int64 id; of a group whose 2^g probabilities are held


@dataclass(frozen=True, kw_only=True)
class LFQConfig:
    """Bits, and the loss that keeps all of their patterns in use.

    q(code | vector) is a softmax of -|vector - code|^2 / temperature.

    Args:
        kind: Names this quantizer in recipes.
        bits: Channels of the vectors; there are 2^bits codes.
        beta: Weight of the commitment term, the mean squared distance of vectors to their codes.
        entropy: Weight of the entropies, which are in nats.
        diversity: Weight of the entropy of the average q, against that of each q.
        temperature: Of q.
        group: Bits whose joint distribution is measured; all if left out.
    """

    kind: Literal["lfq"] = "lfq"
    bits: int
    beta: float = 0.25
    entropy: float = 0.1
    diversity: float = 1.0
    temperature: float = 0.01
    group: int | None = None

    def __post_init__(self) -> None:
        if not 1 <= self.bits <= MOST_BITS:
            raise ValueError(f"bits {self.bits} must lie in [1, {MOST_BITS}]: ids are int64")
        if not 1 <= self.together <= MOST_TOGETHER:
            raise ValueError(
                f"a group of {self.together} bits has 2^{self.together} probabilities: set group to "
                f"{MOST_TOGETHER} or fewer, such as 9"
            )
        if self.temperature <= 0:
            raise ValueError(f"temperature {self.temperature} must be above 0: take 0.01")

    @property
    def together(self) -> int:
        """Bits of a group."""
        return self.bits if self.group is None else self.group

    @property
    def vocab(self) -> int:
        """Ids run from 0 to vocab - 1."""
        return 2**self.bits

    @property
    def width(self) -> int:
        """Channels of the vectors: one for each bit."""
        return self.bits


class LFQ(Quantizer):
    """Codes are the corners of the cube [-1, 1]^d; a channel above 0 is a bit of 1. It has no parameters.

    The first channel counts ones in an id, as in equation 4 (`vqtok.tokenizers.quantizers.digits`).
    """

    @property
    def _size(self) -> float:
        """What a channel of a code is, up to its sign."""
        return 1.0

    def _prepare(self, vectors: Tensor) -> Tensor:
        """(b, d, h, w) vectors as they are compared."""
        return vectors

    def _quantize(self, vectors: Tensor) -> Quantized:
        config, vectors = self.config, self._prepare(vectors)
        bits = vectors > 0
        codes = torch.where(bits, self._size, -self._size)
        # |vector + code|^2 - |vector - code|^2 is 4 vector * code in every channel.
        logits = rearrange(vectors, "b d h w -> (b h w) d") * (4 * self._size / config.temperature)
        sure, even = bit_entropies(logits, config.together, together=self.training)
        error = F.mse_loss(vectors, codes)
        loss = config.beta * error + config.entropy * (sure - config.diversity * even)
        terms = {"error": error.detach(), "entropy": sure.detach(), "diversity": even.detach()}
        return Quantized(straight_through(vectors, codes), self._ids(bits), loss, terms)

    def _encode(self, vectors: Tensor) -> Tensor:
        return self._ids(self._prepare(vectors) > 0)

    def _decode(self, ids: Tensor) -> Tensor:
        bits = rearrange(to_digits(ids, [2] * self.config.bits), "b h w d -> b d h w")
        return torch.where(bits > 0, self._size, -self._size)

    def _ids(self, bits: Tensor) -> Tensor:
        return from_digits(rearrange(bits, "b d h w -> b h w d"), [2] * self.config.bits)
