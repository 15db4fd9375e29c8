"""A VQ image tokenizer: images <-> ids of codes, trained as an autoencoder around a quantizer.

Letters: b images, c channels, h w size; i j grid of codes, f = h / i pixels a code.
"""

from dataclasses import dataclass

from torch import Tensor, nn

from vqtok.tokenizers.autoencoder import AutoencoderConfig, Decoder, Encoder
from vqtok.tokenizers.interface import ImageTokenizer, check_size
from vqtok.tokenizers.quantizer import VectorQuantizer, VQConfig


@dataclass(frozen=True, kw_only=True)
class TokenizerConfig:
    """A tokenizer: autoencoder, codebook and the range of pixels the network sees.

    Args:
        autoencoder: Shape of encoder and decoder.
        quantizer: Shape of the codebook.
        size: Pixels a side of the images it was trained on; others work if they divide by the factor.
        low: Black as the network sees it (-1 in taming's family, 0 in muse's and LVM's); white is 1.
        decodes: Whether there is a decoder; False for weights that were published without theirs.

    Raises:
        ValueError: if the size does not divide by the pixels a code.
    """

    autoencoder: AutoencoderConfig
    quantizer: VQConfig
    size: int = 256
    low: float = -1.0
    decodes: bool = True

    def __post_init__(self) -> None:
        check_size(self.size, self.autoencoder.factor)


@dataclass(frozen=True)
class Reconstruction:
    """What a training step needs: images (b, c, h, w) not clamped, ids (b, i, j), vectors (b, d, i, j)."""

    images: Tensor
    ids: Tensor
    vectors: Tensor
    quantizer_loss: Tensor


class VQTokenizer(ImageTokenizer):
    """Images (b, 3, h, w) in [0, 1] <-> ids (b, i, j) int64 in [0, vocab)."""

    def __init__(self, config: TokenizerConfig) -> None:
        super().__init__()
        self.config = config
        latent, width = config.autoencoder.latent, config.quantizer.width
        self.encoder = Encoder(config.autoencoder)
        self.quant_conv = nn.Conv2d(latent, width, 1)
        self.quantize = VectorQuantizer(config.quantizer)
        if config.decodes:
            self.post_quant_conv = nn.Conv2d(width, latent, 1)
            self.decoder = Decoder(config.autoencoder)

    @property
    def factor(self) -> int:
        """Pixels a side that one code stands for."""
        return self.config.autoencoder.factor

    @property
    def vocab(self) -> int:
        """Ids run from 0 to vocab - 1."""
        return self.config.quantizer.codes

    @property
    def decodes(self) -> bool:
        """Whether there is a decoder."""
        return self.config.decodes

    def forward(self, images: Tensor) -> Reconstruction:
        """Encode, quantize with a straight-through gradient, decode."""
        vectors = self._vectors(images)
        quantized = self.quantize(vectors)
        return Reconstruction(self._pixels(quantized.vectors), quantized.ids, vectors, quantized.loss)

    def _ids(self, images: Tensor) -> Tensor:
        return self.quantize.encode(self._vectors(images))

    def _images(self, ids: Tensor) -> Tensor:
        return self._pixels(self.quantize.decode(ids).to(self.post_quant_conv.weight.dtype))

    def _vectors(self, images: Tensor) -> Tensor:
        low = self.config.low
        return self.quant_conv(self.encoder(images * (1 - low) + low))

    def _pixels(self, vectors: Tensor) -> Tensor:
        low = self.config.low
        return (self.decoder(self.post_quant_conv(vectors)) - low) / (1 - low)
