"""MaskGIT's VQGAN (Chang et al. 2022), as open-muse published it.

No attention, no 1x1 convolutions around the codebook, and a skip that is none where the width changes. Names
of tensors are open-muse's.

Letters: b images, c channels, h w size; i j grid of codes, d code width.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import torch.nn.functional as F
from torch import Tensor, nn

from vqtok.tokenizers.autoencoder import Pyramid, ResidualBlock, group_norm
from vqtok.tokenizers.doubling import DoublingConv2d
from vqtok.tokenizers.interface import ImageTokenizer, check_size
from vqtok.tokenizers.quantizers.vq import VectorQuantizer, VQConfig


@dataclass(frozen=True, kw_only=True)
class MaskGITConfig(Pyramid):
    """Shape of MaskGIT's tokenizer; the defaults are the published one's.

    Args:
        quantizer: Shape of the codebook; its width is that of the encoder's output.
        size: Pixels a side of the images it was trained on.
        kind: Tells folders of this network from others.
    """

    quantizer: VQConfig
    size: int = 256
    kind: Literal["maskgit"] = "maskgit"

    def __post_init__(self) -> None:
        super().__post_init__()
        check_size(self.size, self.factor)

    @property
    def vocab(self) -> int:
        """Ids run from 0 to vocab - 1."""
        return self.quantizer.vocab


class MaskGITTokenizer(ImageTokenizer):
    """Images (b, 3, h, w) in [0, 1] <-> ids (b, i, j); the network sees [0, 1] too."""

    def __init__(self, config: MaskGITConfig) -> None:
        super().__init__()
        self.config = config
        self.encoder = MaskGITEncoder(config)
        self.quantize = VectorQuantizer(config.quantizer)
        self.decoder = MaskGITDecoder(config)

    @property
    def inside(self) -> Sequence[nn.Module]:
        """Parts between the first and the last layer, which Muon may train."""
        return self.encoder.down, self.encoder.mid, self.decoder.mid, self.decoder.up

    def _vectors(self, images: Tensor) -> Tensor:
        return self.encoder(images)

    def _pixels(self, codes: Tensor) -> Tensor:
        return self.decoder(codes)


class MaskGITBlock(ResidualBlock):
    """A residual block with the published quirk: where the width changes, y + W y, the input being lost.

    The 1x1 convolution W is applied to what the convolutions gave, not to the input, and so is as wide as the
    output on both sides. It must stay for the published weights to mean what they learned.
    """

    def __init__(self, config: MaskGITConfig, width_in: int, width: int) -> None:
        super().__init__(config, width_in, width, bias=False)
        self.changes = width_in != width
        if self.changes:
            self.nin_shortcut = nn.Conv2d(width, width, 1, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        """Keep the size, bring (b, width_in, h, w) to (b, width, h, w)."""
        y = self.residual(x)
        return y + (self.nin_shortcut(y) if self.changes else x)


class MaskGITEncoder(nn.Module):
    """Images (b, 3, h, w) -> (b, d, h/f, w/f); halves the size by averaging 2x2 pixels."""

    def __init__(self, config: MaskGITConfig) -> None:
        super().__init__()
        widths = config.widths
        self.conv_in = nn.Conv2d(3, widths[0], 3, padding=1, bias=False)
        befores = [widths[0], *widths[:-1]]
        self.down = nn.ModuleList(
            _stage(config, before, width) for before, width in zip(befores, widths, strict=True)
        )
        self.mid = _blocks(config, widths[-1], widths[-1])
        self.norm_out = group_norm(config, widths[-1])
        self.conv_out = nn.Conv2d(widths[-1], config.quantizer.width, 1)

    def forward(self, images: Tensor) -> Tensor:
        """Vectors for the codebook."""
        x = self.conv_in(images)
        for level, stage in enumerate(self.down):
            x = stage.block(x if level == 0 else F.avg_pool2d(x, 2))
        return self.conv_out(F.silu(self.norm_out(self.mid(x))))


class MaskGITDecoder(nn.Module):
    """(b, d, h/f, w/f) -> images (b, 3, h, w), not clamped; doubles the size by repeating pixels."""

    def __init__(self, config: MaskGITConfig) -> None:
        super().__init__()
        widths = config.widths
        self.conv_in = nn.Conv2d(config.quantizer.width, widths[-1], 3, padding=1)
        self.mid = _blocks(config, widths[-1], widths[-1])
        befores = [*widths[1:], widths[-1]]
        self.up = nn.ModuleList(
            _stage(config, before, width) for before, width in zip(befores, widths, strict=True)
        )
        for stage, width in zip(self.up[1:], widths[1:], strict=True):
            stage.upsample_conv = DoublingConv2d(width, width)
        self.norm_out = group_norm(config, widths[0])
        self.conv_out = nn.Conv2d(widths[0], 3, 3, padding=1)

    def forward(self, vectors: Tensor) -> Tensor:
        """Images of vectors from the codebook."""
        x = self.mid(self.conv_in(vectors))
        for level in reversed(range(len(self.up))):
            x = self.up[level].block(x)
            if level:
                x = self.up[level].upsample_conv(x)
        return self.conv_out(F.silu(self.norm_out(x)))


def _stage(config: MaskGITConfig, width_in: int, width: int) -> nn.Module:
    stage = nn.Module()
    stage.block = _blocks(config, width_in, width)
    return stage


def _blocks(config: MaskGITConfig, width_in: int, width: int) -> nn.Sequential:
    widths = [width_in, *[width] * (config.blocks - 1)]
    return nn.Sequential(*(MaskGITBlock(config, before, width) for before in widths))
