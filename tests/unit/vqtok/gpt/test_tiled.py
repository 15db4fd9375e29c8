"""Attention in tiles against the plain form of it, forwards and backwards."""

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from vqtok.gpt import tiled
from vqtok.gpt.layers import causal_attention
from vqtok.gpt.tiled import ROWS, tiled_attention


def plain_attention(queries: Tensor, keys: Tensor, values: Tensor) -> Tensor:
    """Softmax of masked products, key heads repeated."""
    group = queries.shape[1] // keys.shape[1]
    keys, values = keys.repeat_interleave(group, 1), values.repeat_interleave(group, 1)
    scores = queries @ keys.transpose(-1, -2) / queries.shape[-1] ** 0.5
    late = torch.ones(scores.shape[-2:], dtype=torch.bool).triu(1)
    return scores.masked_fill(late, -torch.inf).softmax(-1) @ values


@pytest.mark.parametrize("tokens", [1, 2, ROWS - 1, ROWS, ROWS + 1, 2 * ROWS + 7])
@pytest.mark.parametrize("key_heads", [1, 2, 4])
def test_tiles_change_nothing_but_the_order_of_sums(tokens, key_heads):
    """Results and gradients, whether the last tile and the last group of heads are full or not."""
    queries, pull = torch.randn(2, 3, 4, tokens, 6)
    keys, values = torch.randn(2, 3, key_heads, tokens, 6)
    given = [part.requires_grad_() for part in (queries, keys, values)]
    double = [part.detach().double().requires_grad_() for part in given]
    found, expected = tiled_attention(*given), plain_attention(*double)
    torch.testing.assert_close(found, expected.float(), atol=1e-5, rtol=0)
    exact = torch.autograd.grad(expected, double, pull.double())
    for grad, true in zip(torch.autograd.grad(found, given, pull), exact, strict=True):
        torch.testing.assert_close(grad, true.float(), atol=2e-5, rtol=0)


def test_a_trainer_on_a_cpu_gets_tiles(monkeypatch):
    """In float32 only where gradients are wanted, in bfloat16 always."""
    seen = []
    monkeypatch.setattr(tiled._Tiled, "apply", lambda queries, *_: seen.append(queries.dtype) or queries)
    plain = torch.randn(3, 1, 2, 5, 4)
    with torch.no_grad():
        causal_attention(*plain)
        causal_attention(*plain.bfloat16())
    causal_attention(*plain)
    assert seen == [torch.bfloat16, torch.float32]


def test_bfloat16_gradients_are_as_exact_as_the_usual():
    """Attention of bfloat16 on a CPU errs against float64 by no more than twice what SDPA errs by."""
    inputs = [torch.randn(2, 4, 200, 16).bfloat16().requires_grad_() for _ in range(3)]
    pull = torch.randn(2, 4, 200, 16)
    double = [tensor.double() for tensor in inputs]
    exact = torch.autograd.grad(plain_attention(*double), double, pull.double())
    usual = F.scaled_dot_product_attention(*inputs, is_causal=True)
    for ours, theirs, true in zip(
        torch.autograd.grad(causal_attention(*inputs), inputs, pull.bfloat16()),
        torch.autograd.grad(usual, inputs, pull.bfloat16()),
        exact,
        strict=True,
    ):
        assert (ours - true).std() <= 2 * (theirs - true).std()


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_attention_does_not_look_ahead(dtype):
    """Other keys and values after a place leave what comes out up to it bit for bit alike."""
    queries, keys, values = torch.randn(3, 1, 4, 200, 16).to(dtype)
    before = tiled_attention(queries, keys, values)
    for place in (1, ROWS - 1, ROWS, 150):
        late = torch.arange(place, 200)
        after = tiled_attention(queries, *(x.index_fill(2, late, 3.0) for x in (keys, values)))
        assert torch.equal(after[:, :, :place], before[:, :, :place])
