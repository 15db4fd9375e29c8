"""The parts of a block, each against the slow and plain form of itself."""

import pytest
import torch

from vqtok.gpt.config import GPTConfig
from vqtok.gpt.layers import causal_attention, rope_table, rotate


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


def test_rotation_is_by_position_times_frequency():
    """The pair (i, i + k/2) turns by position / base^(2i/k), as a product of complex numbers says."""
    config = GPTConfig(vocab=5, length=12, width=16, depth=1, heads=2, rope_base=100.0)
    x = torch.randn(3, 12, 2, 8)
    pairs = torch.complex(x[..., :4].double(), x[..., 4:].double())
    angles = torch.arange(12.0).double()[:, None] / 100.0 ** (torch.arange(4).double() / 4)
    turned = pairs * torch.polar(torch.ones_like(angles), angles)[:, None]
    expected = torch.cat((turned.real, turned.imag), -1).float()
    torch.testing.assert_close(rotate(x, rope_table(config)), expected, atol=1e-5, rtol=0)


def test_rotation_is_computed_in_float32():
    """bfloat16 heads are turned without a rounding of tables or products."""
    rope = rope_table(GPTConfig(vocab=5, length=12, width=16, depth=1, heads=2))
    x = torch.randn(3, 12, 2, 8).bfloat16()
    assert torch.equal(rotate(x, rope), rotate(x.float(), rope))
