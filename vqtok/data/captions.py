"""Pictures with captions: from many sources by one word, and their tokens on disk.

    folder:my/captioned          pictures, and text files of the same stems
    tar:data/train-*.tar         WebDataset: jpg, png or webp, and txt or json
    hub:owner/name:train         two columns of a data set of `datasets`, from the hub or a folder
    emoji:train:20000            the embedded emoji, in words (`vqtok.data.emoji_pairs`)

`vqtok encode --captions` turns any of these into token shards with the captions beside them, which
`Captioned` reads.

Letters: n rows, w ids in a row; h w rows and columns of pixels.
"""

import json
from bisect import bisect_right
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import accumulate
from pathlib import Path

from torch import Tensor

from vqtok.data.columns import ColumnPairs
from vqtok.data.emoji_pairs import EmojiPairs
from vqtok.data.pairing import FolderPairs, Pairs
from vqtok.data.pictures import Fit
from vqtok.data.shards import Shards
from vqtok.data.tars import TarPairs
from vqtok.storage.manifests import sha256

FILE = "captions.jsonl"
FACT = "captions"  # of a shard: the hash of that file


@dataclass(frozen=True, kw_only=True)
class Reading:
    """How pairs are read from a source.

    Args:
        size: Height and width of the pictures, in pixels; None leaves each its own.
        fit: What becomes of one that is not square, as in `read_picture`.
        tolerate: Share of what may be left out, rounded up to whole ones.
        caption_key: Where captions are: a key of a tar's `json`, or a column; None looks at the usual ones.
        picture_key: Which column pictures are; None takes the only one.
        seed: Of what is drawn, and of the words for it.
    """

    size: int | None = None
    fit: Fit = "crop"
    tolerate: float = 0.01
    caption_key: str | None = None
    picture_key: str | None = None
    seed: int = 0

    @property
    def form(self) -> dict[str, object]:
        """What all that lies somewhere is read by."""
        return {"size": self.size, "fit": self.fit, "tolerate": self.tolerate}


def open_captions(source: str, reading: Reading | None = None) -> Pairs:
    """The pairs that a word names, `[index]` giving ((h, w, 3) uint8, caption).

    Args:
        source: A kind, a colon and what it is, as the module tells.
        reading: How; None reads pictures in their own sizes.

    Raises:
        ValueError: if there is no such source, it is damaged, or too much of it is no pair.
    """
    kind, colon, rest = source.partition(":")
    if not (kind in SOURCES and rest):
        known = ", ".join(f"{kind}:..." for kind in SOURCES)
        guess = f"; did you mean folder:{source}?" if not colon and Path(source).is_dir() else ""
        raise ValueError(f"{source!r} is no source of captions: give one of {known}{guess}")
    return SOURCES[kind](rest, reading or Reading())


class Captioned:
    """Token shards with their captions: `[index]` is ((w,) int64 ids, caption).

    `vqtok.data.Shuffled` over one is an endless order that depends on (seed, epoch, index) alone.

    Args:
        folder: Of shards that `vqtok encode --captions` wrote, at any depth.
        verify: Compare hashes of ids as well; those of captions are always compared.

    Attributes:
        shards: The ids alone; it knows `vocab`, `width`, `tokenizer` and `facts`.
        captions: One for each row; they are held in memory.

    Raises:
        ValueError: if a shard has no captions, others than those it was written with, or another number of
            them than of rows; and as of `Shards`.
    """

    def __init__(self, folder: str | Path, verify: bool = True) -> None:
        self.shards = Shards(folder, verify)
        facts = zip(self.shards.folders, self.shards.facts, self.shards.rows, strict=True)
        self.captions = [caption for place, told, rows in facts for caption in _read(place, told, rows)]
        self._ends = list(accumulate(self.shards.rows))

    def __len__(self) -> int:
        return len(self.shards)

    def __getitem__(self, index: int) -> tuple[Tensor, str]:
        return self.shards[index], self.captions[index]

    def name(self, index: int) -> str:
        """The name that a row's picture had in its source."""
        shard = bisect_right(self._ends, index)
        return self.shards.facts[shard]["names"][index - self._ends[shard] + self.shards.rows[shard]]


def beside(captions: Sequence[str]) -> tuple[dict[str, str], dict[str, bytes]]:
    """What `write_shard` takes for a shard's captions: facts, and files by name.

    The file has a line of JSON for each caption, in UTF-8.
    """
    lines = (json.dumps({"caption": caption}, ensure_ascii=False) for caption in captions)
    content = "".join(f"{line}\n" for line in lines).encode()
    return {FACT: sha256(content)}, {FILE: content}


def _read(folder: Path, facts: dict, rows: int) -> list[str]:
    """The captions of one shard."""
    path = folder / FILE
    if FACT not in facts:
        raise ValueError(f"{folder} has no captions: write shards with `vqtok encode --captions`")
    if not path.is_file():
        raise ValueError(f"{path} is missing: restore it, or encode this shard again")
    content = path.read_bytes()
    lines = content.split(b"\n")[:-1]
    if len(lines) != rows:
        raise ValueError(f"{path} has {len(lines)} captions for {rows} rows: encode this shard again")
    if sha256(content) != facts[FACT]:
        raise ValueError(f"{path} has changed since it was written: copy it or encode this shard again")
    return [json.loads(line)["caption"] for line in lines]


def _folder(place: str, reading: Reading) -> Pairs:
    return FolderPairs(place, **reading.form)


def _tar(place: str, reading: Reading) -> Pairs:
    return TarPairs(place, reading.caption_key, **reading.form)


def _hub(place: str, reading: Reading) -> Pairs:
    name, _, split = place.partition(":")
    keys = {"picture_key": reading.picture_key, "caption_key": reading.caption_key}
    return ColumnPairs(name, split or "train", **keys, **reading.form)


def _emoji(place: str, reading: Reading) -> Pairs:
    return EmojiPairs(f"emoji:{place}", reading.size, reading.seed, fit=reading.fit)


SOURCES: dict[str, Callable[[str, Reading], Pairs]] = {
    "folder": _folder,
    "tar": _tar,
    "hub": _hub,
    "emoji": _emoji,
}
