"""What every image tokenizer is to its users: images <-> ids, both checked at the door.

Letters: b images, c channels, h w size; i j grid of codes, f = h / i pixels a code. Where a code has several
ids, ids are (b, i, j, q) wherever (b, i, j) is said.
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from vqtok.storage.pretrained import Pretrained
from vqtok.tokenizers.quantizers.quantizer import Quantizer

TOLERANCE = 1e-3  # how far pixels may leave [0, 1]: resizing in bfloat16 does


@dataclass(frozen=True)
class Reconstruction:
    """What a training step needs.

    Args:
        images: (b, c, h, w) what comes back, not clamped.
        ids: (b, i, j).
        vectors: (b, d, i, j) what was quantized.
        quantizer_loss: () what the quantizer wants minimized.
        terms: What that is made of, by name.
        laplace: (b, 2c, h, w) locations, then log-scales, of the logit-Laplace distributions of pixels; only
            a dVAE has them.
    """

    images: Tensor
    ids: Tensor
    vectors: Tensor
    quantizer_loss: Tensor
    terms: Mapping[str, Tensor]
    laplace: Tensor | None = None


class ImageTokenizer(nn.Module, Pretrained):
    """Images (b, 3, h, w) in [0, 1] <-> ids (b, i, j) int64 in [0, vocab).

    A tokenizer is built from one dataclass, `config`, that says among others its `factor`, its `vocab`, and
    the `size` in pixels a side of the images it was trained on. It gives a quantizer as `quantize`, and the
    two halves `_vectors` and `_pixels` around it, which may rely on what is checked here.
    """

    config: Any
    quantize: Quantizer
    decoder: nn.Module

    @property
    def factor(self) -> int:
        """Pixels a side that one code stands for."""
        return self.config.factor

    @property
    def vocab(self) -> int:
        """Ids run from 0 to vocab - 1."""
        return self.config.vocab

    @property
    def id_shape(self) -> tuple[int, ...]:
        """Shape of the ids of one code: () for one id, (q,) for several."""
        return ()

    @property
    def tokens(self) -> int:
        """Ids an image of the training size turns into."""
        return (self.config.size // self.factor) ** 2 * math.prod(self.id_shape)

    @property
    def decodes(self) -> bool:
        """Whether there is a decoder; some tokenizers were published without theirs."""
        return True

    @property
    def inside(self) -> Sequence[nn.Module]:
        """Parts between the first and the last layer, which Muon may train."""
        raise NotImplementedError

    @property
    def last_layer(self) -> nn.Parameter:
        """The weight that makes pixels: where the pull of several losses is compared."""
        return self.decoder.conv_out.weight

    def forward(self, images: Tensor) -> Reconstruction:
        """Encode, quantize with a gradient for the encoder, decode: for training, so nothing is checked."""
        vectors = self._vectors(images)
        out = self.quantize(vectors)
        return Reconstruction(self._decoded(out.vectors), out.ids, vectors, out.loss, out.terms)

    @torch.no_grad()
    def encode(self, images: Tensor) -> Tensor:
        """(b, i, j) int64 ids of images (b, 3, h, w) in [0, 1], whose sides divide by the pixels a code.

        Raises:
            ValueError: if the images are of another shape, type or range, or hold NaN.
        """
        self._check(images)
        return self._ids(images.to(next(self.parameters()).dtype))

    @torch.no_grad()
    def decode(self, ids: Tensor) -> Tensor:
        """(b, 3, h, w) images in [0, 1] of ids (b, i, j).

        Raises:
            ValueError: if ids are of another shape or type, one is no code, or there is no decoder.
        """
        if not self.decodes:
            raise ValueError("these weights hold no decoder: load a publication of this tokenizer with both")
        several = self.id_shape
        if ids.ndim != 3 + len(several) or ids.shape[3:] != several or ids.dtype != torch.int64:
            shape = ", ".join(["b, i, j", *map(str, several)])
            raise ValueError(
                f"ids must be ({shape}) int64, got {tuple(ids.shape)} {ids.dtype}: "
                f"give rows of a stream back their grid, as in ids.view({shape})"
            )
        if ids.numel() and not 0 <= int(ids.min()) <= int(ids.max()) < self.vocab:
            raise ValueError(
                f"ids reach from {int(ids.min())} to {int(ids.max())} but this tokenizer has codes 0 to "
                f"{self.vocab - 1}: pass ids of its own `encode` (special ids of a layout are not codes)"
            )
        return self._images(ids).float().clamp(0, 1)

    def _ids(self, images: Tensor) -> Tensor:
        """(b, i, j) ids of images that were checked, in the type of the parameters."""
        return self.quantize.encode(self._vectors(images))

    def _images(self, ids: Tensor) -> Tensor:
        """(b, 3, h, w) images of ids that were checked; [0, 1] is kept by the caller."""
        return self._decoded(self.quantize.decode(ids))

    def _decoded(self, codes: Tensor) -> Tensor:
        """(b, 3, h, w) images of the quantizer's float32 vectors (b, d, i, j), in the decoder's type."""
        return self._pixels(codes.to(next(self.decoder.parameters()).dtype))

    def _vectors(self, images: Tensor) -> Tensor:
        """(b, d, i, j) for the quantizer of images (b, 3, h, w) in [0, 1]."""
        raise NotImplementedError

    def _pixels(self, codes: Tensor) -> Tensor:
        """(b, 3, h, w) images around [0, 1] of the quantizer's vectors (b, d, i, j)."""
        raise NotImplementedError

    def _check(self, images: Tensor) -> None:
        factor, size = self.factor, self.config.size
        if images.ndim != 4 or images.shape[1] != 3 or not images.is_floating_point() or not len(images):
            raise ValueError(
                f"images must be (b, 3, h, w) floats in [0, 1], got {tuple(images.shape)} {images.dtype}: "
                "read them with vqtok.data.read_picture"
            )
        height, width = images.shape[2:]
        if height % factor or width % factor or not height * width:
            raise ValueError(
                f"images of {height}x{width} pixels do not divide by {factor}, the pixels a code: "
                f"resize them, for example to {size}x{size}"
            )
        low, high = float(images.amin()), float(images.amax())
        if math.isnan(low):  # amin is NaN if any pixel is
            raise ValueError("images hold pixels that are not a number: mend what made them")
        if low < -TOLERANCE or high > 1 + TOLERANCE:
            raise ValueError(
                f"pixels reach from {low:.3g} to {high:.3g}, not within [0, 1]: divide by 255, or clamp them"
            )


def check_size(size: int, factor: int) -> None:
    """Raise a ValueError unless images of `size` pixels a side hold whole codes of `factor` pixels."""
    if size < factor or size % factor:
        raise ValueError(
            f"size {size} does not divide by {factor}, the pixels a code: "
            f"take {max(1, round(size / factor)) * factor}"
        )


def check_low(low: float) -> None:
    """Raise a ValueError unless black can be told from white, which is 1 to the network."""
    if not -math.inf < low < 1:
        raise ValueError(f"low is {low}, black as the network sees it, and white is 1: take -1 or 0")
