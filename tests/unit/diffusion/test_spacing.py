"""Pairs of times: every spacing, numbers that do not divide, and the documented table."""

import pytest

from diffusion.spacing import pairs, spaced

SPACINGS = ("trailing", "linspace", "leading", "quadratic")


@pytest.mark.parametrize("spacing", SPACINGS)
@pytest.mark.parametrize("total", [2, 10, 97, 1000])
@pytest.mark.parametrize("steps", [1, 2, 3, 7, 10, 30, 50, 64, 96, 97, 333, 999, 1000])
def test_pairs_lead_down_to_0_once(spacing, total, steps):
    """So many steps, each beginning where the last ended, in range, and only the last one reaches 0."""
    if steps > total:
        with pytest.raises(ValueError, match=rf"steps {steps} is outside \[1, {total}\]"):
            spaced(total, steps, spacing)
        return
    found = spaced(total, steps, spacing)
    assert len(found) == steps
    assert all(total >= t > s >= 0 for t, s in found)
    assert [s for _, s in found] == [t for t, _ in found[1:]] + [0]
    if spacing != "leading":
        assert found[0][0] == total


@pytest.mark.parametrize("spacing", SPACINGS)
def test_all_steps_are_all_times(spacing):
    """With T steps every spacing visits every time."""
    assert [t for t, _ in spaced(60, 60, spacing)] == list(range(60, 0, -1))


@pytest.mark.parametrize(
    ("spacing", "times"),
    [
        ("trailing", [1000, 750, 500, 250]),
        ("linspace", [1000, 667, 334, 1]),
        ("leading", [751, 501, 251, 1]),
        ("quadratic", [1000, 459, 126, 1]),
    ],
)
def test_documented_table(spacing, times):
    """The table at the head of the file."""
    assert [t for t, _ in spaced(1000, 4, spacing)] == times


def test_no_stride_fits_linspace():
    """With 30 of 1000 steps neighbors are 34 or 35 apart; a stride of 1000 // 30 = 33 is never right."""
    lengths = {t - s for t, s in spaced(1000, 30, "linspace")[:-1]}
    assert lengths == {34, 35} and 1000 // 30 not in lengths


def test_times_of_ones_own():
    """Falling times become pairs; others are refused, and so is an unknown spacing."""
    assert pairs([9, 4, 1]) == [(9, 4), (4, 1), (1, 0)]
    for wrong in ([4, 9], [3, 3], [2, 0], []):
        with pytest.raises(ValueError, match="do not fall"):
            pairs(wrong)
    with pytest.raises(ValueError, match="'karras' is none of trailing, linspace"):
        spaced(10, 5, "karras")
