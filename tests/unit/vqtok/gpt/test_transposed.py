"""Another layout of the same numbers, for drawing on a CPU."""

import pytest
import torch
from torch import nn

from vqtok.gpt.config import GPTConfig, HeadConfig
from vqtok.gpt.generation import generate
from vqtok.gpt.sampling import Sampling
from vqtok.gpt.transposed import PAYS, transposed_copy, transposing_pays

CONFIG = GPTConfig(vocab=23, length=2 * PAYS, width=32, depth=2, heads=4)


@pytest.mark.parametrize("tied", [False, True])
def test_only_the_layout_is_another(lively, tied):
    """The copy says the same; the original keeps its layout, and what is no matrix is shared."""
    gpt = lively(GPTConfig(vocab=23, length=14, width=32, depth=2, heads=4, head=HeadConfig(tied=tied)))
    copy = transposed_copy(gpt)
    ids = torch.randint(23, (3, 10))
    torch.testing.assert_close(copy(ids), gpt(ids), atol=1e-5, rtol=0)
    for (name, ours), theirs in zip(copy.named_modules(), gpt.modules(), strict=True):
        if isinstance(ours, nn.Linear):
            assert ours.weight.t().is_contiguous(), name
            assert theirs.weight.is_contiguous(), name
            assert theirs.weight.requires_grad, name
    assert copy.embed.weight is gpt.embed.weight
    assert copy.blocks[0].mlp_norm.weight is gpt.blocks[0].mlp_norm.weight


def test_long_drawings_are_the_same_ids(lively, monkeypatch):
    """Drawn with the copy or without, and no module's mode is touched."""
    gpt = lively(CONFIG).train()
    gpt.blocks[0].eval()
    modes = [module.training for module in gpt.modules()]
    ids = torch.randint(23, (2, 3))
    drawn = generate(gpt, ids, PAYS, Sampling(), [1, 2])
    assert [module.training for module in gpt.modules()] == modes
    monkeypatch.setattr("vqtok.gpt.generation.transposing_pays", lambda *_: False)
    assert torch.equal(generate(gpt, ids, PAYS, Sampling(), [1, 2]), drawn)


def test_it_pays_for_long_drawings_in_float32(lively):
    """Few tokens, or bfloat16, whose products gain nothing, are drawn with the model itself."""
    gpt = lively(CONFIG)
    assert transposing_pays(gpt, PAYS)
    assert not transposing_pays(gpt, PAYS - 1)
    assert not transposing_pays(gpt.bfloat16(), PAYS)
