"""The gate of an MLP, whose gradients are its own."""

import torch
import torch.nn.functional as F

from vqtok.gpt.mlps import SwiGLU


def test_a_gate_is_silu_times_the_rest():
    """With gradients and without, forwards and backwards."""
    mlp = SwiGLU(8, 12).double()
    x = torch.randn(2, 3, 8, dtype=torch.float64, requires_grad=True)
    gate, up = mlp.gate_up(x).chunk(2, dim=-1)
    expected = mlp.down(F.silu(gate) * up)
    learned = (x, *mlp.parameters())
    torch.testing.assert_close(mlp(x), expected)
    for found, true in zip(
        torch.autograd.grad(mlp(x).sum(), learned), torch.autograd.grad(expected.sum(), learned), strict=True
    ):
        torch.testing.assert_close(found, true)
    with torch.no_grad():
        torch.testing.assert_close(mlp(x), expected)
