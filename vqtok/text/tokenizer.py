"""A text tokenizer: captions <-> ids, its model's bytes a tensor, so that any bundle can carry it.

DALL-E's is BPE with 16,384 ids over captions in small letters, with 10 % of the merges dropped in training
(Ramesh et al. 2021, section 2.2).

Letters: b captions, t ids of the longest of them.
"""

import warnings
from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace
from typing import Any, Literal, Self

import numpy as np
import torch
from torch import Tensor, nn

from vqtok.storage.pretrained import Pretrained
from vqtok.text.char_bpe import CharBPE
from vqtok.text.codec import Codec
from vqtok.text.normalization import normalized
from vqtok.text.sentence_pieces import SentencePieces, fitted

NONE = -1  # in the place of an id: no token


@dataclass(frozen=True, kw_only=True)
class TextConfig:
    """How captions become ids.

    Args:
        vocab: Ids run from 0 to vocab - 1; one of them is for unknown characters.
        kind: How words are cut: by merges (bpe), or into the likeliest pieces (unigram); char-bpe is
            minDALL-E's, which is read and not fitted.
        lower: Whether capitals become small letters.
        coverage: Share of the characters of the captions it is fitted to that have pieces; the rarest others
            are unknown.
        bytes: Length of the model, which fitting finds.

    Raises:
        ValueError: if there is no such vocabulary or share.
    """

    vocab: int = 16_384
    kind: Literal["bpe", "unigram", "char-bpe"] = "bpe"
    lower: bool = True
    coverage: float = 1.0
    bytes: int = 0

    def __post_init__(self) -> None:
        if self.vocab < 2 or self.bytes < 0:
            raise ValueError(f"vocab {self.vocab}, bytes {self.bytes}: give at least 2, and at least 0")
        if not 0 < self.coverage <= 1:
            raise ValueError(f"coverage is {self.coverage}, a share of the characters: give above 0 up to 1")


@dataclass(frozen=True)
class Texts:
    """Captions as ids.

    Args:
        ids: (b, t) int64; -1 behind the end of a caption, where there is no token.
        cut: Captions that were longer than there was room for, and lost their ends.
        unknown: Captions with characters that have no piece.
    """

    ids: Tensor
    cut: int
    unknown: int


class TextTokenizer(nn.Module, Pretrained):
    """Captions <-> ids in [0, vocab). It has no parameters; `model` holds what sentencepiece reads."""

    model: Tensor

    def __init__(self, config: TextConfig) -> None:
        super().__init__()
        self.config = config
        self.register_buffer("model", torch.zeros(config.bytes, dtype=torch.uint8))
        self._codec: Codec | None = None

    @classmethod
    def fit(cls, captions: Iterable[str], config: TextConfig) -> Self:
        """The tokenizer of one's own captions; the same ones, in any order, give the same bytes.

        Raises:
            ValueError: if a caption is empty or no text, naming its row; if there are none; or if `vocab` is
                less than their characters need, or more than they hold, saying how many can be had.
        """
        if config.kind == "char-bpe":
            raise ValueError("char-bpe is only read: fit kind bpe or unigram")
        counts = Counter(_checked(captions, lambda caption: normalized(caption, config.lower)))
        if not counts:
            raise ValueError("there are no captions to fit a text tokenizer to: give some")
        return cls.of(fitted(counts, config.kind, config.vocab, config.coverage), config)

    @classmethod
    def of(cls, model: bytes, config: TextConfig) -> Self:
        """The tokenizer of a model's bytes.

        Raises:
            ValueError: if these are no such model.
        """
        tokenizer = cls(replace(config, bytes=len(model)))
        tokenizer.model.copy_(torch.frombuffer(bytearray(model), dtype=torch.uint8))
        tokenizer._codec = tokenizer._opened()
        return tokenizer.eval()

    @property
    def vocab(self) -> int:
        """Ids run from 0 to vocab - 1."""
        return self.config.vocab

    @property
    def unknown(self) -> int:
        """Id of characters that have no piece."""
        return self._reader.unknown

    @property
    def pad(self) -> int | None:
        """Id that minDALL-E was trained to see behind a caption; None for tokenizers of ours."""
        return self._reader.pad

    @property
    def pieces(self) -> Sequence[str]:
        """What ids stand for, by id."""
        return tuple(self._reader.pieces)

    def normalized(self, caption: str) -> str:
        """A caption as this tokenizer sees it."""
        return self._reader.normalized(caption)

    def encode(
        self,
        captions: Sequence[str],
        length: int | None = None,
        *,
        overflow: Literal["truncate", "error"] = "truncate",
        dropout: float = 0.0,
        rng: np.random.Generator | None = None,
    ) -> Texts:
        """Ids of captions (b, t), on the CPU.

        Args:
            captions: In any spelling.
            length: t, the room there is; that of the longest caption if left out.
            overflow: What becomes of captions that are longer: their ends are cut off, counted and told in
                one warning, or they are an error.
            dropout: Chance that a merge is left out, for training; the paper's is 0.1.
            rng: Of the dropout; the same gives the same ids.

        Raises:
            ValueError: if a caption is empty or no text, or too long and `overflow` is "error", naming its
                row; or if a setting is none.
        """
        _check_settings(length, overflow, dropout, rng)
        texts = _checked(captions, self.normalized)
        rows = self._reader.dropped(texts, dropout, rng) if dropout else self._reader.ids(texts)
        longest = max(map(len, rows), default=0)
        length = longest if length is None else length
        long = [number for number, row in enumerate(rows) if len(row) > length]
        if long and overflow == "error":
            raise ValueError(
                f"caption {long[0]} has {len(rows[long[0]])} tokens, {length} fit: {_short(texts[long[0]])}; "
                "shorten it, or cut it with overflow='truncate'"
            )
        if long:
            _warn(len(long), len(rows), length, longest, dropout)
        ids = torch.full((len(rows), length), NONE)
        for number, row in enumerate(rows):
            ids[number, : len(row)] = torch.tensor(row[:length])
        return Texts(ids, cut=len(long), unknown=sum(self.unknown in row for row in rows))

    def decode(self, ids: Tensor | Sequence[Sequence[int]]) -> list[str]:
        """Captions of ids (b, t), or of b lists of ids; -1 is no token, "⁇" stands for unknown characters.

        Raises:
            ValueError: if an id is outside the vocabulary, or ids have another shape.
        """
        rows = ids.tolist() if isinstance(ids, Tensor) else [list(map(int, row)) for row in ids]
        if isinstance(ids, Tensor) and ids.ndim != 2:
            raise ValueError(f"ids are {tuple(ids.shape)}: give (b, t)")
        strange = [id for row in rows for id in row if not NONE <= id < self.vocab]
        if strange:
            raise ValueError(f"id {strange[0]} is outside [0, {self.vocab}): it is of another vocabulary")
        return [self._reader.text([id for id in row if id != NONE]) for row in rows]

    @property
    def _reader(self) -> Codec:
        if self._codec is None:
            self._codec = self._opened()
        return self._codec

    def _opened(self) -> Codec:
        """What reads `model`."""
        if not len(self.model) or self.model.is_meta:
            raise ValueError("this text tokenizer is empty: fit it to captions, or load one")
        config, data = self.config, self.model.cpu().numpy().tobytes()
        char = config.kind == "char-bpe"
        codec = CharBPE(data, config.lower) if char else SentencePieces(data, config.kind, config.lower)
        if len(codec.pieces) != config.vocab:
            raise ValueError(
                f"the model has {len(codec.pieces)} pieces, its configuration says vocab {config.vocab}: "
                "take both from one folder"
            )
        return codec

    def _load_from_state_dict(self, *arguments: Any) -> None:
        """As every module's; bytes that are no model are refused here, not at the first caption."""
        super()._load_from_state_dict(*arguments)
        self._codec = self._opened() if len(self.model) and not self.model.is_meta else None


def _checked(captions: Iterable[str], rule: Callable[[str], str]) -> list[str]:
    """Captions normalized by a rule.

    Raises:
        ValueError: naming the first row that is no text, or has none.
    """
    if isinstance(captions, str):
        raise ValueError(f"captions are a sequence of texts, not one: give [{_short(captions)}]")
    texts = []
    for row, caption in enumerate(captions):
        if not isinstance(caption, str):
            told = f"caption {row} is {caption!r}, a {type(caption).__name__} and no text"
            raise ValueError(f"{told}: leave its picture out, or name it")
        texts.append(rule(caption))
        if not texts[-1]:
            raise ValueError(f"caption {row} is empty ({_short(caption)}): leave its picture out, or name it")
    return texts


def _check_settings(
    length: int | None, overflow: str, dropout: float, rng: np.random.Generator | None
) -> None:
    if length is not None and length < 1:
        raise ValueError(f"length {length} has no room for text: give at least 1")
    if overflow not in ("truncate", "error"):
        raise ValueError(f"overflow is {overflow!r}: give 'truncate' or 'error'")
    if not 0 <= dropout <= 1:
        raise ValueError(f"dropout is {dropout}, a chance: give 0 to 1")
    if dropout and rng is None:
        raise ValueError(f"dropout {dropout} needs a generator: give rng=np.random.default_rng(seed)")


def _warn(cut: int, count: int, length: int, longest: int, dropout: float) -> None:
    """Tell that captions were cut; in training, at every step in the same words, which Python tells once."""
    told = f"{cut} of {count} captions are longer than {length} tokens and were cut; one has {longest}"
    if dropout:
        told = f"without some merges captions are longer than {length} tokens and were cut: `cut` counts them"
    warnings.warn(told, stacklevel=3)


def _short(text: str, most: int = 60) -> str:
    return repr(text if len(text) <= most else text[:most] + "...")
