"""A VQ image tokenizer: images <-> ids of codes, trained as an autoencoder around a quantizer.

Letters: b images, c channels, h w size; i j grid of codes, f = h / i pixels a code. A quantizer with several
ids a code, such as residual quantization, has ids (b, i, j, q) wherever (b, i, j) is said.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

from torch import Tensor, nn

from vqtok.tokenizers.autoencoder import AutoencoderConfig, Decoder, Encoder
from vqtok.tokenizers.interface import ImageTokenizer, check_low, check_size
from vqtok.tokenizers.local import LocalEncoder
from vqtok.tokenizers.quantizers.choice import QuantizerConfig, build


@dataclass(frozen=True, kw_only=True)
class TokenizerConfig:
    """A tokenizer: autoencoder, quantizer and the range of pixels the network sees.

    Args:
        autoencoder: Shape of encoder and decoder.
        quantizer: What turns vectors into ids: its `kind`, and the settings of that kind.
        size: Pixels a side of the images it was trained on; others work if they divide by the factor.
        low: Black as the network sees it (-1 in taming's family, 0 in muse's and LVM's); white is 1.
        decodes: Whether there is a decoder; False for weights that were published without theirs.
        kind: Tells this network from others in recipes.

    Raises:
        ValueError: if the size does not divide by the pixels a code, or black is white.
    """

    autoencoder: AutoencoderConfig
    quantizer: QuantizerConfig
    size: int = 256
    low: float = -1.0
    decodes: bool = True
    kind: Literal["vqgan"] = "vqgan"

    def __post_init__(self) -> None:
        check_size(self.size, self.factor)
        check_low(self.low)

    @property
    def factor(self) -> int:
        """Pixels a side that one code stands for."""
        return self.autoencoder.factor

    @property
    def vocab(self) -> int:
        """Ids run from 0 to vocab - 1."""
        return self.quantizer.vocab


class VQTokenizer(ImageTokenizer):
    """Images (b, 3, h, w) in [0, 1] <-> ids (b, i, j) int64 in [0, vocab), by any quantizer."""

    def __init__(self, config: TokenizerConfig) -> None:
        super().__init__()
        self.config = config
        latent, width = config.autoencoder.latent, config.quantizer.width
        self.encoder = _encoder(config.autoencoder)
        self.quant_conv = nn.Conv2d(latent, width, 1)
        self.quantize = build(config.quantizer)
        if config.decodes:
            self.post_quant_conv = nn.Conv2d(width, latent, 1)
            self.decoder = Decoder(config.autoencoder)

    @property
    def inside(self) -> Sequence[nn.Module]:
        """The parts between the first and the last layer of both networks, which Muon may train."""
        local = self.config.autoencoder.local is not None
        encoder = [self.encoder.blocks] if local else [self.encoder.down, self.encoder.mid]
        return [*encoder, self.decoder.mid, self.decoder.up]

    @property
    def id_shape(self) -> tuple[int, ...]:
        """Shape of the ids of one code: () for one id, (q,) for several."""
        return self.quantize.id_shape

    @property
    def decodes(self) -> bool:
        """Whether there is a decoder."""
        return self.config.decodes

    def _vectors(self, images: Tensor) -> Tensor:
        low = self.config.low
        return self.quant_conv(self.encoder(images * (1 - low) + low))

    def _pixels(self, codes: Tensor) -> Tensor:
        low = self.config.low
        return (self.decoder(self.post_quant_conv(codes)) - low) / (1 - low)


def _encoder(config: AutoencoderConfig) -> nn.Module:
    if config.local is None:
        return Encoder(config)
    return LocalEncoder(config.factor, config.local, 2 * config.blocks, config.latent, config.recompute)
