"""minDALL-E's text tokenizer: BPE over characters, words ending in `</w>`, of vocab.json and merges.txt.

The layout is huggingface `tokenizers`' CharBPETokenizer, as kakaobrain/minDALL-E uses it: BERT's clean-up,
small letters, words apart at white space and punctuation (Sennrich et al. 2016 for the merges). There is one
difference: "[UNK]" and "[PAD]" in a caption are text here, and not those ids.
"""

import json
import unicodedata
from collections.abc import Iterator, Sequence
from itertools import groupby
from pathlib import Path
from typing import Any

import numpy as np

from vqtok.storage.records import read_json
from vqtok.text.codec import UNREADABLE
from vqtok.text.merges import merged

END, UNKNOWN, PAD = "</w>", "[UNK]", "[PAD]"
HIDDEN = {"Cc", "Cf", "Co", "Cs"}  # as BERT's clean-up: unassigned characters stay
IDEOGRAPHS = (
    (0x4E00, 0x9FFF), (0x3400, 0x4DBF), (0x20000, 0x2A6DF), (0x2A700, 0x2B73F), (0x2B740, 0x2B81F),
    (0x2B920, 0x2CEAF), (0xF900, 0xFAFF), (0x2F800, 0x2FA1F),
)  # fmt: skip
# What ASCII has between letters and digits is punctuation to BERT, whatever Unicode calls it.
ASCII_MARKS = {chr(code) for low, high in ((33, 47), (58, 64), (91, 96), (123, 126))
               for code in range(low, high + 1)}  # fmt: skip


class CharBPE:
    """Pieces and merges of minDALL-E's kind at work; see `Codec`."""

    def __init__(self, model: bytes, lower: bool) -> None:
        try:
            data = json.loads(model)
            self.pieces, merges = list(data["pieces"]), [(left, right) for left, right in data["merges"]]
            self.unknown, self.pad = self.pieces.index(UNKNOWN), self.pieces.index(PAD)
        except (ValueError, KeyError, TypeError) as error:
            told = f"{len(model)} bytes are no pieces and merges: copy the folder again"
            raise ValueError(told) from error
        self.lower = lower
        self._id = {piece: id for id, piece in enumerate(self.pieces)}
        self._rank = {pair: rank for rank, pair in enumerate(merges)}

    def normalized(self, caption: str) -> str:
        """Cleaned as BERT does, small, and in words with one space between them."""
        clean = "".join(_clean(character) for character in caption)
        small = "".join(character.lower() for character in clean) if self.lower else clean
        return " ".join(word for part in small.split() for word in _words(part))

    def ids(self, captions: Sequence[str]) -> list[list[int]]:
        """Ids of normalized captions; every unknown character is one."""
        return [self._ids(caption, 0.0, None) for caption in captions]

    def dropped(self, captions: Sequence[str], dropout: float, rng: np.random.Generator) -> list[list[int]]:
        """The same with merges dropped at random."""
        return [self._ids(caption, dropout, rng) for caption in captions]

    def text(self, ids: Sequence[int]) -> str:
        """The caption that ids spell, in words with one space between them."""
        spoken = [id for id in ids if id != self.pad]
        pieces = [UNREADABLE if id == self.unknown else self.pieces[id] for id in spoken]
        return "".join(pieces).replace(END, " ").rstrip()

    def _ids(self, caption: str, dropout: float, rng: np.random.Generator | None) -> list[int]:
        words = [[*word[:-1], word[-1] + END] for word in caption.split()]
        pieces = [piece for word in words for piece in merged(word, self._ranked, dropout, rng)]
        return [self._id.get(piece, self.unknown) for piece in pieces]

    def _ranked(self, left: str, right: str) -> int | None:
        return self._rank.get((left, right))


def read_char_bpe(vocab: Path, merges: Path) -> bytes:
    """The bytes that `CharBPE` reads, of a vocab.json and a merges.txt.

    Raises:
        ValueError: naming the file, and the line, that is not of this kind.
    """
    pieces = _pieces(vocab)
    known, pairs = {*pieces}, []
    for number, line in enumerate(_lines(merges), start=1):
        if line.startswith("#version") or not line:
            continue
        pair = line.split(" ")
        strange = [piece for piece in (*pair, "".join(pair)) if piece not in known]
        if len(pair) != 2 or strange:
            why = f"{strange[0]!r} is not in {vocab.name}" if len(pair) == 2 else "it is not two pieces"
            raise ValueError(f"{merges}, line {number}: {line!r}: {why}: take both files from one model")
        pairs.append(pair)
    data = {"pieces": pieces, "merges": pairs}
    return json.dumps(data, ensure_ascii=False, separators=(",", ":")).encode()


def _pieces(vocab: Path) -> list[str]:
    """Pieces by id, of a vocab.json; one to pad with is added behind, as `tokenizers` does."""
    ids: dict[str, Any] = read_json(vocab)
    if UNKNOWN not in ids or not any(piece.endswith(END) for piece in ids):
        raise ValueError(
            f"{vocab} has no {UNKNOWN} or no piece that ends in {END}: only BPE over characters, as "
            "minDALL-E's, is read; fit a tokenizer of your own instead"
        )
    if sorted(ids.values(), key=str) != sorted(range(len(ids)), key=str):
        raise ValueError(f"{vocab}: {len(ids)} pieces do not have the ids 0 to {len(ids) - 1}: copy it again")
    pieces = sorted(ids, key=ids.__getitem__)
    return pieces if PAD in ids else [*pieces, PAD]


def _lines(path: Path) -> list[str]:
    try:
        return path.read_text(encoding="utf-8").split("\n")
    except UnicodeDecodeError as error:
        raise ValueError(f"{path} is no UTF-8 ({error}): copy it again") from error


def _clean(character: str) -> str:
    """White space as a space, nothing for what does not print, ideographs as words of their own."""
    if character not in "\t\n\r" and (unicodedata.category(character) in HIDDEN or character == "\ufffd"):
        return ""
    if character.isspace():
        return " "
    code = ord(character)
    return f" {character} " if any(low <= code <= high for low, high in IDEOGRAPHS) else character


def _words(part: str) -> Iterator[str]:
    """Text without white space, punctuation marks as words of their own."""
    for mark, run in groupby(part, _is_mark):
        characters = list(run)
        yield from characters if mark else ["".join(characters)]


def _is_mark(character: str) -> bool:
    return character in ASCII_MARKS or unicodedata.category(character)[0] == "P"
