"""Published tokenizers against the libraries they come from: same weights, same vectors, ids and pixels.

Every tensor of the peer is random, norms included, so that none can stand in the place of another unseen. The
peers write the files that are loaded here, in their own layout.
"""

from importlib import import_module
from pathlib import Path

import pytest
import torch
from torch import Tensor, nn

from vqtok.tokenizers.dvae import DVAETokenizer
from vqtok.tokenizers.interface import ImageTokenizer
from vqtok.tokenizers.loading import load_tokenizer
from vqtok.tokenizers.tokenizer import VQTokenizer

pytestmark = pytest.mark.peer
CLOSE = {"atol": 1e-5, "rtol": 1e-5}  # sums in another order, float32
# Patches of color under noise, in [0, 1], not square: places differ enough to get different codes.
PATCHES = torch.rand(2, 3, 4, 6, generator=torch.Generator().manual_seed(1))
PIXELS = nn.functional.interpolate(PATCHES, scale_factor=4.0)
PIXELS = 0.9 * PIXELS + 0.1 * torch.rand(PIXELS.shape, generator=torch.Generator().manual_seed(2))


def scramble(peer: nn.Module) -> nn.Module:
    """The peer with all tensors random but tame, in evaluation mode."""
    generator = torch.Generator().manual_seed(0)
    with torch.no_grad():
        for name, parameter in peer.named_parameters():
            fan = parameter[0].numel() if parameter.ndim > 1 else 100
            parameter.copy_(torch.randn(parameter.shape, generator=generator) / fan**0.5)
            parameter.add_(1 if parameter.ndim == 1 and name.endswith("weight") else 0)  # of norms
    return peer.eval().requires_grad_(False)


def again(tokenizer: ImageTokenizer, folder: Path) -> ImageTokenizer:
    """The tokenizer, saved as ours and loaded from there, which must change nothing."""
    tokenizer.save_pretrained(folder)
    loaded = load_tokenizer(folder)
    assert type(loaded) is type(tokenizer) and loaded.config == tokenizer.config
    return loaded


SHAPES = {
    "f4": {
        "block_out_channels": (32, 64, 128),
        "latent_channels": 3,
        "vq_embed_dim": 3,
        "num_vq_embeddings": 64,
        "layers_per_block": 2,
    },
    "aMUSEd": {
        "block_out_channels": (32, 64, 64, 96),
        "latent_channels": 8,
        "vq_embed_dim": 8,
        "num_vq_embeddings": 32,
        "layers_per_block": 2,
        "mid_block_add_attention": False,
        "lookup_from_codebook": True,
    },
    "attention in the last level": {
        "block_out_channels": (16, 32),
        "norm_num_groups": 8,
        "latent_channels": 6,
        "vq_embed_dim": 4,
        "num_vq_embeddings": 32,
        "sample_size": 64,
        "down_block_types": ("DownEncoderBlock2D", "AttnDownEncoderBlock2D"),
        "up_block_types": ("AttnUpDecoderBlock2D", "UpDecoderBlock2D"),
    },
}


@pytest.mark.parametrize("name", SHAPES)
def test_diffusers(name: str, tmp_path: Path):
    """diffusers' VQModel: vectors, ids and pixels are its own, in the range that each was trained on."""
    diffusers = import_module("diffusers")
    shape = SHAPES[name]
    levels = len(shape["block_out_channels"])
    kinds = {
        "down_block_types": ("DownEncoderBlock2D",) * levels,
        "up_block_types": ("UpDecoderBlock2D",) * levels,
    }
    peer = scramble(diffusers.VQModel(**(kinds | shape)))
    peer.save_pretrained(tmp_path / "theirs")
    ours = load_tokenizer(tmp_path / "theirs")
    assert isinstance(ours, VQTokenizer)
    low = 0.0 if name == "aMUSEd" else -1.0
    assert (ours.config.low, ours.config.size) == (low, shape.get("sample_size", 256))
    ours = again(ours, tmp_path / "ours")

    vectors = peer.encode(PIXELS * (1 - low) + low).latents
    torch.testing.assert_close(ours._vectors(PIXELS), vectors, **CLOSE)
    codes, _, (_, _, ids) = peer.quantize(vectors)
    assert torch.equal(ours.encode(PIXELS), ids.view(len(PIXELS), *vectors.shape[2:]))
    pixels = (peer.decoder(peer.post_quant_conv(codes)) - low) / (1 - low)
    torch.testing.assert_close(ours._images(ours.encode(PIXELS)), pixels, **CLOSE)
    assert ours.vocab == shape["num_vq_embeddings"] > len(ids.unique()) > 1


def chameleon(attention: list[int] | None = None) -> nn.Module:
    """A tiny `ChameleonVQVAE`."""
    models = import_module("transformers.models.chameleon")
    config = models.configuration_chameleon.ChameleonVQVAEConfig(
        base_channels=32,
        channel_multiplier=[1, 2, 2],
        num_res_blocks=2,
        latent_channels=8,
        embed_dim=4,
        num_embeddings=32,
        resolution=64,
        attn_resolutions=attention,
    )
    return scramble(models.modeling_chameleon.ChameleonVQVAE(config))


@pytest.mark.parametrize("attention", [None, [16, 32]])
def test_chameleon(attention: list[int] | None, tmp_path: Path):
    """transformers' Chameleon VQ: vectors and ids are its own; having no decoder, it says so."""
    peer = chameleon(attention)
    peer.save_pretrained(tmp_path / "theirs")
    ours = again(load_tokenizer(tmp_path / "theirs"), tmp_path / "ours")
    assert isinstance(ours, VQTokenizer)
    assert (ours.config.size, ours.tokens) == (64, 256)

    seen = PIXELS * 2 - 1
    torch.testing.assert_close(ours._vectors(PIXELS), peer.quant_conv(peer.encoder(seen)), **CLOSE)
    ids = peer.encode(seen).image_tokens
    assert torch.equal(ours.encode(PIXELS).flatten(), ids.flatten()) and len(ids.unique()) > 1
    with pytest.raises(ValueError, match="these weights hold no decoder"):
        ours.decode(ours.encode(PIXELS))


def test_chameleon_inside_its_model(tmp_path: Path):
    """The tokenizer is taken out of a file of the whole model, and the rest left alone."""
    tensors = {f"model.vqmodel.{name}": tensor for name, tensor in chameleon().state_dict().items()}
    torch.save(tensors | {"model.embed_tokens.weight": torch.zeros(3, 4)}, tmp_path / "pytorch_model.bin")
    assert load_tokenizer(tmp_path).vocab == 32


def janus() -> nn.Module:
    """A tiny `JanusVQVAE`, decoding 4x4 codes."""
    models = import_module("transformers.models.janus")
    config = models.configuration_janus.JanusVQVAEConfig(
        base_channels=32,
        channel_multiplier=[1, 1, 2],
        num_res_blocks=1,
        latent_channels=8,
        embed_dim=4,
        num_embeddings=32,
        num_patches=4,
    )
    return scramble(models.modeling_janus.JanusVQVAE(config))


def test_janus(tmp_path: Path):
    """transformers' Janus VQ: vectors, ids and pixels are its own.

    Its `encode` compares lengths too, which the authors' own and its `decode` do not. With codes of length
    one, as they begin, all choose alike; with others the authors' choice is ours.
    """
    peer = janus()
    peer.save_pretrained(tmp_path / "theirs")
    ours = again(load_tokenizer(tmp_path / "theirs"), tmp_path / "ours")
    assert isinstance(ours, VQTokenizer)
    assert ours.config.size == 16 and ours.config.quantizer.normalize

    images = PIXELS[..., :16]
    seen = images * 2 - 1
    torch.testing.assert_close(ours._vectors(images), peer.quant_conv(peer.encoder(seen)), **CLOSE)
    codebook = peer.quantize.embedding.weight
    codebook.copy_(nn.functional.normalize(codebook, dim=1))
    ids = peer.encode(seen).image_tokens.view(2, 16)
    assert torch.equal(ours.encode(images).flatten(1), ids) and len(ids.unique()) > 1
    pixels = (peer.decode(ids) + 1) / 2
    torch.testing.assert_close(ours._images(ids.view(2, 4, 4)), pixels, **CLOSE)


def dall_e_halves() -> tuple[nn.Module, nn.Module]:
    """Tiny encoder and decoder of OpenAI's package; its least widths are not checked."""
    dall_e = import_module("dall_e")
    sizes = {"n_hid": 16, "vocab_size": 40}
    return scramble(dall_e.Encoder(**sizes)), scramble(dall_e.Decoder(**sizes, n_init=12))


def test_dall_e(tmp_path: Path):
    """Both halves of OpenAI's dVAE, from modules pickled as it published them: logits, ids and pixels."""
    encoder, decoder = dall_e_halves()
    dall_e = import_module("dall_e")
    torch.save(encoder, tmp_path / "encoder.pkl")
    torch.save(decoder, tmp_path / "decoder.pkl")
    ours = again(load_tokenizer(tmp_path), tmp_path / "ours")
    assert isinstance(ours, DVAETokenizer) and ours.vocab == 40

    seen = dall_e.map_pixels(PIXELS)
    logits = encoder(seen)
    torch.testing.assert_close(ours.encoder(seen), logits, **CLOSE)
    ids = ours.encode(PIXELS)
    assert torch.equal(ids, logits.argmax(1)) and ids.shape == (2, 2, 3) and len(ids.unique()) > 1
    switched = nn.functional.one_hot(ids, 40).permute(0, 3, 1, 2).float()
    told = decoder(switched)
    torch.testing.assert_close(ours.decoder(ours.decoder.embed(switched)), told, **CLOSE)
    pixels = dall_e.unmap_pixels(torch.sigmoid(told[:, :3]))
    torch.testing.assert_close(ours.decode(ids), pixels, **CLOSE)
    half = load_tokenizer(tmp_path / "encoder.pkl")
    assert not half.decodes and torch.equal(half.encode(PIXELS), ids)


def test_flava(tmp_path: Path):
    """transformers' FLAVA codebook, the dVAE's encoder: logits and ids are its own."""
    models = import_module("transformers.models.flava")
    config = models.configuration_flava.FlavaImageCodebookConfig(hidden_size=16, vocab_size=40)
    peer = scramble(models.modeling_flava.FlavaImageCodebook(config))
    peer.save_pretrained(tmp_path / "theirs")
    ours = again(load_tokenizer(tmp_path / "theirs"), tmp_path / "ours")
    assert isinstance(ours, DVAETokenizer) and ours.config.size == 112

    seen = PIXELS * 0.8 + 0.1
    torch.testing.assert_close(ours.encoder(seen), peer.blocks(seen), **CLOSE)
    ids = peer.get_codebook_indices(seen)
    assert torch.equal(ours.encode(PIXELS), ids) and len(ids.unique()) > 1
    with pytest.raises(ValueError, match="hold no decoder"):
        ours.decode(ids)


def test_flava_and_dall_e_agree(tmp_path: Path):
    """The same encoder in OpenAI's layout and in FLAVA's gives the same ids."""
    encoder, decoder = dall_e_halves()
    flava = {}
    for name, tensor in encoder.state_dict().items():
        name = name.replace(".block_", ".group.block_").replace(".res_path.", ".res_path.path.")
        flava[name[:-1] + {"w": "weight", "b": "bias"}[name[-1]]] = tensor
    torch.save(flava, tmp_path / "flava.pt")
    torch.save(encoder, tmp_path / "encoder.pkl")
    torch.save(decoder, tmp_path / "decoder.pkl")
    both = [load_tokenizer(path).encode(PIXELS) for path in (tmp_path / "flava.pt", tmp_path)]
    assert torch.equal(*both)


def count(tensors: dict[str, Tensor]) -> tuple[int, int]:
    """Tensors and numbers in them."""
    return len(tensors), sum(tensor.numel() for tensor in tensors.values())


def test_full_sizes():
    """The peers' own networks at full size have the counts that ours have in the tests of layouts."""
    dall_e = import_module("dall_e")
    flava = import_module("transformers.models.flava")
    janus = import_module("transformers.models.janus")
    meta = torch.device("meta")
    assert count(dall_e.Decoder(device=meta).state_dict()) == (76, 43_829_766)
    assert count(dall_e.Encoder(device=meta).state_dict()) == (74, 53_786_240)
    with meta:
        config = flava.configuration_flava.FlavaImageCodebookConfig()
        assert count(flava.modeling_flava.FlavaImageCodebook(config).state_dict()) == (74, 53_786_240)
        config = janus.configuration_janus.JanusVQVAEConfig()
        assert count(janus.modeling_janus.JanusVQVAE(config).state_dict()) == (343, 71_883_403)


def test_full_size_of_amused():
    """aMUSEd's `VQModel` is open-muse's network, LVM's: as many tensors, as many parameters."""
    diffusers = import_module("diffusers")
    with torch.device("meta"):
        peer = diffusers.VQModel(
            block_out_channels=(128, 256, 256, 512, 768),
            down_block_types=("DownEncoderBlock2D",) * 5,
            up_block_types=("UpDecoderBlock2D",) * 5,
            layers_per_block=2,
            latent_channels=64,
            num_vq_embeddings=8192,
            mid_block_add_attention=False,
        )
    assert count(peer.state_dict()) == (277, 146_244_675)
