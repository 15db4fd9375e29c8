"""Parts of the UNet: residual blocks that are told the time, self-attention, resampling.

Letters: b images, c channels, h w size, n places, d width of what tells the time.

Sources: Ho et al. 2020, appendix B; Nichol & Dhariwal 2021 (scale and shift); Dhariwal & Nichol 2021 (blocks
that resample, after BigGAN). What ends a branch begins at zero: each block begins as its skip.
"""

from collections.abc import Callable
from dataclasses import dataclass

import torch.nn.functional as F
from einops import rearrange
from torch import Tensor, nn

from diffusion.networks.dropout import Dropout
from vqtok.tokenizers.attention import attended
from vqtok.tokenizers.autoencoder import Pyramid
from vqtok.tokenizers.doubling import DoublingConv2d
from vqtok.tokenizers.norms import GroupNorm

Resize = Callable[[Tensor], Tensor]


@dataclass(frozen=True, kw_only=True)
class Parts(Pyramid):
    """What the blocks of a UNet have in common.

    Args:
        heads: Of every attention.
        head_width: Channels of one head, in place of `heads`: wider levels have more heads.
        eps: Of the norms: 1e-6 in DDPM, 1e-5 in what OpenAI published.
        scale_shift: Whether the time scales and shifts behind a block's second norm, or shifts before it.
    """

    heads: int = 1
    head_width: int | None = None
    eps: float = 1e-6
    scale_shift: bool = False

    def __post_init__(self) -> None:
        super().__post_init__()
        for name in ("heads", "head_width"):
            value = getattr(self, name)
            if value is not None and value < 1:
                raise ValueError(f"{name} is {value}, the least is 1: raise it")
        if self.head_width is not None and self.heads != 1:
            raise ValueError(f"heads {self.heads} and head_width {self.head_width} are both given: keep one")
        if not self.eps > 0:
            raise ValueError(f"eps {self.eps} is not above 0: 1e-06 is usual")
        if not 0 <= self.dropout < 1:
            raise ValueError(f"dropout {self.dropout} is outside [0, 1): 0 turns it off")

    @property
    def time_width(self) -> int:
        """Channels d of what tells the time and the class."""
        return 4 * self.channels

    def heads_of(self, width: int) -> int:
        """Heads of an attention of `width` channels.

        Raises:
            ValueError: if they do not divide it.
        """
        if width % (self.head_width or self.heads):
            told = f"heads {self.heads}" if self.head_width is None else f"head_width {self.head_width}"
            raise ValueError(f"{told} does not divide the {width} channels of an attention: change it")
        return self.heads if self.head_width is None else width // self.head_width


class ResidualBlock(nn.Module):
    """skip(x) + conv(swish(norm(conv(swish(norm(x))) + time))); `resize` acts on branch and skip."""

    def __init__(self, config: Parts, width_in: int, width: int, resize: Resize | None = None) -> None:
        super().__init__()
        self.scale_shift = config.scale_shift
        self.resize = resize
        self.norm1 = GroupNorm(config.groups, width_in, config.eps)
        self.conv1 = nn.Conv2d(width_in, width, 3, padding=1)
        self.time = nn.Linear(config.time_width, width * (1 + config.scale_shift))
        self.norm2 = GroupNorm(config.groups, width, config.eps)
        self.dropout = Dropout(config.dropout)
        self.conv2 = zeroed(nn.Conv2d(width, width, 3, padding=1))
        self.skip = nn.Conv2d(width_in, width, 1) if width_in != width else nn.Identity()

    def forward(self, x: Tensor, time: Tensor) -> Tensor:
        """(b, width, h', w') of x (b, width_in, h, w) and the time (b, d), which has its SiLU already."""
        y = F.silu(self.norm1(x))
        if self.resize is not None:
            x, y = self.resize(x), self.resize(y)
        y, told = self.conv1(y), self.time(time)[:, :, None, None]
        if self.scale_shift:
            scale, shift = told.chunk(2, dim=1)
            y = self.norm2(y) * (1 + scale) + shift
        else:
            y = self.norm2(y + told)
        return self.skip(x) + self.conv2(self.dropout(F.silu(y)))


class SelfAttention(nn.Module):
    """Every place sees every place, (b, n, c) -> (b, n, c)."""

    def __init__(self, width: int, heads: int) -> None:
        super().__init__()
        self.heads = heads
        self.qkv = nn.Linear(width, 3 * width)
        self.out = nn.Linear(width, width)

    def forward(self, x: Tensor) -> Tensor:
        """What is to be added to the stream."""
        q, k, v = rearrange(self.qkv(x), "b n (qkv heads c) -> qkv b heads n c", qkv=3, heads=self.heads)
        return self.out(rearrange(attended(q, k, v), "b heads n c -> b n (heads c)"))


class Attention(nn.Module):
    """x + self-attention of norm(x), over all places of a grid."""

    def __init__(self, config: Parts, width: int) -> None:
        super().__init__()
        self.norm = GroupNorm(config.groups, width, config.eps)
        self.attention = SelfAttention(width, config.heads_of(width))
        zeroed(self.attention.out)

    def forward(self, x: Tensor) -> Tensor:
        """Keep the shape (b, c, h, w)."""
        y = self.attention(rearrange(self.norm(x), "b c h w -> b (h w) c"))
        return x + rearrange(y, "b (h w) c -> b c h w", h=x.shape[2])


class Halve(nn.Module):
    """Half the size by a stride-2 convolution; `asymmetric` pads right and below only, as DDPM does."""

    def __init__(self, width: int, asymmetric: bool) -> None:
        super().__init__()
        self.asymmetric = asymmetric
        self.conv = nn.Conv2d(width, width, 3, stride=2, padding=0 if asymmetric else 1)

    def forward(self, x: Tensor, time: Tensor) -> Tensor:
        """(b, c, h, w) -> (b, c, h/2, w/2); a convolution is not told the time."""
        return self.conv(F.pad(x, (0, 1, 0, 1)) if self.asymmetric else x)


class Double(nn.Module):
    """Twice the size by repeating pixels, then a convolution."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.conv = DoublingConv2d(width, width)

    def forward(self, x: Tensor, time: Tensor) -> Tensor:
        """(b, c, h, w) -> (b, c, 2h, 2w); a convolution is not told the time."""
        return self.conv(x)


def halved(x: Tensor) -> Tensor:
    """(b, c, h/2, w/2): means of 2 x 2 pixels."""
    return F.avg_pool2d(x, 2)


def doubled(x: Tensor) -> Tensor:
    """(b, c, 2h, 2w): every pixel four times."""
    return F.interpolate(x, scale_factor=2.0, mode="nearest")


def zeroed(layer: nn.Module) -> nn.Module:
    """`layer` with weight and bias of 0."""
    for weight in layer.parameters():
        nn.init.zeros_(weight)
    return layer
