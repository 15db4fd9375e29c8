"""Visual sentences: which id means what, in which order, and how much each counts.

    BOS  x1 y1  x2 y2  ...  xk yk  EOS

Every image is whole, `tokens` codes row by row. Special ids lie above the codes, so none of them is ever a
code, and the end of a sentence cannot stop an image half-way. Bai et al. 2023 (LVM), section 3.2, with the
ids declared.

Letters: b sentences, t tokens, k pairs, i images.
"""

from dataclasses import dataclass

import torch
from einops import rearrange
from torch import Tensor

SPECIALS = ("bos", "eos", "pad")


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
    def drawable(self) -> Tensor:
        """(vocab,) bool: the ids that may stand inside an image."""
        return torch.arange(self.vocab) < self.codes

    def length(self, images: int) -> int:
        """Tokens of a sentence of so many images, BOS and EOS included."""
        return images * self.tokens + 2

    def sentence(self, images: Tensor) -> Tensor:
        """(i tokens + 2,) ids of whole images (i, tokens)."""
        begin, end = torch.tensor([self.bos]), torch.tensor([self.eos])
        return torch.cat([begin, images.flatten(), end])

    def prompt(self, images: Tensor) -> Tensor:
        """(b, i tokens + 1) beginnings of sentences, of whole images (b, i, tokens); an image comes next."""
        begin = torch.full((len(images), 1), self.bos, device=images.device)
        return torch.cat([begin, rearrange(images, "b i t -> b (i t)")], dim=1)

    def weights(self, images: int, query: float) -> Tensor:
        """(i tokens + 1,) what targets of a sentence of pairs count: answers 1, queries `query`, EOS 1."""
        pair = torch.cat([torch.full((self.tokens,), query), torch.ones(self.tokens)])
        return torch.cat([pair.repeat(images // 2), torch.ones(1)])

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
        body = sentence[1:] if len(sentence) and sentence[0] == self.bos else sentence
        if not torch.equal(body[: len(codes)], codes):
            special = int(body[: len(codes)].max())
            raise ValueError(
                f"special id {special} stands among the codes: a sentence is BOS, whole images, EOS; draw "
                "only `drawable` ids inside images"
            )
        return rearrange(codes, "(i t) -> i t", t=self.tokens)
