"""Norms, and the gradients of the one that has its own."""

import torch

from vqtok.gpt.norms import RMSNorm


def normed(norm: torch.nn.Module, x: torch.Tensor, pull: torch.Tensor) -> list[torch.Tensor]:
    """What comes out, and the gradients of x and of the gain."""
    y = norm(x)
    return [y, *torch.autograd.grad(y, (x, norm.weight), pull)]


def test_gradients_are_torchs():
    """Of inputs large and small beside eps, with other pulls on every channel."""
    ours, theirs = RMSNorm(24, 1e-2), torch.nn.RMSNorm(24, 1e-2).double()
    torch.nn.init.uniform_(ours.weight, -1, 1)
    with torch.no_grad():
        theirs.weight.copy_(ours.weight)
    x = (torch.randn(3, 5, 24) * torch.logspace(-3, 2, 5)[:, None]).requires_grad_()
    pull = torch.randn(3, 5, 24)
    expected = normed(theirs, x.detach().double().requires_grad_(), pull.double())
    for found, true in zip(normed(ours, x, pull), expected, strict=True):
        torch.testing.assert_close(found.double(), true, atol=1e-5, rtol=1e-5)
    with torch.no_grad():
        plain = ours(x)
    torch.testing.assert_close(ours(x), plain)


def test_bfloat16_is_computed_in_float32():
    """It is the float32 norm of the same numbers, rounded once."""
    norm = RMSNorm(32, 1e-6)
    torch.nn.init.uniform_(norm.weight, 0.5, 1.5)
    exact = norm.bfloat16().weight.float()
    x = torch.randn(50, 32).bfloat16()
    expected = x.float() * torch.rsqrt(x.float().square().mean(-1, keepdim=True) + 1e-6) * exact
    assert torch.equal(norm(x), expected.bfloat16())
