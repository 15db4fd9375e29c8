"""The order in which a run reads its samples: shuffled anew each epoch, a function of (seed, epoch, index).

Nothing is kept and nothing is drawn from a random stream, so the whole state of a data loader is one integer,
the samples consumed so far, whatever the number of ranks and workers.

The shuffle is a keyed permutation: a Feistel network over the cells of a nearly square table, after Black and
Rogaway 2002, "Ciphers with arbitrary finite domains" (their generalised Feistel cipher and cycle walking).
"""

import math
from collections.abc import Sequence
from functools import lru_cache
from hashlib import blake2b
from typing import Any

# With four rounds a chi-square test still sees that some orders of five samples are favored; with eight not.
ROUNDS = 8
WORD = (1 << 64) - 1


def shuffled(index: int, length: int, seed: int) -> int:
    """Which of `length` samples stands at `index` of an endless order; every epoch holds each sample once.

    Args:
        index: Place in the endless order, from 0; `index // length` is the epoch.
        length: Samples in an epoch.
        seed: Another seed is another order; so is another epoch.

    Returns:
        A number in [0, length).

    Raises:
        ValueError: if `length` or `index` is out of range.
    """
    if length < 1:
        raise ValueError(f"{length} samples cannot be put in order: give at least one")
    if index < 0:
        raise ValueError(f"index {index} lies before the first sample: count from 0")
    epoch, place = divmod(index, length)
    keys = _keys(seed, epoch)
    columns = math.isqrt(length - 1) + 1
    rows = -(-length // columns)
    place = _permuted(place, rows, columns, keys)
    while place >= length:  # the table has up to `columns - 1` cells too many: walk on until a real one
        place = _permuted(place, rows, columns, keys)
    return place


def _permuted(place: int, rows: int, columns: int, keys: tuple[int, ...]) -> int:
    """Cell of a table that `place` moves to: in turn each column, then each row, is rotated by its hash."""
    row, column = divmod(place, columns)
    for key in keys:
        row = (row + _mixed(key ^ column)) % rows
        column = (column + _mixed(key ^ ~row)) % columns  # ~row, lest row 3 turn like column 3
    return row * columns + column


def _mixed(word: int) -> int:
    """64 bits that all depend on all bits of `word`: the finalizer of splitmix64, Steele et al. 2014."""
    word = (word + 0x9E3779B97F4A7C15) & WORD  # also brings a negative word into 64 bits
    word = ((word ^ (word >> 30)) * 0xBF58476D1CE4E5B9) & WORD
    word = ((word ^ (word >> 27)) * 0x94D049BB133111EB) & WORD
    return word ^ (word >> 31)


@lru_cache(maxsize=16)
def _keys(seed: int, epoch: int) -> tuple[int, ...]:
    """One 64-bit key for each round."""
    digest = blake2b(f"{seed} {epoch}".encode(), digest_size=8 * ROUNDS).digest()
    return tuple(int.from_bytes(digest[8 * turn : 8 * turn + 8], "little") for turn in range(ROUNDS))


class Shuffled:
    """Endless training order over a finite `source`: sample `index` of the run is `order[index]`.

    Args:
        source: Anything with a length and samples by number.
        seed: Another seed is another order.

    Raises:
        ValueError: if `source` is empty.
    """

    def __init__(self, source: Sequence[Any], seed: int = 0) -> None:
        if not len(source):
            raise ValueError("0 samples cannot be put in order: the source is empty")
        self.source = source
        self.seed = seed

    def __getitem__(self, index: int) -> Any:
        return self.source[shuffled(index, len(self.source), self.seed)]
