"""Entropies of bits, against all codes written out."""

import pytest
import torch

from vqtok.tokenizers.quantizers.entropy import bit_entropies, entropy


@pytest.fixture
def logits() -> torch.Tensor:
    """(50, 7) log-odds."""
    return torch.randn(
        50, 7, dtype=torch.float64, generator=torch.Generator().manual_seed(0), requires_grad=True
    )


def written_out(logits: torch.Tensor) -> torch.Tensor:
    """(n, 2^g) probabilities of all patterns of bits."""
    count = logits.shape[1]
    patterns = torch.arange(2**count)[:, None] >> torch.arange(count) & 1  # (2^g, g)
    return torch.sigmoid(torch.where(patterns == 1, logits[:, None], -logits[:, None])).prod(2)


@pytest.mark.parametrize("group", [7, 3, 1])
def test_as_written_out(logits: torch.Tensor, group: int):
    """E[H(q)] and H(E[q]), and their gradients, are those of all patterns; groups add up."""
    sure, even = bit_entropies(logits, group)
    q = written_out(logits)
    plain_sure = torch.special.entr(q).sum(1).mean()
    plain_even = sum(
        torch.special.entr(written_out(part).mean(0)).sum() for part in logits.split(group, dim=1)
    )
    torch.testing.assert_close(sure, plain_sure)
    torch.testing.assert_close(even, plain_even)
    found, expected = (
        torch.autograd.grad(a - b, logits)[0] for a, b in ((sure, even), (plain_sure, plain_even))
    )
    torch.testing.assert_close(found, expected)


def test_extremes():
    """Certain bits have no entropy and a finite gradient; even ones have log 2 each."""
    certain = torch.tensor([[1e4, -1e4], [1e4, -1e4]], requires_grad=True)
    sure, even = bit_entropies(certain, group=2)
    assert sure == 0 and even.abs() < 1e-9
    assert torch.autograd.grad(sure - even, certain)[0].isfinite().all()
    sure, even = bit_entropies(torch.zeros(3, 4), group=4)
    torch.testing.assert_close(
        torch.stack([sure, even]), torch.tensor([4.0, 4.0]) * torch.log(torch.tensor(2.0))
    )


def test_groups_never_exceed_the_whole(logits: torch.Tensor):
    """The sum over groups is an upper bound of the joint entropy."""
    assert bit_entropies(logits, 3)[1] >= bit_entropies(logits, 7)[1]


def test_entropy_of_a_table():
    """Natural logarithm, zeros allowed."""
    assert entropy(torch.tensor([0.5, 0.5, 0.0])) == pytest.approx(0.6931472)
