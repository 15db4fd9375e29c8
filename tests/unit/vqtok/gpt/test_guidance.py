"""Schedules of guidance: their ends, their way between, and the tokens that need an unconditional pass."""

import pytest

from vqtok.gpt.guidance import Constant, CutOff, Linear, PowerCosine, scales


@pytest.mark.parametrize(
    ("guidance", "first", "middle", "last"),
    [
        (Constant(scale=3), 3, 3, 3),
        (CutOff(scale=3, share=1), 3, 3, 3),
        (Linear(scale=3), 1, 2, 3),
        (PowerCosine(scale=3), 1, 2, 3),
        (PowerCosine(scale=3, power=2.0), 1, 1 + (1 - 2**-0.5), 3),
    ],
)
def test_ends_and_middle(guidance, first, middle, last):
    """The scale at the first, the middle and the last of nine tokens."""
    found = scales(guidance, 9)
    assert len(found) == 9
    assert (found[0], found[4], found[8]) == pytest.approx((first, middle, last))


@pytest.mark.parametrize("share", [0, 0.25, 0.5])
def test_a_cut_off_needs_no_pass_behind_it(share):
    """Of eight tokens that share is guided, and the list ends there."""
    assert scales(CutOff(scale=2, share=share), 8) == [2] * int(8 * share)


@pytest.mark.parametrize("guidance", [None, Constant(scale=1), CutOff(scale=1, share=1), Linear(scale=1)])
def test_scale_one_needs_no_pass(guidance):
    """Neither without guidance nor with one that changes nothing."""
    assert scales(guidance, 5) == []


def test_a_single_token_has_a_scale():
    """It is the first."""
    assert scales(Constant(scale=2), 1) == [2] and scales(Linear(scale=2), 1) == []


@pytest.mark.parametrize("power", [0.5, 1.0, 3.0])
def test_power_cosine_only_rises(power):
    """From token to token, and the later the larger the power."""
    found = scales(PowerCosine(scale=4, power=power), 20)
    assert found == sorted(found)
    later = scales(PowerCosine(scale=4, power=power + 1), 20)
    assert all(b <= a for a, b in zip(found, later, strict=True))


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: Constant(scale=-1), r"scale -1 is outside \[0, inf\)"),
        (lambda: Linear(scale=float("nan")), "scale nan"),
        (lambda: CutOff(scale=2, share=1.5), r"share 1.5 is outside \[0, 1\]"),
        (lambda: PowerCosine(scale=2, power=0), r"power 0 is outside \(0, inf\)"),
    ],
)
def test_bad_schedules_are_refused(make, message):
    """Values that mean nothing raise when the schedule is made."""
    with pytest.raises(ValueError, match=message):
        make()
