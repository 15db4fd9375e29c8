"""The ResNet autoencoder of VQGAN: images -> a grid of vectors -> images.

Esser et al. 2021, appendix; the parameters and the names of the tensors are those of taming-transformers, so
that its checkpoints, latent diffusion's and LVM's tokenizer fit.

Letters: b images, c channels, h w size.
"""

from collections.abc import Iterable
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from einops import rearrange
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from vqtok.tokenizers.attention import attended
from vqtok.tokenizers.doubling import DoublingConv2d
from vqtok.tokenizers.norms import GroupNorm


@dataclass(frozen=True, kw_only=True)
class Pyramid:
    """Shape of all networks of residual blocks here; every level but the last halves the size.

    Args:
        channels: Channels of the first level.
        multipliers: Channels of each level, in units of `channels`.
        blocks: Residual blocks a level, and in the middle, in encoder and decoder alike.
        groups: Groups of every GroupNorm.
        dropout: Share of activations set to zero inside the blocks while training.
    """

    channels: int = 128
    multipliers: tuple[int, ...] = (1, 1, 2, 2, 4)
    blocks: int = 2
    groups: int = 32
    dropout: float = 0.0

    def __post_init__(self) -> None:
        for name in ("channels", "blocks", "groups"):
            if getattr(self, name) < 1:
                raise ValueError(f"{name} is {getattr(self, name)}, the least is 1: raise it")
        if self.channels % self.groups:
            raise ValueError(
                f"channels {self.channels} do not divide by groups {self.groups}: change one of them"
            )
        if not self.multipliers or min(self.multipliers) < 1:
            raise ValueError(f"multipliers {self.multipliers}: name one of at least 1 for each level")

    @property
    def factor(self) -> int:
        """Pixels a side that one code stands for."""
        return 2 ** (len(self.multipliers) - 1)

    @property
    def widths(self) -> list[int]:
        """Channels level by level, full size first."""
        return [self.channels * multiplier for multiplier in self.multipliers]


@dataclass(frozen=True, kw_only=True)
class AutoencoderConfig(Pyramid):
    """Shape of VQGAN's encoder and decoder; here f = patch * 2^(levels - 1).

    Args:
        blocks: Residual blocks a level in the encoder; the decoder has one more, the middle two.
        attention_levels: Levels (0 = full size) whose blocks are followed by self-attention.
        middle_attention: Whether the two middle blocks have self-attention between them.
        latent: Channels of the encoder's output, before the 1x1 convolution to the code width.
        patch: Pixels a side folded into channels before the first convolution; 1 is VQGAN as published, 2
            makes a small tokenizer several times faster, since most of the work is at full size.
        local: Channels of an encoder whose codes see their own pixels alone, with 2 `blocks` residual blocks
            (see vqtok.tokenizers.local); None is VQGAN's.
        recompute: Keep no activations inside the blocks while training but compute them again for the
            gradient: about a third more time, a fraction of the memory. For large images.
    """

    attention_levels: tuple[int, ...] = ()
    middle_attention: bool = True
    latent: int = 256
    patch: int = 1
    local: int | None = None
    recompute: bool = False

    def __post_init__(self) -> None:
        super().__post_init__()
        for name in ("latent", "patch", "local"):
            if getattr(self, name) is not None and getattr(self, name) < 1:
                raise ValueError(f"{name} is {getattr(self, name)}, the least is 1: raise it")
        if not {*self.attention_levels} <= {*range(len(self.multipliers))}:
            raise ValueError(
                f"attention_levels {self.attention_levels} go beyond the levels, which are "
                f"0 to {len(self.multipliers) - 1}: leave those out"
            )

    @property
    def factor(self) -> int:
        """Pixels a side that one code stands for."""
        return self.patch * super().factor


class Encoder(nn.Module):
    """Images (b, 3, h, w) -> (b, latent, h/f, w/f)."""

    def __init__(self, config: AutoencoderConfig) -> None:
        super().__init__()
        widths = config.widths
        self.fold = nn.PixelUnshuffle(config.patch)
        self.conv_in = nn.Conv2d(3 * config.patch**2, widths[0], 3, padding=1)
        self.down = nn.ModuleList()
        for level, width in enumerate(widths):
            inner = [widths[max(level - 1, 0)], *[width] * (config.blocks - 1)]
            stage = _stage(config, level, inner, width)
            if level < len(widths) - 1:
                stage.downsample = Downsample(width)
            self.down.append(stage)
        self.mid = _middle(config, widths[-1])
        self.norm_out = group_norm(config, widths[-1])
        self.conv_out = nn.Conv2d(widths[-1], config.latent, 3, padding=1)

    def forward(self, images: Tensor) -> Tensor:
        """Encode images in the range that the network was trained on."""
        x = self.conv_in(self.fold(images))
        for stage in self.down:
            x = _run(stage, x)
            if hasattr(stage, "downsample"):
                x = stage.downsample(x)
        return self.conv_out(F.silu(self.norm_out(_run_middle(self.mid, x))))


class Decoder(nn.Module):
    """(b, latent, h/f, w/f) -> images (b, 3, h, w)."""

    def __init__(self, config: AutoencoderConfig) -> None:
        super().__init__()
        widths = config.widths
        self.conv_in = nn.Conv2d(config.latent, widths[-1], 3, padding=1)
        self.mid = _middle(config, widths[-1])
        self.up = nn.ModuleList()  # indexed by level, run from the last to the first
        for level, width in enumerate(widths):
            inner = [widths[min(level + 1, len(widths) - 1)], *[width] * config.blocks]
            stage = _stage(config, level, inner, width)
            if level > 0:
                stage.upsample = Upsample(width)
            self.up.append(stage)
        self.norm_out = group_norm(config, widths[0])
        self.conv_out = nn.Conv2d(widths[0], 3 * config.patch**2, 3, padding=1)
        self.unfold = nn.PixelShuffle(config.patch)

    def forward(self, latents: Tensor) -> Tensor:
        """Decode to images in the range that the network was trained on; nothing is clamped."""
        x = _run_middle(self.mid, self.conv_in(latents))
        for stage in reversed(self.up):
            x = _run(stage, x)
            if hasattr(stage, "upsample"):
                x = stage.upsample(x)
        return self.unfold(self.conv_out(F.silu(self.norm_out(x))))


class ResidualBlock(nn.Module):
    """x + conv(swish(norm(conv(swish(norm(x)))))); a 1x1 convolution on the skip where the width changes.

    The convolutions have a bias in taming's family, none in MaskGIT's and Open-MAGVIT2's.
    """

    def __init__(self, config: Pyramid, width_in: int, width: int, bias: bool = True) -> None:
        super().__init__()
        self.norm1 = group_norm(config, width_in)
        self.conv1 = nn.Conv2d(width_in, width, 3, padding=1, bias=bias)
        self.norm2 = group_norm(config, width)
        self.dropout = nn.Dropout(config.dropout)
        self.conv2 = nn.Conv2d(width, width, 3, padding=1, bias=bias)
        self.nin_shortcut = nn.Conv2d(width_in, width, 1, bias=bias) if width_in != width else nn.Identity()

    def forward(self, x: Tensor) -> Tensor:
        """Keep the size, bring (b, width_in, h, w) to (b, width, h, w)."""
        return self.nin_shortcut(x) + self.residual(x)

    def residual(self, x: Tensor) -> Tensor:
        """What the block adds to the skip, (b, width, h, w)."""
        y = self.conv1(F.silu(self.norm1(x)))
        return self.conv2(self.dropout(F.silu(self.norm2(y))))


class Attention(nn.Module):
    """One-head self-attention over all places of the grid."""

    def __init__(self, config: AutoencoderConfig, width: int) -> None:
        super().__init__()
        self.norm = group_norm(config, width)
        self.q, self.k, self.v, self.proj_out = (nn.Conv2d(width, width, 1) for _ in range(4))

    def forward(self, x: Tensor) -> Tensor:
        """Keep the shape (b, c, h, w)."""
        y = self.norm(x)
        q, k, v = (rearrange(project(y), "b c h w -> b 1 (h w) c") for project in (self.q, self.k, self.v))
        y = attended(q, k, v)
        return x + self.proj_out(rearrange(y, "b 1 (h w) c -> b c h w", h=x.shape[2]))


class Downsample(nn.Module):
    """Half the size by a stride-2 convolution, padded on the right and below only, as taming has it."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.conv = nn.Conv2d(width, width, 3, stride=2)

    def forward(self, x: Tensor) -> Tensor:
        """(b, c, h, w) -> (b, c, h/2, w/2)."""
        return self.conv(F.pad(x, (0, 1, 0, 1)))


class Upsample(nn.Module):
    """Twice the size by repeating pixels, then a convolution."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.conv = DoublingConv2d(width, width)

    def forward(self, x: Tensor) -> Tensor:
        """(b, c, h, w) -> (b, c, 2h, 2w)."""
        return self.conv(x)


def group_norm(config: Pyramid, width: int) -> GroupNorm:
    """The normalization of the whole family."""
    return GroupNorm(config.groups, width, eps=1e-6)


def through(layers: Iterable[nn.Module], x: Tensor, recompute: bool) -> Tensor:
    """x through all layers; with `recompute` only what goes in between them is kept for the gradient."""
    for layer in layers:
        x = checkpoint(layer, x, use_reentrant=False) if recompute and torch.is_grad_enabled() else layer(x)
    return x


def _stage(config: AutoencoderConfig, level: int, inner: list[int], width: int) -> nn.Module:
    """Blocks of one level, each followed by attention where the config asks for it."""
    stage = nn.Module()
    stage.block = nn.ModuleList(ResidualBlock(config, width_in, width) for width_in in inner)
    attended = len(inner) if level in config.attention_levels else 0
    stage.attn = nn.ModuleList(Attention(config, width) for _ in range(attended))
    stage.recompute = config.recompute
    return stage


def _run(stage: nn.Module, x: Tensor) -> Tensor:
    layers = stage.block
    if len(stage.attn):
        layers = [layer for pair in zip(stage.block, stage.attn, strict=True) for layer in pair]
    return through(layers, x, stage.recompute)


def _middle(config: AutoencoderConfig, width: int) -> nn.Module:
    middle = nn.Module()
    middle.block_1 = ResidualBlock(config, width, width)
    if config.middle_attention:
        middle.attn_1 = Attention(config, width)
    middle.block_2 = ResidualBlock(config, width, width)
    middle.recompute = config.recompute
    return middle


def _run_middle(middle: nn.Module, x: Tensor) -> Tensor:
    return through(middle.children(), x, middle.recompute)
