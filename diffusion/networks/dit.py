"""A transformer over patches of noisy images, conditioned through its norms.

Peebles & Xie 2023 (DiT), section 3, with adaLN-Zero blocks, written from the paper: for each block, step and
class give a scale and a shift after each norm and a gate before each sum, which begin at zero.

Letters: b images, c channels, h w size, p side of a patch, i j grid, n = i j patches, d width.
"""

from dataclasses import dataclass
from typing import Literal

import torch
import torch.nn.functional as F
from einops import rearrange
from torch import Tensor, nn

from diffusion.networks.blocks import SelfAttention, zeroed
from diffusion.networks.classes import ClassEmbedding, ClassesConfig, check_labels
from diffusion.networks.images import check_images
from diffusion.networks.times import TimeConfig, TimeEmbedding, check_times, wave
from vqtok.storage.pretrained import Pretrained

WAVES = 256  # sines and cosines that tell the step, of the paper's "256-dimensional frequency embedding"
EPS = 1e-6


@dataclass(frozen=True, kw_only=True)
class DiTConfig:
    """Shape of one DiT; DiT-S is 384 wide, 12 deep, with 6 heads.

    Args:
        kind: Names this network in recipes.
        size: Side of the images, in pixels.
        in_channels: Of the noisy images.
        out_channels: Of the result; twice as many where the variance is learned.
        patch: Side of a patch, in pixels.
        width: Channels of the stream.
        depth: Blocks.
        heads: Of every attention.
        hidden: Inner channels of the MLPs; None means 4 times the width.
        classes: What labels may be given; None means none.
        time: How the step is told.
    """

    kind: Literal["dit"] = "dit"
    size: int = 32
    in_channels: int = 3
    out_channels: int = 3
    patch: int = 2
    width: int = 384
    depth: int = 12
    heads: int = 6
    hidden: int | None = None
    classes: ClassesConfig | None = None
    time: TimeConfig = TimeConfig(first="cos", shift=0)

    def __post_init__(self) -> None:
        for name in ("size", "in_channels", "out_channels", "patch", "width", "depth", "heads", "hidden"):
            value = getattr(self, name)
            if value is not None and value < 1:
                raise ValueError(f"{name} is {value}, the least is 1: raise it")
        if self.size % self.patch:
            raise ValueError(f"size {self.size} does not divide by patch {self.patch}: change one of them")
        if self.width % self.heads:
            raise ValueError(f"width {self.width} does not divide by heads {self.heads}: change one of them")
        if self.width % 4:
            raise ValueError(f"width {self.width} does not hold sines and cosines of two axes: divide by 4")

    @property
    def factor(self) -> int:
        """Pixels a side that one patch stands for."""
        return self.patch

    def build(self) -> "DiT":
        """The network, drawn from torch's global random numbers."""
        return DiT(self)


class DiT(nn.Module, Pretrained):
    """(b, in_channels, h, w) and steps (b,) -> (b, out_channels, h, w); zeros, when it is new.

    Leaving classes out is all that `train()` and `eval()` change.
    """

    def __init__(self, config: DiTConfig) -> None:
        super().__init__()
        self.config = config
        width, area = config.width, config.patch**2
        self.patches = nn.Linear(config.in_channels * area, width)
        self.time = TimeEmbedding(config.time, WAVES, width)
        self.classes = ClassEmbedding(config.classes, width) if config.classes else None
        self.blocks = nn.ModuleList(Block(config) for _ in range(config.depth))
        self.modulation = nn.Linear(width, 2 * width)
        self.out = nn.Linear(width, config.out_channels * area)
        grid = grid_positions(config.size // config.patch, width, config.time)
        self.register_buffer("positions", grid, persistent=False)
        self._initialize()

    @property
    def inside(self) -> tuple[nn.Module, ...]:
        """Between the first and the last layer, where Muon may train."""
        return (self.blocks,)

    def forward(self, x: Tensor, t: Tensor, labels: Tensor | None = None) -> Tensor:
        """The prediction (b, out_channels, h, w), for noisy images of about unit variance.

        Args:
            x: (b, in_channels, size, size).
            t: (b,) steps from 0 on, whole or fractional.
            labels: (b,) in [0, classes.count), or classes.count for no class; None for a network without.

        Raises:
            ValueError: if shapes, types or labels do not fit (numbers are looked at on the CPU only).
        """
        config = self.config
        check_images(x, config.in_channels, config.patch)
        if x.shape[2:] != (config.size, config.size):
            raise ValueError(
                f"x is of {x.shape[2]} x {x.shape[3]} pixels, this DiT of size {config.size}: "
                "its positions fit no other, so resize, or build one with that size"
            )
        check_times(t, len(x))
        check_labels(labels, config.classes, len(x))
        told = self.time(t)
        if self.classes is not None:
            told = told + self.classes(labels)
        told = F.silu(told)[:, None]  # once: it is what every modulation begins with
        tokens = rearrange(x, "b c (i p) (j q) -> b (i j) (c p q)", p=config.patch, q=config.patch)
        stream = self.patches(tokens) + self.positions
        for block in self.blocks:
            stream = block(stream, told)
        shift, scale = self.modulation(told).chunk(2, dim=-1)
        grid = {"i": config.size // config.patch, "p": config.patch, "q": config.patch}
        return rearrange(
            self.out(_modulated(stream, shift, scale)), "b (i j) (c p q) -> b c (i p) (j q)", **grid
        )

    def _initialize(self) -> None:
        """As for a ViT, and zeros for what modulates and for the last layer."""
        for layer in self.modules():
            if isinstance(layer, nn.Linear):
                nn.init.xavier_uniform_(layer.weight)
                nn.init.zeros_(layer.bias)
        for layer in (self.time.up, self.time.out):
            nn.init.normal_(layer.weight, std=0.02)
        if self.classes is not None:
            nn.init.normal_(self.classes.table.weight, std=0.02)
        for layer in (self.modulation, self.out, *(block.modulation for block in self.blocks)):
            zeroed(layer)


class Block(nn.Module):
    """Attention and an MLP; the step and the class scale, shift and gate both (adaLN-Zero)."""

    def __init__(self, config: DiTConfig) -> None:
        super().__init__()
        width, hidden = config.width, config.hidden or 4 * config.width
        self.attention = SelfAttention(width, config.heads)
        self.up = nn.Linear(width, hidden)
        self.down = nn.Linear(hidden, width)
        self.modulation = nn.Linear(width, 6 * width)

    def forward(self, x: Tensor, told: Tensor) -> Tensor:
        """(b, n, d) of x (b, n, d) and what is told (b, 1, d), which has its SiLU already."""
        shift, scale, gate, shift2, scale2, gate2 = self.modulation(told).chunk(6, dim=-1)
        x = x + gate * self.attention(_modulated(x, shift, scale))
        y = F.gelu(self.up(_modulated(x, shift2, scale2)), approximate="tanh")
        return x + gate2 * self.down(y)


def grid_positions(side: int, width: int, config: TimeConfig) -> Tensor:
    """Sines and cosines of row and column, (side^2, width), half the channels each."""
    axis = wave(torch.arange(side), width // 2, config)
    rows = axis[:, None].expand(side, side, -1)
    columns = axis[None].expand(side, side, -1)
    return torch.cat((rows, columns), dim=-1).flatten(0, 1)


def _modulated(x: Tensor, shift: Tensor, scale: Tensor) -> Tensor:
    """norm(x) (1 + scale) + shift, the norm without parameters of its own."""
    return F.layer_norm(x, x.shape[-1:], eps=EPS) * (1 + scale) + shift
