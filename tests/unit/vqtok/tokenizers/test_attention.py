"""Attention with its scores written out is attention."""

import pytest
import torch
import torch.nn.functional as F

from vqtok.tokenizers import attention
from vqtok.tokenizers.attention import attended


@pytest.mark.parametrize("shape", [(2, 1, 16, 8), (3, 4, 9, 5), (1, 2, 1, 4)], ids=str)
def test_both_ways_agree(shape: tuple[int, ...]):
    """In bfloat16, values and gradients are float32's to its rounding."""
    exact = [(2 * torch.randn(shape)).requires_grad_() for _ in range(3)]
    rounded = [part.detach().bfloat16().requires_grad_() for part in exact]
    wanted, found = F.scaled_dot_product_attention(*exact), attended(*rounded)
    grad = torch.randn(shape)
    wanted.backward(grad)
    found.backward(grad.bfloat16())
    assert found.dtype == torch.bfloat16
    torch.testing.assert_close(found.float(), wanted, atol=0.05, rtol=0.05)
    for part, other in zip(rounded, exact, strict=True):
        torch.testing.assert_close(part.grad.float(), other.grad, atol=0.1, rtol=0.1)


def test_nothing_is_read_of_what_is_not_there(monkeypatch: pytest.MonkeyPatch):
    """Memory that was not written may hold anything, such as what is not a number."""
    monkeypatch.setattr(torch.Tensor, "new_empty", lambda self, *shape: torch.full(shape, torch.nan).to(self))
    assert attended(*torch.randn(3, 1, 1, 4, 4).bfloat16()).isfinite().all()


@pytest.mark.parametrize(("dtype", "places"), [(torch.float32, 4), (torch.bfloat16, 5)])
def test_else_torchs_kernel(dtype: torch.dtype, places: int, monkeypatch: pytest.MonkeyPatch):
    """In float32, and where scores would be many."""
    monkeypatch.setattr(attention, "PLACES", 4)
    monkeypatch.setattr(F, "scaled_dot_product_attention", lambda q, k, v: "torch's")
    assert attended(*torch.randn(3, 1, 1, places, 4).to(dtype)) == "torch's"
