"""OpenAI's dVAE, the tokenizer of DALL-E (Ramesh et al. 2021, section 2.1 and appendix A): 8 pixels a code.

The encoder scores every code at every place, the token is the best; the decoder sees one of 8192 channels
switched on. Names of tensors are those of OpenAI's `dall_e`, with `weight` and `bias` for its `w` and `b`.

Letters: b images, c channels, h w size; i j grid of codes, v vocabulary.
"""

from collections import OrderedDict
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import torch.nn.functional as F
from einops import rearrange
from torch import Tensor, nn

from vqtok.tokenizers.interface import ImageTokenizer, Reconstruction, check_size
from vqtok.tokenizers.quantizers.gumbel import GumbelScores

WIDTHS = (1, 2, 4, 8)  # channels of the four groups of blocks, in units of `channels`
MARGIN = 0.1  # pixels lie in [0.1, 0.9], inside the open range of the logit-Laplace distribution


@dataclass(frozen=True, kw_only=True)
class DVAEConfig:
    """Shape of a dVAE; the defaults are OpenAI's.

    Args:
        vocab: Ids run from 0 to vocab - 1.
        channels: Channels at full size; eight times as many at an eighth.
        blocks: Residual blocks in each of the four groups.
        embedding: Channels that the decoder turns a code into.
        size: Pixels a side of the images it was trained on.
        decodes: Whether there is a decoder; FLAVA published the encoder alone.
        kind: Tells folders of this network from others.
    """

    vocab: int = 8192
    channels: int = 256
    blocks: int = 2
    embedding: int = 128
    size: int = 256
    decodes: bool = True
    kind: Literal["dvae"] = "dvae"

    def __post_init__(self) -> None:
        for name in ("vocab", "channels", "blocks", "embedding"):
            if getattr(self, name) < 1:
                raise ValueError(f"{name} is {getattr(self, name)}, the least is 1: raise it")
        check_size(self.size, self.factor)
        if self.channels % 4:
            raise ValueError(f"channels {self.channels} do not divide by 4, which the bottlenecks need")

    @property
    def factor(self) -> int:
        """Pixels a side that one code stands for."""
        return 2 ** (len(WIDTHS) - 1)

    @property
    def gain(self) -> float:
        """What a residual path is multiplied by: 1 / layers^2."""
        return 1 / (len(WIDTHS) * self.blocks) ** 2


class DVAETokenizer(ImageTokenizer):
    """Images (b, 3, h, w) in [0, 1] <-> ids (b, i, j)."""

    def __init__(self, config: DVAEConfig) -> None:
        super().__init__()
        self.config = config
        self.encoder = DVAEEncoder(config)
        self.quantize = GumbelScores(config.vocab)
        if config.decodes:
            self.decoder = DVAEDecoder(config)

    @property
    def decodes(self) -> bool:
        """Whether there is a decoder."""
        return self.config.decodes

    @property
    def inside(self) -> Sequence[nn.Module]:
        """Parts between the first and the last layer, which Muon may train."""
        return self.encoder.blocks[1:-1], self.decoder.blocks[1:-1]

    @property
    def last_layer(self) -> nn.Parameter:
        """The weight that makes pixels, and their scales."""
        return self.decoder.blocks.output.conv.weight

    def forward(self, images: Tensor) -> Reconstruction:
        """Score codes, mix them by Gumbel-softmax, decode to a distribution of every pixel."""
        scores = self._vectors(images)
        out = self.quantize(scores)
        weights = out.vectors.to(self.decoder.blocks.input.weight.dtype)
        laplace = self.decoder(self.decoder.embed(weights)).float()
        return Reconstruction(_pixels(laplace), out.ids, scores, out.loss, out.terms, laplace)

    def _vectors(self, images: Tensor) -> Tensor:
        return self.encoder(shifted(images))

    def _images(self, ids: Tensor) -> Tensor:
        return _pixels(self.decoder(self.decoder.look_up(ids)).float())


def shifted(images: Tensor) -> Tensor:
    """Pixels in [0, 1] brought to [0.1, 0.9], where their logits are finite: the `map_pixels` of DALL-E."""
    return images * (1 - 2 * MARGIN) + MARGIN


def _pixels(laplace: Tensor) -> Tensor:
    """Images (b, 3, h, w) of means and log-scales (b, 6, h, w): the medians, margins cut off."""
    return (laplace[:, :3].sigmoid() - MARGIN) / (1 - 2 * MARGIN)


class DVAEEncoder(nn.Module):
    """Images (b, 3, h, w) in [0.1, 0.9] -> logits (b, v, h/8, w/8)."""

    def __init__(self, config: DVAEConfig) -> None:
        super().__init__()
        widths = [config.channels * width for width in WIDTHS]
        kernels = (3, 3, 3, 1)
        befores = [widths[0], *widths[:-1]]
        halve = [nn.MaxPool2d(2), nn.MaxPool2d(2), nn.MaxPool2d(2), nn.Identity()]
        self.blocks = nn.Sequential(
            OrderedDict(
                input=_conv(3, widths[0], 7),
                **_groups(config, befores, widths, kernels, halve),
                output=nn.Sequential(OrderedDict(relu=nn.ReLU(), conv=_conv(widths[-1], config.vocab, 1))),
            )
        )

    def forward(self, images: Tensor) -> Tensor:
        """Scores of every code at every place."""
        return self.blocks(images)


class DVAEDecoder(nn.Module):
    """Embedded codes (b, embedding, i, j) -> means and log-scales (b, 6, 8i, 8j) of the logits of pixels."""

    def __init__(self, config: DVAEConfig) -> None:
        super().__init__()
        widths = [config.channels * width for width in reversed(WIDTHS)]
        befores = [config.embedding, *widths[:-1]]
        double = [*(nn.Upsample(scale_factor=2.0, mode="nearest") for _ in range(3)), nn.Identity()]
        self.blocks = nn.Sequential(
            OrderedDict(
                input=_conv(config.vocab, config.embedding, 1),
                **_groups(config, befores, widths, (1, 3, 3, 3), double),
                output=nn.Sequential(OrderedDict(relu=nn.ReLU(), conv=_conv(widths[-1], 6, 1))),
            )
        )

    def look_up(self, ids: Tensor) -> Tensor:
        """(b, embedding, i, j) of ids (b, i, j): the first convolution on one-hot channels, without those."""
        layer = self.blocks.input
        codes = F.embedding(ids, layer.weight[:, :, 0, 0].T) + layer.bias
        return rearrange(codes, "b i j c -> b c i j")

    def embed(self, weights: Tensor) -> Tensor:
        """(b, embedding, i, j) of weights (b, v, i, j) of the codes, such as Gumbel-softmax gives."""
        return self.blocks.input(weights)

    def forward(self, codes: Tensor) -> Tensor:
        """Logits of the pixels' means, then log-scales, of embedded codes."""
        return self.blocks[1:](codes)


class Bottleneck(nn.Module):
    """x + gain * four convolutions, each behind a ReLU, the inner ones a quarter as wide."""

    def __init__(self, width_in: int, width: int, kernels: Sequence[int], gain: float) -> None:
        super().__init__()
        self.gain = gain
        widths = [width_in, *[width // 4] * 3, width]
        path: OrderedDict[str, nn.Module] = OrderedDict()
        for number, kernel in enumerate(kernels, start=1):
            path[f"relu_{number}"] = nn.ReLU()
            path[f"conv_{number}"] = _conv(widths[number - 1], widths[number], kernel)
        self.res_path = nn.Sequential(path)
        self.id_path = _conv(width_in, width, 1) if width_in != width else nn.Identity()

    def forward(self, x: Tensor) -> Tensor:
        """Keep the size, bring (b, width_in, h, w) to (b, width, h, w)."""
        return self.id_path(x) + self.gain * self.res_path(x)


def _groups(
    config: DVAEConfig,
    befores: Sequence[int],
    widths: Sequence[int],
    kernels: Sequence[int],
    resizes: Sequence[nn.Module],
) -> dict[str, nn.Module]:
    """Four groups of blocks, numbered from one as OpenAI does, each followed by a change of size."""
    groups = {}
    for number, (before, width, resize) in enumerate(zip(befores, widths, resizes, strict=True), start=1):
        inputs = [before, *[width] * (config.blocks - 1)]
        blocks = {
            f"block_{place}": Bottleneck(width_in, width, kernels, config.gain)
            for place, width_in in enumerate(inputs, start=1)
        }
        groups[f"group_{number}"] = nn.Sequential(OrderedDict(**blocks, resize=resize))
    return groups


def _conv(width_in: int, width: int, kernel: int) -> nn.Conv2d:
    return nn.Conv2d(width_in, width, kernel, padding=kernel // 2)
