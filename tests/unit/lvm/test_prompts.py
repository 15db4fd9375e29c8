"""Orders of pairs, and what is allowed."""

import math

import pytest
import torch

from lvm.layout import BareLayout, Layout
from lvm.prompts import allowed_ids, orders


@pytest.mark.parametrize(("pairs", "ensemble"), [(0, 1), (1, 1), (3, 6), (5, 2), (8, 5)])
def test_orders_are_unlike_and_leave_no_pair_out(pairs: int, ensemble: int, shots: int = 3):
    """The first is as given; as many pairs each as fit, none twice; all pairs are read by some prompt."""
    found = orders(pairs, shots, ensemble, seed=3)
    fit = min(pairs, shots)
    assert len(found) == len(set(found)) == ensemble and found[0] == tuple(range(fit))
    assert all(len(order) == len(set(order)) == fit for order in found)
    assert {pair for order in found for pair in order} == set(range(pairs))
    assert found == orders(pairs, shots, ensemble, seed=3)


def test_another_seed_is_another_order():
    """All but the first."""
    found = {tuple(orders(7, 7, 3, seed=seed)) for seed in range(5)}
    assert len(found) == 5


@pytest.mark.parametrize(
    ("pairs", "ensemble", "message"),
    [
        (2, 0, "an ensemble of 0 prompts asks nobody"),
        (4, 1, "4 pairs are too many, 3 fit before a query: leave some out, or ask an ensemble of 2"),
        (7, 2, "7 pairs are too many, 3 fit before a query in each of 2 prompts: .* an ensemble of 3"),
        (0, 2, "an ensemble of 2 prompts, but 0 pairs make 1: ask for fewer"),
        (2, 3, "an ensemble of 3 prompts, but 2 pairs make 2: ask for fewer, or give more pairs"),
        (3, math.factorial(3) + 1, "an ensemble of 7 prompts, but 3 pairs make 6"),
    ],
)
def test_what_cannot_be_read_is_refused(pairs: int, ensemble: int, message: str):
    """How many were given, how many fit, and the way out."""
    with pytest.raises(ValueError, match=message):
        orders(pairs, 3, ensemble)


@pytest.mark.parametrize("layout", [Layout(codes=9, tokens=4), BareLayout(codes=9, tokens=4)])
def test_allowed_ids_are_codes(layout: Layout):
    """All of them, those seen, or those of a mask, and never an id above."""
    shown = torch.tensor([[2, 3], [3, 8]])
    mask = torch.arange(9) % 2 == 0
    found = [allowed_ids(layout, allowed, shown) for allowed in (None, "seen", mask)]
    assert all(len(ids) == layout.vocab for ids in found)
    assert [ids.nonzero().flatten().tolist() for ids in found] == [[*range(9)], [2, 3, 8], [0, 2, 4, 6, 8]]


@pytest.mark.parametrize(
    ("allowed", "message"),
    [
        ("shown", "allowed is 'shown': 'seen' allows codes of the answers shown, None all"),
        (torch.ones(10, dtype=torch.bool), r"of shape \(10,\) with 10 codes: give bool of shape \(9,\)"),
        (torch.ones(9), "allowed is torch.float32"),
        (torch.zeros(9, dtype=torch.bool), "with 0 codes: give bool .* at least one true"),
    ],
)
def test_senseless_limits_are_refused(allowed: object, message: str):
    """With what would do."""
    with pytest.raises(ValueError, match=message):
        allowed_ids(Layout(codes=9, tokens=4), allowed, torch.tensor([1]))
