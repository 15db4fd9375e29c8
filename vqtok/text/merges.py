"""Byte pair encoding by hand, so that merges can be dropped with a generator of the caller's.

Sennrich et al. 2016 for the merges; Provilkov et al. 2020, "BPE-Dropout", algorithm 1, for dropping them:
before each merge every possible one is left out with the same chance, and a word ends when none is left.
"""

from collections.abc import Callable, Sequence
from itertools import compress, pairwise

import numpy as np

Rank = Callable[[str, str], float | None]  # of two neighbors: lower merges first, None never


def merged(
    word: Sequence[str], rank: Rank, dropout: float = 0.0, rng: np.random.Generator | None = None
) -> list[str]:
    """The pieces of one word: of all neighbors that may merge, the lowest rank first, then the leftmost.

    Args:
        word: Its characters.
        rank: Of a piece and the one after it.
        dropout: Chance that a possible merge is left out of a step; 1 leaves characters.
        rng: Says which; needed if there is dropout.
    """
    parts = list(word)
    while True:
        ranks = [rank(*pair) for pair in pairwise(parts)]
        possible = [(value, place) for place, value in enumerate(ranks) if value is not None]
        if dropout:
            possible = list(compress(possible, rng.random(len(possible)) >= dropout))
        if not possible:
            return parts
        _, place = min(possible)
        parts[place : place + 2] = [parts[place] + parts[place + 1]]
