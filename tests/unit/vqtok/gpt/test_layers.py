"""The parts of a block, each against the slow and plain form of itself."""

import pytest
import torch

from vqtok.gpt.config import GPTConfig
from vqtok.gpt.layers import causal_attention, rope_table, rotate, tiled_attention


def plain_attention(queries, keys, values):
    """Softmax of masked products, in float64, key heads repeated."""
    queries, keys, values = queries.double(), keys.double(), values.double()
    group = queries.shape[1] // keys.shape[1]
    keys, values = keys.repeat_interleave(group, 1), values.repeat_interleave(group, 1)
    new, total = queries.shape[2], keys.shape[2]
    scores = queries @ keys.transpose(-1, -2) / queries.shape[-1] ** 0.5
    late = torch.arange(total) > torch.arange(new)[:, None] + total - new
    return scores.masked_fill(late, -torch.inf).softmax(-1) @ values


@pytest.mark.parametrize("new", [1, 2, 5, 9])
@pytest.mark.parametrize("key_heads", [1, 2, 4])
def test_attention_with_any_past(new, key_heads):
    """One query, several after a past, and all at once attend to exactly the past; heads may share keys."""
    queries = torch.randn(2, 4, new, 6)
    keys, values = torch.randn(2, 2, key_heads, 9, 6)
    expected = plain_attention(queries, keys, values).float()
    torch.testing.assert_close(causal_attention(queries, keys, values), expected, atol=1e-5, rtol=0)


@pytest.mark.parametrize("total", [2, 95, 96, 97, 200])
@pytest.mark.parametrize("key_heads", [2, 4])
def test_attention_in_tiles_is_attention(total, key_heads):
    """Tiles change nothing but the order of sums, whether the last tile is full or not."""
    queries, (keys, values) = torch.randn(2, 4, total, 6), torch.randn(2, 2, key_heads, total, 6)
    expected = plain_attention(queries, keys, values).float()
    torch.testing.assert_close(tiled_attention(queries, keys, values), expected, atol=1e-5, rtol=0)


def test_bfloat16_gradients_of_tiles_are_as_exact_as_the_usual():
    """Attention of bfloat16 on a CPU errs against float64 by no more than twice what SDPA errs by."""
    inputs = [torch.randn(2, 4, 200, 16).bfloat16().requires_grad_() for _ in range(3)]
    pull = torch.randn(2, 4, 200, 16)
    double = [tensor.double() for tensor in inputs]
    exact = torch.autograd.grad(plain_attention(*double), double, pull.double())
    usual = torch.nn.functional.scaled_dot_product_attention(*inputs, is_causal=True)
    for ours, theirs, true in zip(
        torch.autograd.grad(causal_attention(*inputs), inputs, pull.bfloat16()),
        torch.autograd.grad(usual, inputs, pull.bfloat16()),
        exact,
        strict=True,
    ):
        assert (ours - true).std() <= 2 * (theirs - true).std()


def test_bfloat16_attention_does_not_look_ahead():
    """Other keys and values after a place leave what comes out up to it bit for bit alike."""
    queries, keys, values = torch.randn(3, 1, 4, 200, 16).bfloat16()
    before = causal_attention(queries, keys, values)
    for place in (1, 95, 96, 150):
        after = causal_attention(
            queries, *(x.clone().index_fill(2, torch.arange(place, 200), 3.0) for x in (keys, values))
        )
        assert torch.equal(after[:, :, :place], before[:, :, :place])


def test_rotation_is_by_position_times_frequency():
    """The pair (i, i + k/2) turns by position / base^(2i/k), as a product of complex numbers says."""
    config = GPTConfig(vocab=5, length=12, width=16, depth=1, heads=2, rope_base=100.0)
    x = torch.randn(3, 12, 2, 8)
    pairs = torch.complex(x[..., :4].double(), x[..., 4:].double())
    angles = torch.arange(12.0).double()[:, None] / 100.0 ** (torch.arange(4).double() / 4)
    turned = pairs * torch.polar(torch.ones_like(angles), angles)[:, None]
    expected = torch.cat((turned.real, turned.imag), -1).float()
    torch.testing.assert_close(rotate(x, rope_table(config)), expected, atol=1e-5, rtol=0)


def test_norms_are_computed_in_float32():
    """A bfloat16 norm is the float32 one of the same numbers, rounded once."""
    norm = torch.nn.RMSNorm(32, 1e-6)
    torch.nn.init.uniform_(norm.weight, 0.5, 1.5)
    exact = norm.bfloat16().weight.float()
    x = torch.randn(50, 32).bfloat16()
    expected = x.float() * torch.rsqrt(x.float().square().mean(-1, keepdim=True) + 1e-6) * exact
    assert torch.equal(norm(x), expected.bfloat16())


def test_rotation_is_computed_in_float32():
    """bfloat16 heads are turned without a rounding of tables or products."""
    rope = rope_table(GPTConfig(vocab=5, length=12, width=16, depth=1, heads=2))
    x = torch.randn(3, 12, 2, 8).bfloat16()
    assert torch.equal(rotate(x, rope), rotate(x.float(), rope))
