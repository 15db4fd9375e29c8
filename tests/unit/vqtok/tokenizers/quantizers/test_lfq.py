"""LFQ: signs are bits."""

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from vqtok.tokenizers.quantizers.lfq import LFQ, LFQConfig


@pytest.fixture
def lfq() -> LFQ:
    """16 codes."""
    return LFQ(LFQConfig(bits=4, temperature=0.5))


def test_signs(lfq: LFQ):
    """Above 0 is 1, the first channel counts ones; 0 itself is a bit of 0."""
    vectors = torch.tensor([[3.0, -1, -1, -1], [-1, 0.1, -1, 2], [0, 0, 0, 0]]).T.view(1, 4, 1, 3)
    assert lfq.encode(vectors).flatten().tolist() == [1, 10, 0]
    assert lfq.decode(torch.tensor([[[10]]])).flatten().tolist() == [-1, 1, -1, 1]


def test_loss(lfq: LFQ, vectors: Tensor):
    """Commitment and entropies of a softmax of -|z - c|^2 / T over all codes, weighted as the config says."""
    out = lfq(vectors)
    flat = vectors.permute(0, 2, 3, 1).reshape(-1, 4)
    codes = lfq.decode(torch.arange(16).view(1, 1, 16))[0, :, 0].T
    q = F.softmax(-torch.cdist(flat, codes).square() / 0.5, dim=1)
    sure, even = torch.special.entr(q).sum(1).mean(), torch.special.entr(q.mean(0)).sum()
    error = (flat - codes[out.ids.flatten()]).square().mean()
    torch.testing.assert_close(out.loss, 0.25 * error + 0.1 * (sure - even))
    torch.testing.assert_close(dict(out.terms), {"error": error, "entropy": sure, "diversity": even})


def test_straight_through(lfq: LFQ, vectors: Tensor):
    """The decoder's gradient arrives as it is."""
    gradient = torch.rand(3, 4, 5, 7)
    out = lfq(vectors.requires_grad_()).vectors
    assert torch.equal(torch.autograd.grad(out, vectors, gradient)[0], gradient)


def test_eighteen_bits_together():
    """The entropy of all 2^18 codes is exact and takes little memory: Open-MAGVIT2's size."""
    lfq, vectors = LFQ(LFQConfig(bits=18, temperature=1.0)), 0.05 * torch.randn(2, 18, 4, 4)
    even = float(lfq(vectors).terms["diversity"])
    assert 0.95 * 18 * 0.6931 < even < 18 * 0.6932


@pytest.mark.parametrize(
    ("options", "told"),
    [
        ({"bits": 63}, "bits 63 must lie in"),
        ({"bits": 0}, "bits 0"),
        ({"bits": 36}, r"a group of 36 bits has 2\^36 probabilities: set group to 24 or fewer"),
        ({"bits": 36, "group": 0}, "a group of 0 bits"),
        ({"bits": 4, "temperature": 0.0}, "temperature 0.0 must be above 0"),
    ],
)
def test_settings_of_no_use(options: dict, told: str):
    """Each is refused with the value and the way out."""
    with pytest.raises(ValueError, match=told):
        LFQConfig(**options)
