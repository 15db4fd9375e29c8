"""Open-MAGVIT2's network: signs as ids, norms told by the codes, and sizes."""

import pytest
import torch

from vqtok.tokenizers.magvit2 import (
    AdaptiveNorm,
    MAGVIT2Config,
    MAGVIT2Tokenizer,
    SpaceUpsample,
)
from vqtok.tokenizers.quantizers.lfq import LFQConfig


@pytest.fixture
def tokenizer() -> MAGVIT2Tokenizer:
    """16 pixels a side, 4 pixels a code of 5 bits."""
    shape = {"channels": 8, "multipliers": (1, 2, 2), "blocks": 1, "groups": 4}
    return MAGVIT2Tokenizer(MAGVIT2Config(quantizer=LFQConfig(bits=5), size=16, **shape)).eval()


def test_signs(tokenizer: MAGVIT2Tokenizer):
    """The first channel is the least significant bit and zero counts as negative, as published."""
    vectors = torch.tensor([[0.5, -0.1, 0.0, -1, -1], [-1.0, 2.0, 3.0, -1, 1]])  # (b, d)
    assert tokenizer.quantize.encode(vectors[:, :, None, None]).flatten().tolist() == [1, 22]
    assert tokenizer.quantize.decode(torch.tensor([[[22]]])).flatten().tolist() == [-1, 1, 1, -1, 1]


def test_doubling_places_channels():
    """Of four times the channels the slowest part is the row inside the 2x2, then the column."""
    double = SpaceUpsample(2)
    double.conv1.weight.data.zero_()
    double.conv1.bias.data = torch.arange(8.0)
    assert double(torch.zeros(1, 2, 1, 1))[0].tolist() == [[[0, 2], [4, 6]], [[1, 3], [5, 7]]]


def test_norms_hear_the_codes():
    """Scale and shift are linear in the spread (n - 1) and the mean of each channel of the codes."""
    norm = AdaptiveNorm(MAGVIT2Config(quantizer=LFQConfig(bits=2), groups=4), 8)
    x, codes = torch.rand(1, 8, 4, 4), torch.tensor([[[1.0, -1, 1, 1], [-1, -1, -1, -1]]]).view(1, 2, 2, 2)
    spread = torch.tensor([[1.0, 0.0]])  # of 1, -1, 1, 1 it is sqrt(3 / 3)
    mean = torch.tensor([[0.5, -1.0]])
    plain = torch.nn.functional.group_norm(x, 4, eps=1e-6)
    expected = norm.gamma(spread)[..., None, None] * plain + norm.beta(mean)[..., None, None]
    torch.testing.assert_close(norm(x, codes), expected, atol=2e-3, rtol=0)  # a spread of 0 is sqrt(1e-6)


@pytest.mark.parametrize("size", [(4, 4), (16, 16), (8, 24)])
def test_any_size(tokenizer: MAGVIT2Tokenizer, size: tuple[int, int]):
    """Images whose sides divide by the factor come back in their size, also those of a single code."""
    ids = tokenizer.encode(torch.rand(2, 3, *size))
    assert ids.shape == (2, size[0] // 4, size[1] // 4) and ids.dtype == torch.int64
    assert ids.min() >= 0 and ids.max() < tokenizer.vocab == 32
    images = tokenizer.decode(ids)
    assert images.shape == (2, 3, *size) and images.isfinite().all()


def test_every_parameter_learns(tokenizer: MAGVIT2Tokenizer):
    """A gradient reaches every tensor of both halves."""
    codes = tokenizer.quantize.decode(torch.arange(32).view(2, 4, 4))
    tokenizer.decoder(codes).square().mean().backward()
    tokenizer.encoder(torch.rand(2, 3, 16, 16)).square().mean().backward()
    assert all(parameter.grad.abs().sum() > 0 for parameter in tokenizer.parameters())
