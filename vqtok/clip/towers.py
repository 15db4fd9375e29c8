"""Two networks with one space of vectors at their ends: one for images, by timm, one for captions.

Radford et al. 2021, "Learning Transferable Visual Models From Natural Language Supervision" (CLIP), section
2.4. The text tower is torch's own encoder: it sees the whole caption at once and is read as the mean over its
tokens, so that nothing of it depends on what other captions a batch holds.

Letters: b images, n captions, t tokens of the longest caption, d width of the shared space, k of the text
tower.
"""

import difflib
import math
from dataclasses import dataclass, field

import torch
import torch.nn.functional as F
from torch import Tensor, nn

NONE = -1  # in the place of an id: no token
START, SHARPEST = 1 / 0.07, 100.0  # inverse temperature: at first, and at most (section 2.5)


@dataclass(frozen=True, kw_only=True)
class TextTowerConfig:
    """Shape of the transformer that reads captions.

    Args:
        length: Longest caption, in tokens; the ends of longer ones are not read.
        width: Channels of its stream.
        depth: Blocks.
        heads: Attention heads; width must divide by it.
        dropout: Share of activations set to zero while training.
    """

    length: int = 32
    width: int = 128
    depth: int = 3
    heads: int = 4
    dropout: float = 0.0

    def __post_init__(self) -> None:
        for name in ("length", "width", "depth", "heads"):
            if getattr(self, name) < 1:
                raise ValueError(f"text {name} {getattr(self, name)} is below 1: give a whole number from 1")
        if self.width % self.heads:
            raise ValueError(f"text width {self.width} does not divide by heads {self.heads}: change one")
        if not 0 <= self.dropout < 1:
            raise ValueError(f"text dropout {self.dropout} is outside [0, 1): 0 turns it off")


@dataclass(frozen=True, kw_only=True)
class TowersConfig:
    """Shape of both towers.

    Args:
        image: What timm calls the image tower; its weights are drawn, not downloaded.
        size: Pixels a side that the image tower sees; images of other sizes are scaled.
        width: Channels of the space where images and captions meet.
        text: The text tower.
    """

    image: str = "resnet10t"
    size: int = 64
    width: int = 128
    text: TextTowerConfig = field(default_factory=TextTowerConfig)

    def __post_init__(self) -> None:
        if self.size < 1 or self.width < 1:
            raise ValueError(f"size {self.size} and width {self.width} must be at least 1: raise them")


class ImageTower(nn.Module):
    """Images (b, 3, h, w) in [0, 1] -> (b, d), of no particular length.

    Raises:
        ValueError: if timm has no network of that name, or refuses the size.
    """

    def __init__(self, config: TowersConfig) -> None:
        super().__init__()
        self.net = _timm(config.image, config.size)
        features = getattr(self.net, "head_hidden_size", None) or self.net.num_features
        self.out = nn.Linear(features, config.width, bias=False)

    def forward(self, images: Tensor) -> Tensor:
        """(b, d)."""
        return self.out(self.net(2 * images - 1))


class TextTower(nn.Module):
    """Ids (n, t) in [0, vocab), -1 behind the end of a caption -> (n, d), of no particular length."""

    def __init__(self, config: TextTowerConfig, vocab: int, width: int) -> None:
        super().__init__()
        self.embed = nn.Embedding(vocab, config.width)
        self.places = nn.Parameter(torch.empty(config.length, config.width))
        self.blocks = nn.ModuleList(
            nn.TransformerEncoderLayer(
                config.width,
                config.heads,
                4 * config.width,
                config.dropout,
                activation=F.gelu,
                batch_first=True,
                norm_first=True,
            )
            for _ in range(config.depth)
        )
        self.norm = nn.LayerNorm(config.width)
        self.out = nn.Linear(config.width, width, bias=False)
        nn.init.normal_(self.embed.weight, std=0.02)
        nn.init.normal_(self.places, std=0.01)

    def forward(self, ids: Tensor) -> Tensor:
        """(n, d)."""
        missing = ids == NONE
        x = self.embed(ids.clamp(min=0)) + self.places[: ids.shape[1]]
        for block in self.blocks:
            x = block(x, src_key_padding_mask=missing)
        there = (~missing)[..., None]
        # `where`, since what stands behind an end may be anything, and anything times zero may be none.
        return self.out(torch.where(there, self.norm(x), 0).sum(1) / there.sum(1))


class Towers(nn.Module):
    """Both towers and the temperature between them: what is trained.

    Args:
        config: Their shape.
        vocab: Ids of text run from 0 to vocab - 1.
    """

    def __init__(self, config: TowersConfig, vocab: int) -> None:
        super().__init__()
        self.config = config
        self.image = ImageTower(config)
        self.text = TextTower(config.text, vocab, config.width)
        self.log_scale = nn.Parameter(torch.tensor(math.log(START)))

    def forward(self, images: Tensor, ids: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Images (b, d) and captions (n, d) of length 1, and what their cosines are multiplied with, ()."""
        return self.images(images), self.texts(ids), self.log_scale.exp()

    def images(self, images: Tensor) -> Tensor:
        """(b, d) of length 1, float32, of images (b, 3, size, size) in [0, 1]."""
        return F.normalize(self.image(images).float(), dim=-1)

    def texts(self, ids: Tensor) -> Tensor:
        """(n, d) of length 1, float32, of ids (n, t), one or more a caption, -1 behind its end."""
        return F.normalize(self.text(ids).float(), dim=-1)

    @torch.no_grad()
    def limit_scale(self) -> None:
        """Bring the scale back to 100 if a step has brought it above.

        The weight is limited and not what is made of it: beyond a limit of the latter no gradient would lead
        back.
        """
        self.log_scale.clamp_(max=math.log(SHARPEST))


def _timm(name: str, size: int) -> nn.Module:
    """A network of timm's, its weights drawn, that gives one vector an image."""
    import timm  # takes seconds, and a recipe may be refused before

    if not timm.is_model(name):
        near = difflib.get_close_matches(name, timm.list_models(), n=1)
        raise ValueError(f"timm has no network {name!r}" + (f"; did you mean {near[0]}?" if near else ""))
    known = timm.models.get_pretrained_cfg(name)
    sized = {"img_size": size} if known is not None and known.fixed_input_size else {}
    try:
        return timm.create_model(name, num_classes=0, in_chans=3, **sized)
    except (AssertionError, RuntimeError, ValueError) as error:
        raise ValueError(f"timm's {name} cannot be built for {size} pixels: {error}") from error
