"""MaskGIT's network: its quirk, its sizes, and that all of it learns."""

import pytest
import torch
import torch.nn.functional as F

from vqtok.tokenizers.maskgit import MaskGITBlock, MaskGITConfig, MaskGITTokenizer
from vqtok.tokenizers.quantizers.vq import VQConfig


@pytest.fixture
def tokenizer() -> MaskGITTokenizer:
    """16 pixels a side, 4 pixels a code."""
    codebook = VQConfig(codes=16, width=4, normalize=False)
    config = MaskGITConfig(quantizer=codebook, channels=8, multipliers=(1, 2, 2), groups=4, size=16)
    return MaskGITTokenizer(config).eval()


def test_the_quirk(tokenizer: MaskGITTokenizer):
    """Where the width changes the input is lost: y + W y; elsewhere it is added as usual."""
    x = torch.rand(2, 8, 4, 4)
    changing, keeping = (MaskGITBlock(tokenizer.config, 8, width) for width in (16, 8))
    y = changing.residual(x)
    assert torch.equal(changing(x), y + F.conv2d(y, changing.nin_shortcut.weight))
    assert torch.equal(keeping(x), keeping.residual(x) + x)


@pytest.mark.parametrize("size", [(4, 4), (16, 16), (8, 24)])
def test_any_size(tokenizer: MaskGITTokenizer, size: tuple[int, int]):
    """Images whose sides divide by the factor, square or not, come back in their size."""
    ids = tokenizer.encode(torch.rand(2, 3, *size))
    assert ids.shape == (2, size[0] // 4, size[1] // 4) and ids.max() < tokenizer.vocab == 16
    assert tokenizer.decode(ids).shape == (2, 3, *size)
    assert tokenizer.tokens == 16


def test_every_parameter_learns(tokenizer: MaskGITTokenizer):
    """A gradient reaches every tensor of both halves."""
    images = torch.rand(2, 3, 16, 16)
    tokenizer.decoder(tokenizer.quantize(tokenizer.encoder(images)).vectors).square().mean().backward()
    for half in (tokenizer.encoder, tokenizer.decoder):
        assert all(parameter.grad.abs().sum() > 0 for parameter in half.parameters())


def test_a_size_that_does_not_divide(tokenizer: MaskGITTokenizer):
    """A training size must hold whole codes, images must too."""
    with pytest.raises(ValueError, match="size 18 does not divide by 4"):
        MaskGITConfig(quantizer=tokenizer.config.quantizer, multipliers=(1, 1, 1), size=18)
    with pytest.raises(ValueError, match="images of 18x16 pixels do not divide by 4"):
        tokenizer.encode(torch.rand(1, 3, 18, 16))
