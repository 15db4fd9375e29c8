"""Captions and pictures as rows of ids, in the order in which a run reads them.

Pictures are shards that `vqtok encode --captions` wrote. Their captions lie beside the ids, as text, and
become words on the way, each time with other merges dropped (Provilkov et al. 2020; Ramesh et al. 2021).

Letters: r rows, n places of text, t tokens of a picture.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from dalle.layout import NONE, Layout
from vqtok.data.captions import Captioned
from vqtok.data.order import shuffled
from vqtok.data.shards import Shards
from vqtok.text import TextTokenizer
from vqtok.tokenizers.fingerprint import fingerprint
from vqtok.tokenizers.interface import ImageTokenizer

MANY = 4096  # captions that are counted at once


@dataclass(frozen=True, kw_only=True)
class CaptionsConfig:
    """What a model learns from.

    Args:
        shards: Folder that `vqtok encode` filled with pairs.
        tokenizer: Folder, file or hub id of the image tokenizer that made them.
        text: Folder or hub id of the text tokenizer.
        validation: Shards of held-out pairs; None keeps some of `shards`.
        held_out: Pairs kept for validation, or taken of `validation`.
        batch: Pairs a step, over all processes.
        merges_dropped: Chance that a merge of the text tokenizer is left out, so that words are cut in other
            ways too; the paper's. Only tokenizers of kind bpe have merges.
        captions_dropped: Share of captions that are left out, so that guidance has something to compare with;
            the paper's model had no guidance.
        overflow: What becomes of captions that are too long: their ends are cut, counted and told, or they
            are an error.
        workers: Processes that read ahead.
    """

    shards: Path
    tokenizer: str
    text: str
    validation: Path | None = None
    held_out: int = 256
    batch: int = 16
    merges_dropped: float = 0.1
    captions_dropped: float = 0.1
    overflow: Literal["truncate", "error"] = "truncate"
    workers: int = 0

    def __post_init__(self) -> None:
        for name in ("merges_dropped", "captions_dropped"):
            if not 0 <= getattr(self, name) < 1:
                value = getattr(self, name)
                raise ValueError(f"data.{name} is {value}, a share below 1: 0 drops none, 0.1 is usual")


@dataclass(frozen=True)
class Found:
    """What captions are to a text tokenizer.

    Args:
        captions: How many.
        cut: Those that are longer than there are places.
        unknown: Those with characters that it does not know.
        words: Words of all of them, what is cut included.
        longest: Words of the longest.
    """

    captions: int
    cut: int
    unknown: int
    words: int
    longest: int

    @property
    def facts(self) -> dict[str, float]:
        """For the records of a run."""
        return {
            "captions/cut": self.cut,
            "captions/unknown": self.unknown,
            "captions/words": self.words / self.captions,
        }

    def __str__(self) -> str:
        return (
            f"{self.captions:,} captions of {self.words / self.captions:.1f} tokens, the longest of "
            f"{self.longest}; {self.cut} are cut, {self.unknown} have unknown characters"
        )


class Rows:
    """Pictures and captions of shards.

    Args:
        shards: What `vqtok encode` wrote of pairs.
        captions: One for each row.
        text: Captions -> words.
        layout: Of the rows.
    """

    def __init__(
        self, shards: Shards, captions: Sequence[str], text: TextTokenizer, layout: Layout
    ) -> None:
        self.shards, self.captions, self.text, self.layout = shards, captions, text, layout

    def __len__(self) -> int:
        return len(self.shards)

    def row(self, index: int, merges_dropped: float = 0.0, rng: np.random.Generator | None = None) -> Tensor:
        """(n + t,) of row `index`: its caption, some merges left out, and its picture."""
        caption = words(self.text, self.captions[index], self.layout.places, merges_dropped, rng)
        return torch.cat([self.layout.text(caption[None])[0], self._picture(index)])

    def silent(self, index: int) -> Tensor:
        """(n + t,) of row `index` behind the null caption."""
        return torch.cat([self.layout.padding, self._picture(index)])

    def part(self, chosen: Sequence[int]) -> Tensor:
        """(r, n + t) of some rows."""
        return torch.stack([self.row(index) for index in chosen])

    def evenly(self, count: int | None) -> list[int]:
        """So many rows, spread over all; None, or more than there are, takes all."""
        count = min(count or len(self), len(self))
        return [number * len(self) // count for number in range(count)]

    def found(self, overflow: str = "truncate") -> Found:
        """All captions, counted.

        Raises:
            ValueError: if `overflow` is "error" and a caption is too long; it names the first.
        """
        lengths, unknown = [], 0
        for start in range(0, len(self.captions), MANY):
            texts = self.text.encode(self.captions[start : start + MANY])
            lengths += (texts.ids != NONE).sum(1).tolist()
            unknown += texts.unknown
        long = [row for row, length in enumerate(lengths) if length > self.layout.places]
        if long and overflow == "error":
            first = self.captions[long[0]]
            raise ValueError(
                f"{len(long)} captions are longer than {self.layout.places} tokens, such as row {long[0]}, "
                f"{first[:60]!r}: raise text_length to {max(lengths)}, or set data.overflow to truncate"
            )
        return Found(len(lengths), len(long), unknown, sum(lengths), max(lengths))

    def _picture(self, index: int) -> Tensor:
        return self.shards[index] + self.layout.first_code


class Order:
    """Endless training order over some rows: each once an epoch, shuffled anew.

    Which merges and which captions are dropped is a function of (seed, epoch, index), too.

    Args:
        rows: Where they are.
        chosen: Which of them.
        seed: Another seed is another order.
        merges_dropped: As in `CaptionsConfig`.
        captions_dropped: As in `CaptionsConfig`.
    """

    def __init__(
        self,
        rows: Rows,
        chosen: Sequence[int],
        seed: int,
        merges_dropped: float = 0.0,
        captions_dropped: float = 0.0,
    ) -> None:
        self.rows, self.chosen, self.seed = rows, chosen, seed
        self.merges_dropped, self.captions_dropped = merges_dropped, captions_dropped

    def __getitem__(self, index: int) -> Tensor:
        """(n + t,) int64 of the stream."""
        number = self.chosen[shuffled(index, len(self.chosen), self.seed)]
        rng = np.random.default_rng((self.seed, index))  # the index counts epochs, too
        if rng.random() < self.captions_dropped:
            return self.rows.silent(number)
        return self.rows.row(number, self.merges_dropped, rng)


def words(
    text: TextTokenizer,
    caption: str,
    places: int,
    merges_dropped: float = 0.0,
    rng: np.random.Generator | None = None,
) -> Tensor:
    """(n,) words of a caption, -1 behind its end.

    One that only dropped merges make too long is taken whole, with none dropped: dropping cuts nothing.
    """
    found = text.encode([caption], dropout=merges_dropped, rng=rng).ids[0]
    if merges_dropped and len(found) > places:
        found = text.encode([caption]).ids[0]
    return F.pad(found, (0, places - len(found)), value=NONE)  # a negative pad cuts


def rows_of(folder: Path, tokenizer: ImageTokenizer, name: str, text: TextTokenizer, layout: Layout) -> Rows:
    """The rows of a folder, if the image tokenizer called `name` made them for pictures of this layout.

    Raises:
        ValueError: if another one did, pictures have another size, or captions are missing.
    """
    pairs, mark = Captioned(folder), fingerprint(tokenizer)
    shards = pairs.shards
    if shards.tokenizer != mark:
        raise ValueError(
            f"{folder} was encoded by tokenizer {str(shards.tokenizer)[:12]}, {name} is {mark[:12]}: encode "
            "again with this one, or name that one"
        )
    for facts in shards.facts:
        if tuple(facts.get("grid", ())) != layout.shape:
            raise ValueError(
                f"{folder} holds pictures of {facts.get('grid')} codes, the tokenizer's size gives "
                f"{list(layout.shape)}: encode without --size, and without --pairs"
            )
    return Rows(shards, pairs.captions, text, layout)
