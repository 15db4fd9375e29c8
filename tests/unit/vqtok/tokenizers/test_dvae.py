"""The dVAE's network: tokens are the best logits, codes are looked up, pixels keep away from 0 and 1."""

from dataclasses import replace

import pytest
import torch
import torch.nn.functional as F

from vqtok.tokenizers.dvae import DVAEConfig, DVAETokenizer


@pytest.fixture
def tokenizer() -> DVAETokenizer:
    """32 pixels a side, 8 pixels a code, 20 codes."""
    return DVAETokenizer(DVAEConfig(vocab=20, channels=8, blocks=1, embedding=6, size=32)).eval()


def test_tokens_are_the_best_logits(tokenizer: DVAETokenizer):
    """The network sees 0.8 x + 0.1, and the largest score at a place is its token."""
    images = torch.rand(2, 3, 16, 24)
    assert torch.equal(tokenizer.encode(images), tokenizer.encoder(images * 0.8 + 0.1).argmax(1))


def test_looking_up_is_the_convolution(tokenizer: DVAETokenizer):
    """Looking an id up equals the first convolution on a channel switched on."""
    ids = torch.randint(20, (2, 3, 4))
    switched = F.one_hot(ids, 20).movedim(3, 1).float()
    looked_up, embedded = tokenizer.decoder.look_up(ids), tokenizer.decoder.embed(switched)
    torch.testing.assert_close(looked_up, embedded, atol=1e-6, rtol=0)  # sums with zeros, another order


def test_pixels_leave_the_margin(tokenizer: DVAETokenizer):
    """Three channels of means are squashed, the margins of a tenth cut off; the scales are not pictures."""
    output = torch.tensor([-9.0, 0.0, 9.0, 5.0, 5.0, 5.0])[None, :, None, None].expand(1, 6, 16, 16)
    tokenizer.decoder.register_forward_hook(lambda *_: output)
    pixels = tokenizer.decode(torch.zeros(1, 2, 2, dtype=torch.int64))
    assert pixels[0, :, 0, 0].tolist() == pytest.approx([0, 0.5, 1], abs=1e-6)


@pytest.mark.parametrize("size", [(8, 8), (32, 32), (16, 40)])
def test_any_size(tokenizer: DVAETokenizer, size: tuple[int, int]):
    """Images whose sides divide by 8, square or not, come back in their size."""
    ids = tokenizer.encode(torch.rand(2, 3, *size))
    assert ids.shape == (2, size[0] // 8, size[1] // 8)
    assert tokenizer.decode(ids).shape == (2, 3, *size)
    assert (tokenizer.tokens, tokenizer.vocab) == (16, 20)


def test_every_parameter_learns(tokenizer: DVAETokenizer):
    """A gradient reaches every tensor, through a mixture of codes as Gumbel-softmax makes it."""
    weights = tokenizer.encoder(torch.rand(2, 3, 16, 16)).softmax(1)
    tokenizer.decoder(tokenizer.decoder.embed(weights)).square().mean().backward()
    for name, parameter in tokenizer.named_parameters():  # so narrow, some channels may be switched off
        assert parameter.grad is not None and parameter.grad.isfinite().all(), name


def test_forward(tokenizer: DVAETokenizer):
    """In evaluation it is the round trip, with the distribution whose medians the pixels are."""
    images = torch.rand(2, 3, 16, 24)
    out = tokenizer(images)
    assert torch.equal(out.ids, tokenizer.encode(images))
    torch.testing.assert_close(out.images.clamp(0, 1), tokenizer.decode(out.ids), atol=1e-6, rtol=0)
    assert out.laplace.shape == (2, 6, 16, 24)
    torch.testing.assert_close(out.images, (out.laplace[:, :3].sigmoid() - 0.1) / 0.8)


def test_forward_in_training(tokenizer: DVAETokenizer):
    """Codes are mixed by their noisy scores, and loss and divergence reach every parameter."""
    tokenizer.train().quantize.tau = 2.0
    images = torch.rand(2, 3, 16, 16)
    out = tokenizer(images)
    assert not torch.equal(out.ids, tokenizer(images).ids)  # other noise
    (out.laplace.square().mean() + out.quantizer_loss).backward()
    for name, parameter in tokenizer.named_parameters():
        assert parameter.grad is not None and parameter.grad.isfinite().all(), name
    assert tokenizer.last_layer.grad.any()


def test_without_a_decoder(tokenizer: DVAETokenizer):
    """FLAVA published the encoder alone: it encodes, and says that it cannot decode."""
    half = DVAETokenizer(replace(tokenizer.config, decodes=False))
    with pytest.raises(ValueError, match="these weights hold no decoder"):
        half.decode(half.encode(torch.rand(1, 3, 8, 8)))


def test_channels_that_do_not_divide():
    """The bottlenecks are a quarter as wide."""
    for name in ("vocab", "channels", "blocks", "embedding"):
        with pytest.raises(ValueError, match=f"{name} is 0, the least is 1: raise it"):
            DVAEConfig(**{name: 0})
    with pytest.raises(ValueError, match="size 60 does not divide by 8, the pixels a code: take 64$"):
        DVAEConfig(size=60)
    with pytest.raises(ValueError, match="channels 6 do not divide by 4"):
        DVAEConfig(channels=6)
