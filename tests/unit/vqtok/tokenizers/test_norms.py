"""Group norm's own backward is the plain formula's."""

import pytest
import torch
from torch import Tensor, nn

from vqtok.tokenizers.norms import GroupNorm, _Normed


def norms(dtype: torch.dtype, groups: int = 3, channels: int = 12) -> tuple[GroupNorm, nn.GroupNorm]:
    """Ours and torch's, of the same random gains and biases."""
    ours, theirs = GroupNorm(groups, channels, 1e-5), nn.GroupNorm(groups, channels, 1e-5)
    nn.init.normal_(ours.weight), nn.init.normal_(ours.bias)
    theirs.load_state_dict(ours.state_dict())
    return ours.to(dtype), theirs.to(dtype)


def gradients(norm: nn.Module, x: Tensor, grad: Tensor) -> list[Tensor]:
    """The result, and gradients of x, gain and bias."""
    y = norm(x)
    return [y, *torch.autograd.grad(y, (x, norm.weight, norm.bias), grad)]


@pytest.mark.parametrize("shape", [(2, 12, 5, 4), (1, 12, 1, 3), (3, 12, 2, 2)], ids=str)
@pytest.mark.parametrize("groups", [1, 3, 12])
def test_gradients(shape: tuple[int, ...], groups: int):
    """In float64, of values far from zero too; what was last in memory stays last."""
    ours, theirs = norms(torch.float64, groups)
    x = 3 + 2 * torch.randn(shape, dtype=torch.float64)
    x = x.to(memory_format=torch.channels_last).requires_grad_()
    grad = torch.randn(shape, dtype=torch.float64)
    y = _Normed.apply(x, ours.weight, ours.bias, groups, ours.eps)
    found = [y, *torch.autograd.grad(y, (x, ours.weight, ours.bias), grad)]
    torch.testing.assert_close(found, gradients(theirs, x, grad))
    assert all(part.is_contiguous(memory_format=torch.channels_last) for part in found[:2])


def test_the_formula_is_taken():
    """In bfloat16 where channels lie last, and nowhere else; none is needed where nothing is learned."""
    ours, _ = norms(torch.bfloat16)
    x = torch.randn(2, 12, 5, 4).bfloat16()
    last = x.to(memory_format=torch.channels_last)
    assert "_Normed" in type(ours(last).grad_fn).__name__
    assert "_Normed" not in type(ours(x).grad_fn).__name__
    assert "_Normed" not in type(ours.float()(last.float()).grad_fn).__name__
    ours.bfloat16()
    torch.testing.assert_close(ours(last), ours(x))
    with torch.no_grad():
        assert ours(last).grad_fn is None


def test_mixed_precision():
    """bfloat16 images with float32 gains, as under autocast: float32's gradients to bfloat16's rounding."""
    ours, theirs = norms(torch.float32)
    exact = torch.randn(4, 12, 16, 16).to(memory_format=torch.channels_last)
    grad = torch.randn_like(exact)
    found = gradients(ours, exact.bfloat16().requires_grad_(), grad.bfloat16())
    wanted = gradients(theirs, exact.bfloat16().float().requires_grad_(), grad.bfloat16().float())
    assert [part.dtype for part in found] == [torch.bfloat16] * 2 + [torch.float32] * 2
    for part, other in zip(found, wanted, strict=True):
        largest = other.detach().abs().max().item()
        torch.testing.assert_close(part.float(), other, atol=0.03 * largest, rtol=0.02)
