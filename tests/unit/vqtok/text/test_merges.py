"""Merges in order, and dropped as BPE-dropout says."""

from collections import Counter

import numpy as np
import pytest

from vqtok.text.merges import merged

RANKS = {"ab": 0, "cd": 1, "bc": 2, "abcd": 3, "aa": 4}


def rank(left: str, right: str) -> int | None:
    """Of what two pieces make together."""
    return RANKS.get(left + right)


@pytest.mark.parametrize(
    ("word", "pieces"),
    [("abcd", ["abcd"]), ("bcd", ["b", "cd"]), ("bce", ["bc", "e"]), ("aaa", ["aa", "a"]), ("x", ["x"]),
     ("", [])],
)  # fmt: skip
def test_order(word: str, pieces: list[str]):
    """The lowest rank goes first, of equal ones the leftmost."""
    assert merged(word, rank) == pieces


def test_all_dropped():
    """With a chance of 1 characters are left."""
    assert merged("abcd", rank, 1.0, np.random.default_rng(0)) == [*"abcd"]


def test_odds():
    """Outcomes come as often as algorithm 1 of the paper says, worked out by hand for one word."""
    rng, drop = np.random.default_rng(0), 0.3
    counts = Counter("|".join(merged("abx", rank, drop, rng)) for _ in range(4000))
    assert counts["ab|x"] / 4000 == pytest.approx(0.7, abs=0.03)  # 4 standard deviations
    counts = Counter("|".join(merged("abc", rank, drop, rng)) for _ in range(4000))
    assert counts["ab|c"] / 4000 == pytest.approx(0.7, abs=0.03)
    assert counts["a|bc"] / 4000 == pytest.approx(0.3 * 0.7, abs=0.03)
    assert counts["a|b|c"] / 4000 == pytest.approx(0.3 * 0.3, abs=0.02)
