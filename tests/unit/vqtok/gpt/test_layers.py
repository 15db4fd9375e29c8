"""The parts of a block, each against the slow and plain form of itself."""

import pytest
import torch

from vqtok.gpt.layers import causal_attention, masked_attention, rotate, tiled_attention
from vqtok.gpt.positions import RoPEConfig


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
    rope = RoPEConfig().table(12, 8)
    x = torch.randn(3, 12, 2, 8).bfloat16()
    assert torch.equal(rotate(x, rope), rotate(x.float(), rope))


@pytest.mark.parametrize("key_heads", [1, 2, 4])
@pytest.mark.parametrize("new", [1, 5, 9])
def test_attention_with_a_mask(new, key_heads):
    """Each query attends to the keys that a mask says; without one, to all."""
    queries = torch.randn(2, 4, new, 6)
    keys, values = torch.randn(2, 2, key_heads, 9, 6)
    mask = (torch.rand(2, 1, new, 9) < 0.5).index_fill(-1, torch.tensor([3]), True)
    for seen in (mask, mask[0, 0], torch.ones(1, dtype=torch.bool)):
        scores = queries @ keys.repeat_interleave(4 // key_heads, 1).mT / 6**0.5
        weights = scores.masked_fill(~seen, -torch.inf).softmax(-1)
        expected = weights @ values.repeat_interleave(4 // key_heads, 1)
        given = None if seen.ndim == 1 else seen
        found = masked_attention(queries, keys, values, given)
        torch.testing.assert_close(found, expected, atol=1e-5, rtol=0)
