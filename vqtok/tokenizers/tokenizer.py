"""A VQ image tokenizer: images <-> ids of codes, trained as an autoencoder around a quantizer.

Letters: b images, c channels, h w size; i j grid of codes, f = h / i pixels a code. A quantizer with several
ids a code, such as residual quantization, has ids (b, i, j, q) wherever (b, i, j) is said.
"""

import math
from collections.abc import Mapping
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from vqtok.storage.pretrained import Pretrained
from vqtok.tokenizers.autoencoder import AutoencoderConfig, Decoder, Encoder
from vqtok.tokenizers.quantizers.choice import QuantizerConfig, build

TOLERANCE = 1e-3  # how far pixels may leave [0, 1]: resizing in bfloat16 does


@dataclass(frozen=True, kw_only=True)
class TokenizerConfig:
    """A tokenizer: autoencoder, quantizer and the range of pixels the network sees.

    Args:
        autoencoder: Shape of encoder and decoder.
        quantizer: What turns vectors into ids: its `kind`, and the settings of that kind.
        size: Pixels a side of the images it was trained on; others work if they divide by the factor.
        low: Black as the network sees it (-1 in taming's family, 0 in muse's and LVM's); white is 1.

    Raises:
        ValueError: if the size does not divide by the pixels a code.
    """

    autoencoder: AutoencoderConfig
    quantizer: QuantizerConfig
    size: int = 256
    low: float = -1.0

    def __post_init__(self) -> None:
        factor = self.autoencoder.factor
        if self.size < factor or self.size % factor:
            raise ValueError(
                f"size {self.size} does not divide by {factor}, the pixels a code: "
                f"take {max(1, round(self.size / factor)) * factor}, or change multipliers or patch"
            )


@dataclass(frozen=True)
class Reconstruction:
    """What a training step needs: images (b, c, h, w) not clamped, ids (b, i, j), vectors (b, d, i, j).

    With the quantizer's loss, and the terms it is made of by name.
    """

    images: Tensor
    ids: Tensor
    vectors: Tensor
    quantizer_loss: Tensor
    terms: Mapping[str, Tensor]


class VQTokenizer(nn.Module, Pretrained):
    """Images (b, 3, h, w) in [0, 1] <-> ids (b, i, j) int64 in [0, vocab), by any quantizer."""

    def __init__(self, config: TokenizerConfig) -> None:
        super().__init__()
        self.config = config
        latent, width = config.autoencoder.latent, config.quantizer.width
        self.encoder = Encoder(config.autoencoder)
        self.quant_conv = nn.Conv2d(latent, width, 1)
        self.quantize = build(config.quantizer)
        self.post_quant_conv = nn.Conv2d(width, latent, 1)
        self.decoder = Decoder(config.autoencoder)

    @property
    def vocab(self) -> int:
        """Ids run from 0 to vocab - 1."""
        return self.config.quantizer.vocab

    @property
    def tokens(self) -> int:
        """Ids an image of the training size turns into."""
        return (self.config.size // self.config.autoencoder.factor) ** 2 * math.prod(self.quantize.id_shape)

    def forward(self, images: Tensor) -> Reconstruction:
        """Encode, quantize with a straight-through gradient, decode."""
        vectors = self._vectors(images)
        out = self.quantize(vectors)
        images = self._pixels(out.vectors.to(self.post_quant_conv.weight.dtype))
        return Reconstruction(images, out.ids, vectors, out.loss, out.terms)

    @torch.no_grad()
    def encode(self, images: Tensor) -> Tensor:
        """(b, i, j) int64 ids of images (b, 3, h, w) in [0, 1], whose sides divide by the pixels a code.

        Raises:
            ValueError: if the images are of another shape, type or range, or hold NaN.
        """
        self._check(images)
        return self.quantize.encode(self._vectors(images.to(self.quant_conv.weight.dtype)))

    @torch.no_grad()
    def decode(self, ids: Tensor) -> Tensor:
        """(b, 3, h, w) images in [0, 1] of ids (b, i, j).

        Raises:
            ValueError: if ids are of another shape or type, or one is no code.
        """
        several = self.quantize.id_shape
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
        vectors = self.quantize.decode(ids).to(self.post_quant_conv.weight.dtype)
        return self._pixels(vectors).float().clamp(0, 1)

    def _vectors(self, images: Tensor) -> Tensor:
        low = self.config.low
        return self.quant_conv(self.encoder(images * (1 - low) + low))

    def _pixels(self, vectors: Tensor) -> Tensor:
        low = self.config.low
        return (self.decoder(self.post_quant_conv(vectors)) - low) / (1 - low)

    def _check(self, images: Tensor) -> None:
        factor, size = self.config.autoencoder.factor, self.config.size
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
