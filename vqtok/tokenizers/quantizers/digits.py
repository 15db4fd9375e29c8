"""Ids as numbers in mixed radix: digits <-> ids, for codebooks that are grids.

The first channel counts ones, as in Mentzer et al. 2023, appendix A.1, and Yu et al. 2023, equation 4: id =
digit_1 + base_1 (digit_2 + base_2 (digit_3 + ...)). Other implementations let the last channel count ones, so
their ids of the same code are others: `other_order` turns one into the other.

Letters: d digits, in any number of leading axes.
"""

from collections.abc import Sequence

import torch
from torch import Tensor


def from_digits(digits: Tensor, bases: Sequence[int]) -> Tensor:
    """(...) int64 ids of digits (..., d), each in [0, base)."""
    return (digits.long() * _places(bases, digits.device)).sum(-1)


def to_digits(ids: Tensor, bases: Sequence[int]) -> Tensor:
    """(..., d) int64 digits, each in [0, base), of ids (...)."""
    return ids[..., None] // _places(bases, ids.device) % torch.tensor(bases, device=ids.device)


def other_order(ids: Tensor, bases: Sequence[int]) -> Tensor:
    """Ids of the same codes where the last channel counts ones.

    vector-quantize-pytorch's LFQ and the authors' BSQ number their codes so. To come back from there, give
    the bases in reverse.
    """
    return from_digits(to_digits(ids, bases).flip(-1), [*reversed(bases)])


def _places(bases: Sequence[int], device: torch.device) -> Tensor:
    """(d,) what one of each digit is worth."""
    return torch.tensor([1, *bases[:-1]], device=device).cumprod(0)
