"""Visual sentences: which id means what, in which order, and how much each counts.

    BOS  x1 y1  x2 y2  ...  xk yk  EOS

Every image is whole, `tokens` codes row by row. Special ids lie above the codes, so none of them is ever a
code, and the end of a sentence cannot stop an image half-way. Bai et al. 2023 (LVM), section 3.2, with the
ids declared.

The published model is asked without them, and its sentences are images alone:

    x1 y1  x2 y2  ...  xk yk

Letters: b sentences, t tokens, k pairs, i images.
"""

from dataclasses import dataclass
from typing import Literal

import torch
from einops import rearrange
from torch import Tensor

SPECIALS = ("bos", "eos", "pad")
RESERVED = 100  # ids above the codes in the published model; its code does not say what they mean


@dataclass(frozen=True)
class Layout:
    """Ids of sentences over a tokenizer of `codes` codes and `tokens` tokens an image."""

    codes: int
    tokens: int

    @property
    def bos(self) -> int:
        """Begins every sentence."""
        return self.codes

    @property
    def eos(self) -> int:
        """Ends a sentence, after a whole image."""
        return self.codes + 1

    @property
    def pad(self) -> int:
        """Reserved for filling up sentences shorter than their neighbors."""
        return self.codes + 2

    @property
    def vocab(self) -> int:
        """Codes and special ids."""
        return self.codes + len(SPECIALS)

    @property
    def begin(self) -> tuple[int, ...]:
        """What stands before the first image."""
        return (self.bos,)

    @property
    def end(self) -> tuple[int, ...]:
        """What stands after the last image."""
        return (self.eos,)

    @property
    def drawable(self) -> Tensor:
        """(vocab,) bool: the ids that may stand inside an image."""
        return torch.arange(self.vocab) < self.codes

    def length(self, images: int) -> int:
        """Tokens t of a sentence of so many images, with what stands before and after them."""
        return len(self.begin) + images * self.tokens + len(self.end)

    def sentence(self, images: Tensor) -> Tensor:
        """(t,) ids of whole images (i, tokens)."""
        begin, end = torch.tensor(self.begin, dtype=torch.long), torch.tensor(self.end, dtype=torch.long)
        return torch.cat([begin, images.flatten(), end])

    def prompt(self, images: Tensor) -> Tensor:
        """(b, t) sentences of whole images (b, i, tokens), not ended; an image comes next."""
        begin = torch.tensor(self.begin, dtype=torch.long, device=images.device).expand(len(images), -1)
        return torch.cat([begin, rearrange(images, "b i t -> b (i t)")], dim=1)

    def weights(self, images: int, query: float) -> Tensor:
        """(t - 1,) what targets of a sentence of pairs count: answers 1, queries `query`, EOS 1.

        The first id of a sentence is no target, whether it is BOS or a code.
        """
        pair = torch.cat([torch.full((self.tokens,), query), torch.ones(self.tokens)])
        ends = torch.ones(len(self.begin)), torch.ones(len(self.end))
        return torch.cat([ends[0], pair.repeat(images // 2), ends[1]])[1:]

    def images(self, sentence: Tensor) -> Tensor:
        """(i, tokens) the whole images of one sentence (t,), special ids left out.

        Raises:
            ValueError: if codes are left over, or a special id stands inside an image.
        """
        codes = sentence[sentence < self.codes]
        if len(codes) % self.tokens:
            raise ValueError(
                f"{len(codes)} codes are no whole number of images of {self.tokens} tokens: the sentence was "
                "cut, draw it to its end"
            )
        lead = len(self.begin)
        body = sentence[lead:] if tuple(sentence[:lead].tolist()) == self.begin else sentence
        if not torch.equal(body[: len(codes)], codes):
            special = int(body[: len(codes)].max())
            raise ValueError(
                f"special id {special} stands among the codes: a sentence is BOS, whole images, EOS; draw "
                "only `drawable` ids inside images"
            )
        return rearrange(codes, "(i t) -> i t", t=self.tokens)


@dataclass(frozen=True)
class BareLayout(Layout):
    """Whole images one after the other and nothing else, as the published model is asked.

    Its vocabulary has ids above the codes, which are neither given to it nor drawn. BOS, EOS and PAD are not
    among them, as far as is known, and asking for one raises an AttributeError.
    """

    reserved: int = RESERVED

    @property
    def bos(self) -> int:
        """There is none."""
        raise AttributeError("a bare layout has no bos: its sentences begin with an image")

    @property
    def eos(self) -> int:
        """There is none."""
        raise AttributeError("a bare layout has no eos: its sentences end with an image")

    @property
    def pad(self) -> int:
        """There is none."""
        raise AttributeError("a bare layout has no pad: its sentences are of one length")

    @property
    def begin(self) -> tuple[int, ...]:
        """Nothing stands before the first image."""
        return ()

    @property
    def end(self) -> tuple[int, ...]:
        """Nothing stands after the last image."""
        return ()

    @property
    def vocab(self) -> int:
        """Codes and the ids above them."""
        return self.codes + self.reserved


@dataclass(frozen=True, kw_only=True)
class MarkedConfig:
    """BOS before the first image, EOS after the last.

    Args:
        kind: Names this layout in config.json.
    """

    kind: Literal["marked"] = "marked"

    def build(self, codes: int, tokens: int) -> Layout:
        """The layout over a tokenizer of `codes` codes and `tokens` tokens an image."""
        return Layout(codes, tokens)


@dataclass(frozen=True, kw_only=True)
class BareConfig:
    """Images alone, as the published model is asked.

    Args:
        kind: Names this layout in config.json.
        reserved: Ids above the codes.
    """

    kind: Literal["bare"] = "bare"
    reserved: int = RESERVED

    def __post_init__(self) -> None:
        if self.reserved < 0:
            raise ValueError(f"reserved {self.reserved} is below 0: count the ids above the codes")

    def build(self, codes: int, tokens: int) -> BareLayout:
        """The layout over a tokenizer of `codes` codes and `tokens` tokens an image."""
        return BareLayout(codes, tokens, self.reserved)


LayoutConfig = MarkedConfig | BareConfig
