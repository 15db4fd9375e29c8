"""The local encoder: a code stands for its own pixels and nothing else."""

from dataclasses import replace

import pytest
import torch

from vqtok.tokenizers.local import LocalEncoder
from vqtok.tokenizers.tokenizer import TokenizerConfig, VQTokenizer


@pytest.fixture
def tokenizer(config: TokenizerConfig) -> VQTokenizer:
    """With a local encoder whose blocks do something, which those of a new one do not."""
    torch.manual_seed(0)
    made = VQTokenizer(replace(config, autoencoder=replace(config.autoencoder, local=24)))
    for parameter in made.encoder.parameters():
        parameter.data += 0.1 * torch.randn_like(parameter)
    return made.eval()


def test_a_code_sees_its_own_pixels(tokenizer: VQTokenizer):
    """Changing all pixels but one code's leaves that code; changing its own moves its vector."""
    factor, images = tokenizer.factor, torch.rand(2, 3, 32, 32)
    others = torch.rand(2, 3, 32, 32)
    others[..., factor : 2 * factor, :factor] = images[..., factor : 2 * factor, :factor]
    first, second = tokenizer._vectors(images), tokenizer._vectors(others)
    torch.testing.assert_close(first[..., 1, 0], second[..., 1, 0])
    assert (first - second).abs().amin(dim=(0, 1)).flatten().sort().values[1] > 0
    assert torch.equal(tokenizer.encode(images)[:, 1, 0], tokenizer.encode(others)[:, 1, 0])


def test_equal_patches_have_equal_codes(tokenizer: VQTokenizer):
    """An empty image is one code over and over, wherever its corners are."""
    ids = tokenizer.encode(torch.ones(1, 3, 32, 32))
    assert len(ids.unique()) == 1


def test_a_new_one_is_linear():
    """Blocks start as the identity: nothing without norms blows up."""
    encoder, images = LocalEncoder(4, 16, 3, 8), torch.rand(1, 3, 8, 8)
    x = encoder.conv_in(encoder.fold(images))
    assert all(torch.equal(block(x), x) for block in encoder.blocks)
    assert encoder(images).shape == (1, 8, 2, 2)


def test_what_muon_may_train(tokenizer: VQTokenizer):
    """The blocks of the encoder, and of the decoder what lies between its first and last layer."""
    inside = {id(p) for part in tokenizer.inside for p in part.parameters()}
    names = {name for name, p in tokenizer.named_parameters() if id(p) in inside}
    assert {name.split(".")[0] + "." + name.split(".")[1] for name in names} == {
        "encoder.blocks",
        "decoder.mid",
        "decoder.up",
    }


def test_recomputing_changes_no_gradient_and_keeps_less():
    """As in VQGAN's blocks: the same bits, and fewer numbers kept between the passes."""
    found, kept = [], []
    for recompute in (False, True):
        torch.manual_seed(0)
        encoder, sizes = LocalEncoder(4, 64, 3, 8, recompute), []
        with torch.autograd.graph.saved_tensors_hooks(
            lambda x, s=sizes: s.append(x.numel()) or x, lambda x: x
        ):
            latents = encoder(torch.rand(1, 3, 64, 64))
        latents.square().mean().backward()
        found.append([latents, *(parameter.grad for parameter in encoder.parameters())])
        kept.append(sum(sizes))
    assert all(torch.equal(one, other) for one, other in zip(*found, strict=True))
    assert kept[1] < 0.8 * kept[0]  # weights are among them


def test_recompute_reaches_it(config: TokenizerConfig):
    """The setting of the autoencoder is the encoder's, whichever it is."""
    shape = replace(config.autoencoder, local=24, recompute=True)
    assert VQTokenizer(replace(config, autoencoder=shape)).encoder.recompute


def test_mistakes_are_named(config: TokenizerConfig):
    """An encoder of no channels is refused with the value."""
    with pytest.raises(ValueError, match="local is 0, the least is 1"):
        replace(config.autoencoder, local=0)
