"""The autoencoder is VQGAN's: published configurations give the published tensors; any size goes through."""

import re

import pytest
import torch

from vqtok.tokenizers.autoencoder import AutoencoderConfig, Decoder, Downsample, Encoder
from vqtok.tokenizers.magvit2 import MAGVIT2Config
from vqtok.tokenizers.maskgit import MaskGITConfig
from vqtok.tokenizers.quantizers.vq import VQConfig
from vqtok.tokenizers.tokenizer import TokenizerConfig, VQTokenizer


def published(shape: dict, codes: int, width: int, normalize: bool = False) -> VQTokenizer:
    """A tokenizer of 256 pixels without memory behind its tensors."""
    config = TokenizerConfig(
        autoencoder=AutoencoderConfig(**shape),
        quantizer=VQConfig(codes=codes, width=width, normalize=normalize),
    )
    with torch.device("meta"):
        return VQTokenizer(config)


TAMING = {"multipliers": (1, 1, 2, 2, 4), "attention_levels": (4,)}
LVM = {"multipliers": (1, 2, 2, 4, 6), "middle_attention": False, "latent": 64}
# Counts of networks built from the authors' code.
COUNTS = {
    "taming f16-1024": ((TAMING, 1024, 256), 72_141_699, 343),
    "taming f16-16384": ((TAMING, 16384, 256), 76_073_859, 343),
    "latent diffusion f8-16384": (
        ({"multipliers": (1, 2, 2, 4), "attention_levels": (3,), "latent": 4}, 16384, 4),
        67_717_295,
        None,
    ),
    "LlamaGen VQ-16": ((TAMING, 16384, 8, True), 71_883_403, 343),  # its 344th is a buffer of ids it saw
    "LlamaGen VQ-8": (
        ({"multipliers": (1, 2, 2, 4), "attention_levels": (3,)}, 16384, 8, True),
        70_109_835,
        299,
    ),
    "LVM": ((LVM, 8192, 64), 146_244_675, 277),
}


@pytest.mark.parametrize("name", COUNTS)
def test_published_sizes(name: str):
    """Parameters and their tensors are as many as those of the published tokenizer."""
    arguments, parameters, tensors = COUNTS[name]
    found = published(*arguments)
    assert sum(parameter.numel() for parameter in found.parameters()) == parameters
    assert tensors in (None, len([*found.parameters()]))
    # Beside them there is one buffer, the count that training keeps; no published file has it.
    assert {*found.state_dict()} - {name for name, _ in found.named_parameters()} == {"quantize.usage"}


@pytest.mark.parametrize(
    ("name", "shapes"),
    [
        (
            "LVM",
            {
                "encoder.conv_in.weight": (128, 3, 3, 3),
                "encoder.down.0.downsample.conv.weight": (128, 128, 3, 3),
                "encoder.down.1.block.0.nin_shortcut.weight": (256, 128, 1, 1),
                "encoder.down.4.block.1.conv2.bias": (768,),
                "encoder.mid.block_2.norm1.weight": (768,),
                "encoder.norm_out.bias": (768,),
                "encoder.conv_out.weight": (64, 768, 3, 3),
                "quant_conv.weight": (64, 64, 1, 1),
                "quantize.embedding.weight": (8192, 64),
                "post_quant_conv.bias": (64,),
                "decoder.conv_in.weight": (768, 64, 3, 3),
                "decoder.up.4.block.2.conv1.weight": (768, 768, 3, 3),
                "decoder.up.4.upsample.conv.weight": (768, 768, 3, 3),
                "decoder.up.3.block.0.nin_shortcut.weight": (512, 768, 1, 1),
                "decoder.up.0.block.2.norm2.weight": (128,),
                "decoder.conv_out.weight": (3, 128, 3, 3),
            },
        ),
        (
            "taming f16-1024",
            {
                "encoder.down.4.attn.1.proj_out.weight": (512, 512, 1, 1),
                "encoder.mid.attn_1.norm.weight": (512,),
                "decoder.mid.attn_1.k.bias": (512,),
                "decoder.up.4.attn.2.q.weight": (512, 512, 1, 1),
                "quant_conv.weight": (256, 256, 1, 1),
                "quantize.embedding.weight": (1024, 256),
            },
        ),
    ],
)
def test_published_names_and_shapes(name: str, shapes: dict[str, tuple[int, ...]]):
    """Tensors are named and shaped as in the published files."""
    state = published(*COUNTS[name][0]).state_dict()
    assert {key: tuple(state[key].shape) for key in shapes} == shapes
    assert not any(re.search(r"down\.4\.downsample|up\.0\.upsample", key) for key in state)


def test_published_halves():
    """taming's f16 network has 144 tensors in its encoder, 194 in its decoder; LVM's has no attention."""
    taming = published(*COUNTS["taming f16-1024"][0])
    assert [len([*half.parameters()]) for half in (taming.encoder, taming.decoder)] == [144, 194]
    assert not [name for name, _ in published(*COUNTS["LVM"][0]).named_parameters() if "attn" in name]


@pytest.mark.parametrize("patch", [1, 2])
@pytest.mark.parametrize("levels", [1, 2, 3])
def test_any_size(levels: int, patch: int):
    """Images whose sides divide by the factor, square or not, come back in their size."""
    config = AutoencoderConfig(
        channels=8,
        multipliers=(1, 2, 2)[:levels],
        blocks=1,
        latent=6,
        groups=4,
        patch=patch,
        attention_levels=(levels - 1,),
    )
    encoder, decoder = Encoder(config), Decoder(config)
    assert config.factor == patch * 2 ** (levels - 1)
    for rows, columns in ((1, 1), (3, 2), (1, 4)):
        latents = encoder(torch.rand(2, 3, rows * config.factor, columns * config.factor))
        assert latents.shape == (2, 6, rows, columns)
        assert decoder(latents).shape == (2, 3, rows * config.factor, columns * config.factor)


def test_every_parameter_learns():
    """A gradient reaches every tensor of both halves."""
    config = AutoencoderConfig(channels=8, multipliers=(1, 2), groups=4, latent=6, attention_levels=(0, 1))
    encoder, decoder = Encoder(config), Decoder(config)
    decoder(encoder(torch.rand(2, 3, 8, 8))).square().mean().backward()
    for half in (encoder, decoder):
        for name, parameter in half.named_parameters():
            assert parameter.grad is not None and parameter.grad.isfinite().all(), name


@pytest.mark.parametrize("levels", [(), (1,)])
def test_recomputing_changes_nothing(levels: tuple[int, ...]):
    """Activations computed again for the gradient, dropout included, give the same output and gradients."""
    found = []
    for recompute in (False, True):
        torch.manual_seed(0)
        config = AutoencoderConfig(
            channels=8,
            multipliers=(1, 2),
            groups=4,
            latent=6,
            dropout=0.5,
            attention_levels=levels,
            recompute=recompute,
        )
        encoder = Encoder(config)
        latents = encoder(torch.rand(2, 3, 8, 8))
        latents.square().mean().backward()
        found.append([latents, *(parameter.grad for parameter in encoder.parameters())])
    assert all(torch.equal(one, other) for one, other in zip(*found, strict=True))


def test_recomputing_keeps_less():
    """Between the passes fewer numbers are kept for the gradient."""
    kept = []
    for recompute in (False, True):
        encoder = Encoder(AutoencoderConfig(channels=8, multipliers=(1, 2), groups=4, recompute=recompute))
        sizes: list[int] = []
        with torch.autograd.graph.saved_tensors_hooks(
            lambda x, s=sizes: s.append(x.numel()) or x, lambda x: x
        ):
            encoder(torch.rand(2, 3, 32, 32))
        kept.append(sum(sizes))
    assert kept[1] < 0.6 * kept[0]  # weights are among them


def test_halving_pads_right_and_below():
    """As taming has it: the first output sees rows and columns 0 to 2, the last zeros beyond the edge."""
    half = Downsample(1)
    half.conv.weight.data.fill_(1)
    half.conv.bias.data.zero_()
    ones = half(torch.ones(1, 1, 4, 4))[0, 0]
    assert ones.tolist() == [[9, 6], [6, 4]]


@pytest.mark.parametrize(
    ("settings", "told"),
    [
        ({"channels": 20}, "channels 20 do not divide by groups 32"),
        ({"blocks": 0}, "blocks is 0, the least is 1"),
        ({"patch": 0}, "patch is 0"),
        ({"multipliers": ()}, "name one of at least 1 for each level"),
        ({"multipliers": (1, 0)}, "name one of at least 1"),
        ({"attention_levels": (5,)}, "beyond the levels, which are 0 to 4"),
    ],
)
def test_mistakes_are_named(settings: dict, told: str):
    """A shape that cannot be built is refused before anything is."""
    with pytest.raises(ValueError, match=told):
        AutoencoderConfig(**settings)


@pytest.mark.parametrize("kind", [MAGVIT2Config, MaskGITConfig])
@pytest.mark.parametrize(
    ("settings", "told"),
    [
        ({"multipliers": ()}, "name one of at least 1 for each level"),
        ({"groups": 0}, "groups is 0, the least is 1"),
        ({"blocks": 0}, "blocks is 0, the least is 1"),
        ({"channels": 0}, "channels is 0, the least is 1"),
    ],
)
def test_all_pyramids_refuse_the_same(kind: type, settings: dict, told: str):
    """The other networks of residual blocks are checked as VQGAN's is."""
    quantizer = {"quantizer": VQConfig(codes=16, width=4)} if kind is MaskGITConfig else {}
    with pytest.raises(ValueError, match=told):
        kind(**quantizer, **settings)


@pytest.mark.parametrize("low", [1.0, float("nan"), -float("inf")])
def test_black_must_not_be_white(low: float):
    """The range of pixels has a length, which they are divided by."""
    told = f"low is {low}, black as the network sees it, and white is 1"
    with pytest.raises(ValueError, match=told):
        MAGVIT2Config(low=low)
    with pytest.raises(ValueError, match=told):
        TokenizerConfig(autoencoder=AutoencoderConfig(), quantizer=VQConfig(codes=16, width=4), low=low)


def test_a_config_tells_factor_and_vocab():
    """Whatever the network: users read them off the configuration, before anything is built."""
    vq = VQConfig(codes=16, width=4)
    shape = AutoencoderConfig(multipliers=(1, 2), patch=4)
    assert (TokenizerConfig(autoencoder=shape, quantizer=vq).factor, shape.factor) == (8, 8)
    assert TokenizerConfig(autoencoder=shape, quantizer=vq).vocab == 16
    assert (MaskGITConfig(quantizer=vq).factor, MaskGITConfig(quantizer=vq).vocab) == (16, 16)
    assert (MAGVIT2Config().factor, MAGVIT2Config().vocab, MAGVIT2Config().blocks) == (16, 2**18, 4)
