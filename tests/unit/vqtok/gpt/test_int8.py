"""Weights of eight bits: how far off they are, and what they are for."""

import pytest
import torch
from torch import nn

from vqtok.gpt import int8
from vqtok.gpt.config import GPTConfig
from vqtok.gpt.generation import generate
from vqtok.gpt.int8 import Int8Linear, int8_copy
from vqtok.gpt.sampling import Sampling

CONFIG = GPTConfig(vocab=23, length=14, width=64, depth=2, heads=4, kv_heads=2)


@pytest.mark.parametrize("scale", [1e-3, 1.0, 1e3])
def test_a_weight_errs_by_half_a_step(scale):
    """Of its row's largest weight / 127, and by the bfloat16 rounding of that where the largest is cut."""
    linear = nn.Linear(40, 30, bias=False)
    with torch.no_grad():
        linear.weight.mul_(scale * torch.rand(30, 1).exp())
    layer = Int8Linear(linear)
    error = (layer.weight * layer.scale.float()[:, None] - linear.weight).abs().amax(1)
    largest = linear.weight.abs().amax(1)
    assert (error <= largest * (0.51 / 127 + 2.0**-8)).all()


@pytest.mark.parametrize("rows", [1, int8.ROWS, int8.ROWS + 1])
@pytest.mark.parametrize("bias", [True, False])
def test_a_layer_is_the_product_with_its_weights(rows, bias):
    """By either way, and with any shape before the channels, to bfloat16's rounding."""
    layer = Int8Linear(nn.Linear(64, 48, bias=bias)).bfloat16()
    x = torch.randn(1, rows, 64).bfloat16()
    expected = x.float() @ (layer.weight.float() * layer.scale.float()[:, None]).T
    expected += layer.bias.float() if bias else 0
    torch.testing.assert_close(layer(x).float(), expected, atol=0.02, rtol=0.02)


def test_scores_stay_close(lively):
    """Scores of the whole model err by a few hundredths of their spread, and the original stays as it is."""
    gpt = lively(CONFIG)
    ids, before = torch.randint(23, (4, 14)), {name: x.clone() for name, x in gpt.state_dict().items()}
    exact, light = gpt(ids), int8_copy(gpt)(ids)
    assert (light - exact).std() < 0.06 * exact.std()
    assert all(torch.equal(x, before[name]) for name, x in gpt.state_dict().items())


def test_it_draws(lively):
    """Token by token it finds the best of its own scores, or one as good to bfloat16's rounding."""
    gpt = int8_copy(lively(CONFIG))
    ids = torch.randint(23, (3, 6))
    drawn = generate(gpt, ids, 8, Sampling(temperature=0))
    logits = gpt(torch.cat((ids, drawn), 1)[:, :-1])[:, 5:]
    lost = logits.amax(-1) - logits.gather(-1, drawn[..., None])[..., 0]
    assert lost.max() < 0.1 * logits.std()


def test_matrices_of_the_blocks_are_bytes(lively):
    """All of them, and nothing else; embedding, head and norms are bfloat16."""
    kinds = {name: x.dtype for name, x in int8_copy(lively(CONFIG)).state_dict().items()}
    whole = {name for name, dtype in kinds.items() if dtype == torch.int8}
    names = ("attention.qkv", "attention.out", "mlp.gate_up", "mlp.down")
    assert whole == {f"blocks.{i}.{name}.weight" for i in range(2) for name in names}
    assert {dtype for name, dtype in kinds.items() if name not in whole} == {torch.bfloat16}
