"""Which ids a picture is, in which order, and which of them a model learns.

A model that sees the past reads, and says in turn,

    P  x1 x2 ... x(t-1)
       x1 x2 x3 ... xt

where P is its prefix, a start token or a class. So every id has its loss, the first and the last too, and the
last is never read (Chen et al. 2020, ImageGPT). A model that sees both sides reads all ids but those that are
hidden from it, and says these (BERT, as in ImageGPT).

Letters: b pictures, i j grid of codes, q ids of a code, t = i j q tokens of a picture.
"""

import math
from dataclasses import dataclass

from einops import rearrange
from torch import Tensor

from vqtok.gpt.config import GPTConfig
from vqtok.gpt.prefix import ClassesConfig, SOSConfig
from vqtok.tokenizers.interface import ImageTokenizer


@dataclass(frozen=True)
class Layout:
    """Pictures of one size, row by row.

    Args:
        codes: Ids run from 0 to codes - 1.
        shape: Of one picture's ids: (i, j), or (i, j, q).
    """

    codes: int
    shape: tuple[int, ...]

    @classmethod
    def of(cls, tokenizer: ImageTokenizer) -> "Layout":
        """Of pictures of the size that a tokenizer was trained on."""
        side = tokenizer.config.size // tokenizer.factor
        return cls(tokenizer.vocab, (side, side, *tokenizer.id_shape))

    @property
    def tokens(self) -> int:
        """Ids of one picture."""
        return math.prod(self.shape)

    @property
    def row(self) -> int:
        """Ids of one row of codes."""
        return self.tokens // self.shape[0]

    def flat(self, ids: Tensor) -> Tensor:
        """(b, t) of a tokenizer's ids (b, i, j) or (b, i, j, q).

        Raises:
            ValueError: if they are those of pictures of another size.
        """
        if tuple(ids.shape[1:]) != self.shape:
            raise ValueError(
                f"pictures of {_by(ids.shape[1:])} codes meet a model of {_by(self.shape)}: bring them to "
                "its size first, as vqtok.data.read_picture(path, size=...) does"
            )
        return rearrange(ids, "b ... -> b (...)")

    def grid(self, ids: Tensor) -> Tensor:
        """What a tokenizer decodes, (b, i, j) or (b, i, j, q), of ids (b, t)."""
        return ids.view(len(ids), *self.shape)

    def check(self, config: GPTConfig) -> None:
        """Raise a ValueError unless a transformer of this shape can read and say such pictures."""
        if config.vocab != self.codes:
            raise ValueError(
                f"gpt.vocab is {config.vocab}, but the tokenizer has {self.codes} codes: set it to that (an "
                "LVM has special ids too, and is none of this family)"
            )
        if config.causal and not isinstance(config.prefix, SOSConfig | ClassesConfig):
            raise ValueError(
                "without a prefix nothing says the first token of a picture: set gpt.prefix to {kind: sos}, "
                "or to {kind: classes, classes: N}"
            )
        if not config.causal and config.prefix is not None:
            raise ValueError("a model that sees both sides begins with the picture: leave gpt.prefix out")
        needed = self.tokens - config.causal + config.prefix_places
        if config.length < needed:
            raise ValueError(
                f"gpt.length is {config.length}, a picture of {_by(self.shape)} codes needs {needed}: set it "
                "to that"
            )


def _by(shape: tuple[int, ...]) -> str:
    return "x".join(map(str, shape))
