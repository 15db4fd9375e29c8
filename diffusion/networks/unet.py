"""The UNet of DDPM: noisy images and their steps -> what the objective asks for, such as the noise.

Ho et al. 2020, appendix B; Nichol & Dhariwal 2021 and Dhariwal & Nichol 2021 in its settings. On a way down,
levels halve the image; on the way up, each block is given what a block of the same size left on the way down.

Letters: b images, c channels, h w size, d width of what tells the time.
"""

from dataclasses import dataclass
from typing import Literal

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from diffusion.networks.blocks import Attention, Double, Halve, Parts, ResidualBlock, doubled, halved, zeroed
from diffusion.networks.classes import ClassEmbedding, ClassesConfig, check_labels
from diffusion.networks.images import check_images
from diffusion.networks.times import TimeConfig, TimeEmbedding, check_times
from vqtok.storage.pretrained import Pretrained
from vqtok.tokenizers.norms import GroupNorm


@dataclass(frozen=True, kw_only=True)
class UNetConfig(Parts):
    """Shape of one UNet, that of DDPM on CIFAR-10 (35.7 M parameters) unless told; levels but the last halve.

    Args:
        kind: Names this network in recipes.
        in_channels: Of the noisy images.
        out_channels: Of the result; twice as many where the variance is learned.
        multipliers: Channels of each level, in units of `channels`.
        blocks: Residual blocks a level on the way down; one more on the way up.
        attention_levels: Levels (0 = full size) whose blocks are followed by self-attention; the middle
            always has it.
        classes: What labels may be given; None means none.
        time: How the step is told.
        resampling: `asymmetric`: convolutions, padded right and below where they halve, as in DDPM;
            `symmetric`: padded on all sides, as in what OpenAI published; `blocks`: residual blocks, as in
            guided diffusion.
    """

    kind: Literal["unet"] = "unet"
    in_channels: int = 3
    out_channels: int = 3
    multipliers: tuple[int, ...] = (1, 2, 2, 2)
    attention_levels: tuple[int, ...] = (1,)
    classes: ClassesConfig | None = None
    time: TimeConfig = TimeConfig()
    resampling: Literal["asymmetric", "symmetric", "blocks"] = "asymmetric"

    def __post_init__(self) -> None:
        super().__post_init__()
        for name in ("in_channels", "out_channels"):
            if getattr(self, name) < 1:
                raise ValueError(f"{name} is {getattr(self, name)}, the least is 1: raise it")
        if self.channels % 2 or self.channels < 4:
            raise ValueError(f"channels {self.channels} do not hold sines and cosines: give an even number")
        levels = range(len(self.multipliers))
        if not {*self.attention_levels} <= {*levels}:
            raise ValueError(
                f"attention_levels {self.attention_levels} go beyond the levels, which are 0 to "
                f"{levels[-1]}: leave those out"
            )
        for level in {*self.attention_levels, levels[-1]}:  # the middle is as wide as the last level
            self.heads_of(self.widths[level])

    def build(self) -> "UNet":
        """The network, drawn from torch's global random numbers."""
        return UNet(self)


class UNet(nn.Module, Pretrained):
    """(b, in_channels, h, w) and steps (b,) -> (b, out_channels, h, w); zeros, when it is new.

    Dropout, and leaving classes out, are all that `train()` and `eval()` change. Channels lie last in memory,
    inside and in what it returns, because convolutions are faster so; the names of shapes stay.

    Attributes:
        down: Levels, the full size first.
        up: Levels, the full size first, run from the last to the first.
    """

    def __init__(self, config: UNetConfig) -> None:
        super().__init__()
        self.config = config
        widths = config.widths
        self.time = TimeEmbedding(config.time, config.channels, config.time_width)
        self.classes = ClassEmbedding(config.classes, config.time_width) if config.classes else None
        self.conv_in = nn.Conv2d(config.in_channels, widths[0], 3, padding=1)
        self.down = nn.ModuleList(_Down(config, level) for level in range(len(widths)))
        self.middle = _Middle(config, widths[-1])
        self.up = nn.ModuleList(_Up(config, level) for level in range(len(widths)))
        self.norm_out = GroupNorm(config.groups, widths[0], config.eps)
        self.conv_out = zeroed(nn.Conv2d(widths[0], config.out_channels, 3, padding=1))
        self.to(memory_format=torch.channels_last)

    @property
    def inside(self) -> tuple[nn.Module, ...]:
        """Between the first and the last layer, where Muon may train."""
        return (self.down, self.middle, self.up)

    def forward(self, x: Tensor, t: Tensor, labels: Tensor | None = None) -> Tensor:
        """The prediction (b, out_channels, h, w), for noisy images of about unit variance.

        Args:
            x: (b, in_channels, h, w), h and w divisible by `config.factor`.
            t: (b,) steps from 0 on, as all published UNets count them, whole or fractional.
            labels: (b,) in [0, classes.count), or classes.count for no class; None for a network without.

        Raises:
            ValueError: if shapes, types or labels do not fit (numbers are looked at on the CPU only).
        """
        config = self.config
        check_images(x, config.in_channels, config.factor)
        check_times(t, len(x))
        check_labels(labels, config.classes, len(x))
        time = self.time(t)
        if self.classes is not None:
            time = time + self.classes(labels)
        time = F.silu(time)  # once: it is what every block begins with
        x = self.conv_in(x.contiguous(memory_format=torch.channels_last))
        left = [x]
        for level in self.down:
            x = level(x, time, left)
        x = self.middle(x, time)
        for level in reversed(self.up):
            x = level(x, time, left)
        return self.conv_out(F.silu(self.norm_out(x)))


class _Down(nn.Module):
    """Blocks of one level, each followed by attention where asked for, then half the size but at the last."""

    def __init__(self, config: UNetConfig, level: int) -> None:
        super().__init__()
        width = config.widths[level]
        inner = [config.widths[max(level - 1, 0)], *[width] * (config.blocks - 1)]
        self.blocks = nn.ModuleList(ResidualBlock(config, width_in, width) for width_in in inner)
        self.attentions = _attentions(config, level, len(inner))
        self.resample = None
        if level < len(config.widths) - 1:
            blocks, asymmetric = config.resampling == "blocks", config.resampling == "asymmetric"
            self.resample = (
                ResidualBlock(config, width, width, halved) if blocks else Halve(width, asymmetric)
            )

    def forward(self, x: Tensor, time: Tensor, left: list[Tensor]) -> Tensor:
        """Brings x to the next level, and leaves in `left` what the way up takes."""
        for block, attention in zip(self.blocks, self.attentions, strict=True):
            x = attention(block(x, time))
            left.append(x)
        if self.resample is not None:
            x = self.resample(x, time)
            left.append(x)
        return x


class _Middle(nn.Module):
    """Block, attention, block, at the smallest size."""

    def __init__(self, config: UNetConfig, width: int) -> None:
        super().__init__()
        self.block1 = ResidualBlock(config, width, width)
        self.attention = Attention(config, width)
        self.block2 = ResidualBlock(config, width, width)

    def forward(self, x: Tensor, time: Tensor) -> Tensor:
        """Keep the shape."""
        return self.block2(self.attention(self.block1(x, time)), time)


class _Up(nn.Module):
    """Blocks of one level, each given what was left for it, then twice the size but at the first."""

    def __init__(self, config: UNetConfig, level: int) -> None:
        super().__init__()
        widths, width = config.widths, config.widths[level]
        below = widths[min(level + 1, len(widths) - 1)]
        above = widths[max(level - 1, 0)]  # what the last of the blocks is left is of the level above
        inner = [below + width, *[2 * width] * (config.blocks - 1), width + above]
        self.blocks = nn.ModuleList(ResidualBlock(config, width_in, width) for width_in in inner)
        self.attentions = _attentions(config, level, len(inner))
        self.resample = None
        if level > 0:
            blocks = config.resampling == "blocks"
            self.resample = ResidualBlock(config, width, width, doubled) if blocks else Double(width)

    def forward(self, x: Tensor, time: Tensor, left: list[Tensor]) -> Tensor:
        """Brings x to the level above, and takes from `left`."""
        for block, attention in zip(self.blocks, self.attentions, strict=True):
            x = attention(block(torch.cat((x, left.pop()), dim=1), time))
        return x if self.resample is None else self.resample(x, time)


def _attentions(config: UNetConfig, level: int, count: int) -> nn.ModuleList:
    """One for each block of a level, or as many that do nothing."""
    attended, width = level in config.attention_levels, config.widths[level]
    return nn.ModuleList(Attention(config, width) if attended else nn.Identity() for _ in range(count))
