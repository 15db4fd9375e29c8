"""What every quantizer offers: vectors become ids, ids become vectors, and training learns what is between.

Letters: b images, d width, h w grid of vectors (i j in a tokenizer's ids); q ids a vector, where it has
several.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Protocol

import torch
from torch import Tensor, nn

from vqtok.tokenizers.lookup import whole_float32


class QuantizerSettings(Protocol):
    """What a quantizer's configuration tells others: a frozen dataclass whose `kind` is its own one word."""

    @property
    def kind(self) -> str:
        """The word that recipes and config.json choose it by."""

    @property
    def vocab(self) -> int:
        """Ids run from 0 to vocab - 1."""

    @property
    def width(self) -> int:
        """Channels of the vectors."""


@dataclass(frozen=True, kw_only=True)
class Codebook:
    """Size of a table of codes: what the configurations of all quantizers that have one begin with.

    Args:
        codes: Ids run from 0 to codes - 1.
        width: Channels of the vectors, and of one code.
    """

    codes: int
    width: int

    def __post_init__(self) -> None:
        if self.codes < 2 or self.width < 1:
            raise ValueError(
                f"a codebook of {self.codes} codes of width {self.width}: need codes >= 2 and width >= 1"
            )

    @property
    def vocab(self) -> int:
        """Ids run from 0 to vocab - 1."""
        return self.codes


@dataclass(frozen=True)
class Quantized:
    """What quantizing gives.

    Args:
        vectors: (b, d, h, w) float32, what the ids decode to, with a gradient for the encoder.
        ids: (b, h, w) int64, or (b, h, w, q).
        loss: () what the quantizer wants minimized.
        terms: What the loss is made of, each () and before its weight, without gradient: for the log.
    """

    vectors: Tensor
    ids: Tensor
    loss: Tensor
    terms: Mapping[str, Tensor] = field(default_factory=dict)


class Quantizer(nn.Module):
    """Base of all quantizers: checks what comes in, and computes in float32 whatever autocast or dtype say.

    A quantizer writes `_quantize`, `_encode` and `_decode`, which see float32, no autocast and no TF32; one
    whose codebook is more than a parameter writes `learn` too, and says so by `learns`.
    """

    learns = False  # whether `learn` does anything: else its vectors need not be kept for it

    def __init__(self, config: QuantizerSettings) -> None:
        super().__init__()
        self.config = config

    @property
    def id_shape(self) -> tuple[int, ...]:
        """Shape of the ids of one vector: () for one id, (q,) for several."""
        return ()

    def forward(self, vectors: Tensor) -> Quantized:
        """Replace vectors (b, d, h, w) by those that ids stand for.

        Raises:
            ValueError: if the vectors are of another width.
        """
        self._check(vectors)
        with whole_float32(vectors.device.type):
            return self._quantize(vectors.float())

    @torch.no_grad()
    def encode(self, vectors: Tensor) -> Tensor:
        """(b, h, w) int64 ids of (b, d, h, w) vectors, or (b, h, w, q): those of `forward` in evaluation.

        Raises:
            ValueError: if the vectors are of another width.
        """
        self._check(vectors)
        with whole_float32(vectors.device.type):
            return self._encode(vectors.float())

    def decode(self, ids: Tensor) -> Tensor:
        """(b, d, h, w) float32 vectors of ids (b, h, w) or (b, h, w, q)."""
        with whole_float32(ids.device.type):
            return self._decode(ids)

    def learn(self, vectors: Tensor, ids: Tensor, restart: bool = True) -> int:  # noqa: ARG002
        """Learn what gradients do not teach, after an optimizer step; most quantizers have nothing to learn.

        Identical on every rank. Leave out steps whose loss is not finite.

        Args:
            vectors: (b, d, h, w) encoder outputs of this step.
            ids: What they were quantized to.
            restart: Whether codes out of use may start again.

        Returns:
            How many codes started again.
        """
        return 0

    def _check(self, vectors: Tensor) -> None:
        if vectors.ndim != 4 or vectors.shape[1] != self.config.width:
            raise ValueError(
                f"vectors {tuple(vectors.shape)} must be (b, {self.config.width}, h, w): "
                f"bring them to the quantizer's width {self.config.width}, as a 1x1 convolution does"
            )

    def _quantize(self, vectors: Tensor) -> Quantized:
        raise NotImplementedError

    def _encode(self, vectors: Tensor) -> Tensor:
        raise NotImplementedError

    def _decode(self, ids: Tensor) -> Tensor:
        raise NotImplementedError
