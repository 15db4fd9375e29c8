"""The parts of a block, each against the slow and plain form of itself."""

import pytest
import torch

from vqtok.gpt.layers import causal_attention, masked_attention, rotate
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


def test_rotation_is_computed_in_float32():
    """bfloat16 heads are turned without a rounding of tables or products."""
    rope = RoPEConfig().table(12, 8)
    x = torch.randn(3, 12, 2, 8).bfloat16()
    assert torch.equal(rotate(x, rope), rotate(x.float(), rope))


def test_rotation_backwards_is_the_other_way_round():
    """Gradients are those of the plain formula, which is what comes out without any."""
    rope = RoPEConfig().table(12, 8)
    x, pull = torch.randn(2, 3, 12, 2, 8)
    x.requires_grad_()
    plain = x * rope[0] + x.roll(4, dims=-1) * rope[1]
    torch.testing.assert_close(rotate(x, rope), plain)
    found, expected = (torch.autograd.grad(y, x, pull)[0] for y in (rotate(x, rope), plain))
    torch.testing.assert_close(found, expected)
    with torch.no_grad():
        torch.testing.assert_close(rotate(x, rope), plain)


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
