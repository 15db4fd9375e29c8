"""What the inside of a text tokenizer is to it: normalized captions <-> lists of ids."""

from collections.abc import Sequence
from typing import Protocol

import numpy as np

UNREADABLE = "\u2047"  # stands for unknown characters in what is decoded; NFKC leaves none in a caption


class Codec(Protocol):
    """Read from the bytes that a bundle carries.

    Attributes:
        pieces: What ids stand for, by id.
        unknown: Id of all characters that have no piece.
        pad: Id that published models were trained to see behind a caption; None for ours.
    """

    pieces: list[str]
    unknown: int
    pad: int | None

    def normalized(self, caption: str) -> str:
        """The spelling that `ids` wants."""
        ...

    def ids(self, captions: Sequence[str]) -> list[list[int]]:
        """Ids of normalized captions."""
        ...

    def dropped(self, captions: Sequence[str], dropout: float, rng: np.random.Generator) -> list[list[int]]:
        """Ids of normalized captions, merges dropped at random."""
        ...

    def text(self, ids: Sequence[int]) -> str:
        """The caption that ids spell."""
        ...
