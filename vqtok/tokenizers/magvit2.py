"""Open-MAGVIT2's tokenizer (Luo et al. 2024): codes are signs, the decoder is told the image's statistics.

After MAGVIT-v2 (Yu et al. 2023): lookup-free quantization, convolutions without bias, no attention, and group
norms in the decoder whose scale and shift come from the codes. Names of tensors are the publication's.

Letters: b images, c channels, h w size; i j grid of codes, d bits a code.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import torch.nn.functional as F
from einops import rearrange
from torch import Tensor, nn

from vqtok.tokenizers.autoencoder import Pyramid, ResidualBlock, group_norm
from vqtok.tokenizers.interface import ImageTokenizer, check_low, check_size
from vqtok.tokenizers.quantizers.lfq import LFQ, LFQConfig


@dataclass(frozen=True, kw_only=True)
class MAGVIT2Config(Pyramid):
    """Shape of Open-MAGVIT2's tokenizer; the defaults are the 256 pixel model's.

    Args:
        quantizer: Bits of an id, which are channels of the encoder's output, and their loss.
        size: Pixels a side of the images it was trained on.
        low: Black as the network sees it; white is 1.
        kind: Tells folders of this network from others.
    """

    quantizer: LFQConfig = LFQConfig(bits=18)
    blocks: int = 4
    size: int = 256
    low: float = -1.0
    kind: Literal["magvit2"] = "magvit2"

    def __post_init__(self) -> None:
        super().__post_init__()
        check_size(self.size, self.factor)
        check_low(self.low)

    @property
    def vocab(self) -> int:
        """Ids run from 0 to vocab - 1."""
        return self.quantizer.vocab


class MAGVIT2Tokenizer(ImageTokenizer):
    """Images (b, 3, h, w) in [0, 1] <-> ids (b, i, j)."""

    def __init__(self, config: MAGVIT2Config) -> None:
        super().__init__()
        self.config = config
        self.encoder = MAGVIT2Encoder(config)
        self.quantize = LFQ(config.quantizer)
        self.decoder = MAGVIT2Decoder(config)

    @property
    def inside(self) -> Sequence[nn.Module]:
        """Parts between the first and the last layer, which Muon may train."""
        encoder, decoder = self.encoder, self.decoder
        return encoder.down, encoder.mid_block, decoder.mid_block, decoder.up, decoder.adaptive

    def _vectors(self, images: Tensor) -> Tensor:
        low = self.config.low
        return self.encoder(images * (1 - low) + low)

    def _pixels(self, codes: Tensor) -> Tensor:
        low = self.config.low
        return (self.decoder(codes) - low) / (1 - low)


class MAGVIT2Encoder(nn.Module):
    """Images (b, 3, h, w) -> (b, d, h/f, w/f)."""

    def __init__(self, config: MAGVIT2Config) -> None:
        super().__init__()
        widths = config.widths
        self.conv_in = nn.Conv2d(3, widths[0], 3, padding=1, bias=False)
        self.down = nn.ModuleList()
        for level, width in enumerate(widths):
            stage = nn.Module()
            stage.block = _blocks(config, widths[max(level - 1, 0)], width)
            if level < len(widths) - 1:
                stage.downsample = nn.Conv2d(width, width, 3, stride=2, padding=1)
            self.down.append(stage)
        self.mid_block = _blocks(config, widths[-1], widths[-1])
        self.norm_out = group_norm(config, widths[-1])
        self.conv_out = nn.Conv2d(widths[-1], config.quantizer.width, 1)

    def forward(self, images: Tensor) -> Tensor:
        """Vectors whose signs are the code."""
        x = self.conv_in(images)
        for stage in self.down:
            x = stage.block(x)
            if hasattr(stage, "downsample"):
                x = stage.downsample(x)
        return self.conv_out(F.silu(self.norm_out(self.mid_block(x))))


class MAGVIT2Decoder(nn.Module):
    """Codes (b, d, h/f, w/f) -> images (b, 3, h, w), not clamped."""

    def __init__(self, config: MAGVIT2Config) -> None:
        super().__init__()
        widths = config.widths
        self.conv_in = nn.Conv2d(config.quantizer.width, widths[-1], 3, padding=1)
        self.mid_block = _blocks(config, widths[-1], widths[-1])
        self.up, self.adaptive = nn.ModuleList(), nn.ModuleList()  # by level, run from the last to the first
        for level, width in enumerate(widths):
            before = widths[min(level + 1, len(widths) - 1)]
            stage = nn.Module()
            stage.block = _blocks(config, before, width)
            if level > 0:
                stage.upsample = SpaceUpsample(width)
            self.up.append(stage)
            self.adaptive.append(AdaptiveNorm(config, before))
        self.norm_out = group_norm(config, widths[0])
        self.conv_out = nn.Conv2d(widths[0], 3, 3, padding=1)

    def forward(self, codes: Tensor) -> Tensor:
        """Images of vectors of -1 and 1."""
        x = self.mid_block(self.conv_in(codes))
        for stage, norm in zip(reversed(self.up), reversed(self.adaptive), strict=True):
            x = stage.block(norm(x, codes))
            if hasattr(stage, "upsample"):
                x = stage.upsample(x)
        return self.conv_out(F.silu(self.norm_out(x)))


class AdaptiveNorm(nn.Module):
    """Group norm whose scale and shift are linear in the codes' spread and mean over the image."""

    def __init__(self, config: MAGVIT2Config, width: int) -> None:
        super().__init__()
        self.groups = config.groups
        self.gamma = nn.Linear(config.quantizer.width, width)
        self.beta = nn.Linear(config.quantizer.width, width)

    def forward(self, x: Tensor, codes: Tensor) -> Tensor:
        """Normalize (b, c, h, w), told the codes (b, d, i, j)."""
        codes = rearrange(codes, "b d i j -> b d (i j)")
        correction = min(1, codes.shape[2] - 1)  # n - 1 as published; a single code has no spread
        spread = (codes.var(dim=2, correction=correction) + 1e-6).sqrt()
        scale, shift = self.gamma(spread), self.beta(codes.mean(dim=2))
        x = F.group_norm(x, self.groups, eps=1e-6)
        return scale[:, :, None, None] * x + shift[:, :, None, None]


class SpaceUpsample(nn.Module):
    """Twice the size: a convolution to four times the channels, which become 2x2 pixels."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(width, 4 * width, 3, padding=1)

    def forward(self, x: Tensor) -> Tensor:
        """(b, c, h, w) -> (b, c, 2h, 2w); the place inside the 2x2 is the slow part of the channel index."""
        return rearrange(self.conv1(x), "b (y x c) h w -> b c (h y) (w x)", y=2, x=2)


def _blocks(config: MAGVIT2Config, width_in: int, width: int) -> nn.Sequential:
    widths = [width_in, *[width] * (config.blocks - 1)]
    return nn.Sequential(*(ResidualBlock(config, before, width, bias=False) for before in widths))
