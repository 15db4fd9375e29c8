"""Which ids a caption and its picture are, in which order, and which of them may stand where.

The stream is one: places of text, always as many, then the tokens of the picture row by row. A transformer
reads, and says in turn,

    S  w1 w2 ... wn  x1 x2 ... x(t-1)
       w1 w2 ... wn  x1 x2 x3  ...  xt

where S is a start token, so that every place of text and every token has its loss; the last is never read.
Ids of words run from 0 to `words` - 1. A place of text without a word holds the padding of that place, which
are n ids more, each learned (Ramesh et al. 2021, DALL-E, section 2.2). Then come the codes. The null caption,
which guidance compares with, is padding at every place.

Letters: b rows, n places of text, t tokens of a picture, i j grid of codes, q ids of a code, v vocabulary.
"""

import math
from dataclasses import dataclass

import torch
from einops import rearrange
from torch import Tensor

from vqtok.gpt.config import GPTConfig, RangeConfig
from vqtok.gpt.masks import FullConfig, GridConfig
from vqtok.gpt.positions import RoPE2DConfig, RowColumnConfig
from vqtok.gpt.prefix import SOSConfig
from vqtok.tokenizers.interface import ImageTokenizer

NONE = -1  # what a text tokenizer gives where a caption has no word


@dataclass(frozen=True)
class Layout:
    """Captions of one length and pictures of one size.

    Args:
        words: Ids of the text tokenizer.
        places: Of text in every stream.
        codes: Ids of the image tokenizer.
        shape: Of one picture's ids: (i, j), or (i, j, q).
    """

    words: int
    places: int
    codes: int
    shape: tuple[int, ...]

    def __post_init__(self) -> None:
        if self.places < 1:
            raise ValueError(f"text_length {self.places} leaves no place for a caption: 16 to 256 are usual")

    @classmethod
    def of(cls, words: int, places: int, tokenizer: ImageTokenizer) -> "Layout":
        """Of pictures of the size that a tokenizer was trained on, behind captions of that many places."""
        side = tokenizer.config.size // tokenizer.factor
        return cls(words, places, tokenizer.vocab, (side, side, *tokenizer.id_shape))

    @property
    def tokens(self) -> int:
        """Ids of one picture."""
        return math.prod(self.shape)

    @property
    def row(self) -> int:
        """Ids of one row of codes."""
        return self.tokens // self.shape[0]

    @property
    def length(self) -> int:
        """Ids of a caption and its picture, which is also how many places a transformer needs."""
        return self.places + self.tokens

    @property
    def first_code(self) -> int:
        """The first id of a code in the stream: how many ids of text there are, padding included."""
        return self.words + self.places

    @property
    def vocab(self) -> int:
        """Ids of the stream."""
        return self.first_code + self.codes

    @property
    def ranges(self) -> tuple[RangeConfig, RangeConfig]:
        """What the head may say where, which makes it one head for text and one for pictures."""
        text = RangeConfig(start=1, low=0, high=self.first_code)
        return text, RangeConfig(start=1 + self.places, low=self.first_code, high=self.vocab)

    def text(self, words: Tensor) -> Tensor:
        """(b, n) of the stream, of words (b, n) with -1 where there is none.

        Raises:
            ValueError: if there are not so many places, or one is no word.
        """
        if words.ndim != 2 or words.shape[1] != self.places:
            raise ValueError(
                f"words of shape {tuple(words.shape)} meet {self.places} places of text: encode captions "
                f"with length={self.places}"
            )
        strange = words[(words < NONE) | (words >= self.words)]
        if len(strange):
            raise ValueError(
                f"word {int(strange[0])} is outside [0, {self.words}): encode with this model's own text "
                "tokenizer"
            )
        return torch.where(words == NONE, self.padding.to(words.device), words)

    @property
    def padding(self) -> Tensor:
        """(n,) what stands at each place of text without a word; all of it is the null caption."""
        return torch.arange(self.words, self.first_code)

    def worded(self, text: Tensor) -> Tensor:
        """(b, n) bool, where text (b, n) of the stream has words."""
        return text < self.words

    def image(self, ids: Tensor) -> Tensor:
        """(b, t) of the stream, of a tokenizer's ids (b, i, j) or (b, i, j, q); fewer of fewer top rows.

        Raises:
            ValueError: if they are those of pictures of another width, or a higher one.
        """
        rows = ids.shape[1] if ids.ndim > 1 else 0
        if tuple(ids.shape[2:]) != self.shape[1:] or not 0 < rows <= self.shape[0]:
            raise ValueError(
                f"pictures of {_by(ids.shape[1:])} codes meet a model of {_by(self.shape)}: bring them to "
                "its size first, as vqtok.data.read_picture(path, size=...) does"
            )
        return rearrange(ids, "b ... -> b (...)") + self.first_code

    def grid(self, ids: Tensor) -> Tensor:
        """What a tokenizer decodes, (b, i, j) or (b, i, j, q), of ids (b, t) of the stream."""
        return (ids - self.first_code).view(len(ids), *self.shape)

    def check(self, config: GPTConfig) -> None:
        """Raise a ValueError unless a transformer of this shape can read and say such rows."""
        if config.vocab != self.vocab:
            raise ValueError(
                f"gpt.vocab is {config.vocab}, but {self.words} words, {self.places} paddings and "
                f"{self.codes} codes make {self.vocab}: set it to that"
            )
        if isinstance(config.attention.mask, FullConfig) or not isinstance(config.prefix, SOSConfig):
            raise ValueError(
                "captions are read before pictures, and the first word after a start token: leave the mask "
                "causal or make it a grid, and set gpt.prefix to {kind: sos}"
            )
        if config.length < self.length:
            raise ValueError(
                f"gpt.length is {config.length}, {self.places} places of text and a picture of "
                f"{_by(self.shape)} codes need {self.length}: set it to that"
            )
        if config.head.ranges != self.ranges:
            raise ValueError(f"gpt.head.ranges must tell words from codes: set it to {_yaml(self.ranges)}")
        self._check_grids(config)

    def _check_grids(self, config: GPTConfig) -> None:
        """Grids of positions and masks begin with the picture, and are as wide."""
        for name, part in (("positions", config.positions), ("attention.mask", config.attention.mask)):
            if not isinstance(part, RowColumnConfig | RoPE2DConfig | GridConfig):
                continue
            if (part.columns, part.before) != (self.row, 1 + self.places):
                raise ValueError(
                    f"gpt.{name} has a grid of {part.columns} columns after {part.before} places, the "
                    f"picture has {self.row} after a start and {self.places} of text: set columns to "
                    f"{self.row} and before to {1 + self.places}"
                )


def _by(shape: tuple[int, ...]) -> str:
    return "x".join(map(str, shape))


def _yaml(ranges: tuple[RangeConfig, ...]) -> str:
    """As a recipe has it."""
    told = (f"{{start: {part.start}, low: {part.low}, high: {part.high}}}" for part in ranges)
    return f"[{', '.join(told)}]"
