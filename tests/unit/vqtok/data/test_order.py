"""The endless shuffled order."""

import math
from collections import Counter

import pytest

from vqtok.data.order import Shuffled, shuffled


def epoch_of(length: int, seed: int, epoch: int = 0) -> list[int]:
    """All places of one epoch, in their order."""
    return [shuffled(epoch * length + place, length, seed) for place in range(length)]


def test_never_changes() -> None:
    """The order is the same on every machine and in every version: resumed runs rest on it."""
    assert epoch_of(10, seed=0) == [5, 0, 7, 1, 4, 3, 6, 9, 2, 8]
    assert shuffled(10**15 + 7, 10**12, seed=-3) == 643_794_394_838


def test_every_order_is_equally_likely() -> None:
    """Over 4,800 epochs the 24 orders of four samples pass a chi-square test (23 degrees, p = 0.001)."""
    counts = Counter(tuple(epoch_of(4, seed=1, epoch=epoch)) for epoch in range(4800))
    assert sum((counts[order] - 200) ** 2 / 200 for order in counts) < 49.7
    assert len(counts) == 24


def test_epochs_and_seeds_are_unrelated() -> None:
    """Two epochs, and two seeds, agree at as many places as chance has it: one on average."""
    base = epoch_of(500, seed=0)
    others = [epoch_of(500, seed=0, epoch=epoch) for epoch in range(1, 9)]
    others += [epoch_of(500, seed=seed) for seed in range(1, 9)]
    agreements = sum(a == b for other in others for a, b in zip(base, other, strict=True))
    assert abs(agreements - 16) < 4 * math.sqrt(16)


def test_shuffled_source_is_endless() -> None:
    """Sample k of the run is source[shuffled(k)], epoch after epoch."""
    order = Shuffled("abcde", seed=3)
    first, second = [order[k] for k in range(5)], [order[k] for k in range(5, 10)]
    assert sorted(first) == sorted(second) == list("abcde")
    assert first[2] == "abcde"[shuffled(2, 5, seed=3)]


def test_mistakes_are_named() -> None:
    """An empty source and a negative index are refused."""
    with pytest.raises(ValueError, match="0 samples"):
        Shuffled([])
    with pytest.raises(ValueError, match="0 samples"):
        shuffled(0, 0, seed=0)
    with pytest.raises(ValueError, match="index -1"):
        Shuffled([1])[-1]
