"""Ids in mixed radix."""

import torch

from vqtok.tokenizers.quantizers.digits import from_digits, other_order, to_digits


def test_the_first_channel_counts_ones():
    """id = digit_1 + base_1 (digit_2 + base_2 digit_3)."""
    digits = torch.tensor([[0, 0, 0], [1, 0, 0], [0, 1, 0], [0, 0, 1], [4, 2, 1]])
    ids = from_digits(digits, (5, 3, 2))
    assert ids.tolist() == [0, 1, 5, 15, 29]
    assert torch.equal(to_digits(ids, (5, 3, 2)), digits)


def test_the_other_order():
    """There the last channel counts ones; with the bases in reverse it comes back."""
    digits = torch.tensor([[1, 0, 0], [0, 0, 1], [4, 2, 1]])
    ids = from_digits(digits, (5, 3, 2))
    other = other_order(ids, (5, 3, 2))
    assert other.tolist() == [6, 1, 29]
    assert torch.equal(other_order(other, (2, 3, 5)), ids)


def test_ids_beyond_int32():
    """62 bits are kept apart."""
    digits = torch.ones(1, 62, dtype=torch.int64)
    ids = from_digits(digits, [2] * 62)
    assert ids.tolist() == [2**62 - 1] and torch.equal(to_digits(ids, [2] * 62), digits)
