"""Small stand-ins for `vqtok.text` and `vqtok.data.captions`, until those rooms are built: then delete this.

The text tokenizer's ids are words. Only what `vqtok.clip` uses is here.
"""

import importlib.util
import sys
import types
import warnings
from collections.abc import Sequence
from dataclasses import dataclass, replace

import torch
from torch import Tensor, nn

from vqtok.storage.pretrained import Pretrained


@dataclass(frozen=True, kw_only=True)
class TextConfig:
    """As vqtok.text's."""

    vocab: int = 64
    bytes: int = 0


@dataclass(frozen=True)
class Texts:
    """As vqtok.text's."""

    ids: Tensor
    cut: int
    unknown: int


class TextTokenizer(nn.Module, Pretrained):
    """Words by their place in a list, 0 for others."""

    def __init__(self, config: TextConfig) -> None:
        super().__init__()
        self.config = config
        self.register_buffer("model", torch.zeros(config.bytes, dtype=torch.uint8))

    @classmethod
    def fit(cls, captions: Sequence[str], config: TextConfig) -> "TextTokenizer":
        """Of all words there are."""
        words = sorted({word for caption in captions for word in caption.lower().split()})
        model = bytearray("\n".join(words).encode())
        made = cls(replace(config, bytes=len(model)))
        made.model.copy_(torch.frombuffer(model, dtype=torch.uint8))
        return made.eval()

    @property
    def vocab(self) -> int:
        """Ids run from 0 to vocab - 1."""
        return self.config.vocab

    def encode(self, captions: Sequence[str], length: int | None = None) -> Texts:
        """Ids (b, t), -1 behind the end."""
        words = bytes(self.model.cpu().tolist()).decode().split("\n")
        known = {word: place + 1 for place, word in enumerate(words)}
        rows = [[known.get(word, 0) for word in caption.lower().split()] for caption in captions]
        for number, row in enumerate(rows):
            if not row:
                raise ValueError(f"caption {number} is empty")
        longest = max(map(len, rows))
        length = longest if length is None else length
        cut = sum(len(row) > length for row in rows)
        if cut:
            warnings.warn(f"{cut} of {len(rows)} captions are longer than {length} tokens", stacklevel=2)
        ids = torch.full((len(rows), length), -1)
        for number, row in enumerate(rows):
            ids[number, : len(row)] = torch.tensor(row[:length])
        return Texts(ids, cut, sum(0 in row for row in rows))


def install() -> None:
    """Let imports of the missing rooms find these."""
    if importlib.util.find_spec("vqtok.text") is None:
        text = types.ModuleType("vqtok.text")
        text.TextConfig, text.TextTokenizer, text.Texts = TextConfig, TextTokenizer, Texts
        text.load_text_tokenizer = TextTokenizer.from_pretrained
        sys.modules["vqtok.text"] = text
    if importlib.util.find_spec("vqtok.data.captions") is None:
        captions = types.ModuleType("vqtok.data.captions")
        captions.open_pairs = lambda name: None
        sys.modules["vqtok.data.captions"] = captions
