"""What is kept from training: a share of combinations, by hashes of names alone."""

from itertools import combinations, permutations

import numpy as np
import pytest

from vqtok.data.combinations import Combinations
from vqtok.data.emoji import STYLES, load_emoji

NAMES = [f"thing {number}" for number in range(2000)]


@pytest.mark.parametrize("share", [0.05, 0.1, 0.25])
def test_share_of_styles(share: float):
    """The share of all (thing, style), spread evenly over the styles."""
    held = [Combinations(share=share).style(name, STYLES) for name in NAMES]
    counts = [held.count(style) for style in STYLES]
    assert sum(counts) / len(NAMES) / len(STYLES) == pytest.approx(share, abs=0.012)  # 4 deviations of a coin
    assert all(count / len(NAMES) == pytest.approx(share, abs=0.035) for count in counts)


def test_share_of_pairs():
    """The share of all unordered pairs."""
    held = [Combinations().apart(one, other) for one, other in combinations(NAMES[:300], 2)]
    assert np.mean(held) == pytest.approx(0.1, abs=0.006)  # 4 deviations of a coin


def test_order_does_not_matter():
    """A pair is the same from either side, and styles may be listed in any order."""
    some = Combinations()
    for one, other in combinations(NAMES[:40], 2):
        assert some.apart(one, other) == some.apart(other, one)
    for name in NAMES[:40]:
        assert len({some.style(name, order) for order in permutations(STYLES)}) == 1


def test_the_seed_decides():
    """The same seed holds out the same, another one others."""
    held = [[Combinations(seed=seed).style(name, STYLES) for name in NAMES[:100]] for seed in (0, 0, 1)]
    assert held[0] == held[1] != held[2]


def test_a_single_style_is_never_held_out():
    """Or training would not know the thing."""
    assert {Combinations(share=0.25).style(name, ["flat"]) for name in NAMES[:100]} == {None}


def test_shares_that_leave_nothing_are_refused():
    """More than a quarter of four styles, or less than nothing."""
    for share in (0.26, -0.1):
        with pytest.raises(ValueError, match="of combinations is outside"):
            Combinations(share=share)


def test_shares_of_the_embedded_names():
    """Groups of look-alikes differ in size, and still about a tenth of names' combinations is held out."""
    names, some = load_emoji("train"), Combinations()
    styles = [some.style(one.group, STYLES) in one.webp for one in names]
    assert 0.07 < sum(styles) / sum(len(one.webp) for one in names) < 0.13
    pairs = [some.apart(one.group, other.group) for one, other in combinations(names[::3], 2)]
    assert 0.07 < np.mean(pairs) < 0.13
