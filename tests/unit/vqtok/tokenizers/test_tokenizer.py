"""Images to ids and back: shapes, ranges, folders on disk, and one clear sentence for each mistake."""

import json
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from torch import Tensor

import vqtok
from vqtok.tokenizers.loading import load_tokenizer
from vqtok.tokenizers.quantizers.bsq import BSQConfig
from vqtok.tokenizers.quantizers.choice import QuantizerConfig
from vqtok.tokenizers.quantizers.fsq import FSQConfig
from vqtok.tokenizers.quantizers.gumbel import GumbelConfig
from vqtok.tokenizers.quantizers.ibq import IBQConfig
from vqtok.tokenizers.quantizers.lfq import LFQConfig
from vqtok.tokenizers.quantizers.residual import ResidualVQConfig
from vqtok.tokenizers.quantizers.simvq import SimVQConfig
from vqtok.tokenizers.quantizers.vq import VQConfig
from vqtok.tokenizers.tokenizer import TokenizerConfig, VQTokenizer


def test_encode_and_decode(tokenizer: VQTokenizer, images: Tensor):
    """Images become a grid of int64 ids, ids become images in [0, 1], the same every time."""
    ids = tokenizer.encode(images)
    assert ids.shape == (5, 4, 4) and ids.dtype == torch.int64
    assert ids.min() >= 0 and ids.max() < tokenizer.vocab == 32
    decoded = tokenizer.decode(ids)
    assert decoded.shape == images.shape and decoded.dtype == torch.float32
    assert decoded.min() >= 0 and decoded.max() <= 1
    assert torch.equal(tokenizer.encode(images), ids) and torch.equal(tokenizer.decode(ids), decoded)
    assert not decoded.requires_grad
    assert tokenizer.tokens == 16


@pytest.mark.parametrize("size", [(4, 4), (8, 24), (36, 12)])
def test_other_sizes(tokenizer: VQTokenizer, size: tuple[int, int]):
    """Images need not be square, nor of the training size."""
    ids = tokenizer.encode(torch.rand(2, 3, *size))
    assert ids.shape == (2, size[0] // 4, size[1] // 4)
    assert tokenizer.decode(ids).shape == (2, 3, *size)


def test_images_do_not_disturb_each_other(tokenizer: VQTokenizer, images: Tensor):
    """Ids of an image are its own, whatever else is in the batch."""
    together, alone = tokenizer.encode(images), torch.cat([tokenizer.encode(image[None]) for image in images])
    assert (together != alone).float().mean() < 0.05  # convolutions of another batch size may round otherwise


def test_forward_is_encode_and_decode(tokenizer: VQTokenizer, images: Tensor):
    """Training sees the same ids, and images that are only not clamped yet."""
    out = tokenizer(images)
    assert torch.equal(out.ids, tokenizer.encode(images))
    torch.testing.assert_close(out.images.clamp(0, 1), tokenizer.decode(out.ids))
    assert out.vectors.shape == (5, 4, 4, 4) and out.quantizer_loss.shape == ()


def test_everything_learns(tokenizer: VQTokenizer, images: Tensor):
    """Reconstruction and quantizer's loss together move every parameter."""
    out = tokenizer(images)
    ((out.images - images).square().mean() + out.quantizer_loss).backward()
    assert all(parameter.grad.abs().sum() > 0 for parameter in tokenizer.parameters())


@pytest.mark.parametrize("low", [-1.0, 0.0])
def test_range_of_the_network(config: TokenizerConfig, low: float):
    """The network sees black as `low` and white as 1, and what it gives is brought back likewise."""
    tokenizer = VQTokenizer(replace(config, low=low)).eval()
    seen = []
    tokenizer.encoder.register_forward_pre_hook(lambda _, inputs: seen.append(inputs[0]))
    tokenizer.encode(torch.stack([torch.zeros(3, 16, 16), torch.ones(3, 16, 16)]))
    assert [float(image.unique()) for image in seen[0]] == [low, 1.0]
    tokenizer.decoder.register_forward_hook(lambda _, inputs, output: torch.full_like(output, (1 + low) / 2))
    assert float(tokenizer.decode(torch.zeros(1, 4, 4, dtype=torch.int64)).unique()) == 0.5


def test_other_floats(tokenizer: VQTokenizer, images: Tensor):
    """Images in another floating type are brought to the network's."""
    assert torch.equal(tokenizer.encode(images.double()), tokenizer.encode(images))
    coarse = images.bfloat16()
    assert torch.equal(tokenizer.encode(coarse), tokenizer.encode(coarse.float()))
    small = tokenizer.bfloat16()
    assert small.decode(small.encode(images)).dtype == torch.float32


@pytest.mark.parametrize(
    ("images", "told"),
    [
        (torch.zeros(2, 3, 16, 18), "images of 16x18 pixels do not divide by 4.* resize them, .* 16x16"),
        (torch.zeros(2, 3, 0, 16), "images of 0x16 pixels"),
        (torch.zeros(2, 1, 16, 16), r"must be \(b, 3, h, w\) floats in \[0, 1\], got \(2, 1, 16, 16\)"),
        (torch.zeros(3, 16, 16), r"must be \(b, 3, h, w\).* got \(3, 16, 16\)"),
        (torch.zeros(0, 3, 16, 16), r"must be .* got \(0, 3, 16, 16\)"),
        (torch.zeros(1, 3, 16, 16, dtype=torch.uint8), "floats.* got .*uint8: read them with"),
        (torch.full((1, 3, 16, 16), 255.0), r"pixels reach from 255 to 255, not within \[0, 1\]: divide"),
        (torch.full((1, 3, 16, 16), -0.5), "pixels reach from -0.5"),
        (torch.full((1, 3, 16, 16), float("inf")), "pixels reach from inf to inf"),
        (torch.zeros(1, 3, 16, 16).index_fill(3, torch.tensor(7), float("nan")), "not a number"),
    ],
)
def test_images_that_cannot_be_encoded(tokenizer: VQTokenizer, images: Tensor, told: str):
    """Size, channels, type and range are checked; the message has the value, the limit and the way out."""
    with pytest.raises(ValueError, match=told):
        tokenizer.encode(images)


@pytest.mark.parametrize(
    ("ids", "told"),
    [
        (torch.tensor([[[0, 32]]]), "reach from 0 to 32 but this tokenizer has codes 0 to 31"),
        (torch.tensor([[[-1, 3]]]), "reach from -1 to 3"),
        (torch.tensor([[1, 2]]), r"must be \(b, i, j\) int64, got \(1, 2\)"),
        (torch.tensor([[[1.0]]]), "got .* torch.float32"),
    ],
)
def test_ids_that_are_no_codes(tokenizer: VQTokenizer, ids: Tensor, told: str):
    """Ids outside the codebook, such as special ones, are refused with both ranges."""
    with pytest.raises(ValueError, match=told):
        tokenizer.decode(ids)


def test_without_a_decoder(config: TokenizerConfig, images: Tensor, tmp_path: Path):
    """Weights published without a decoder encode, are saved and loaded, and say that they cannot decode."""
    VQTokenizer(replace(config, decodes=False)).save_pretrained(tmp_path / "model")
    tokenizer = load_tokenizer(tmp_path / "model")
    assert not [name for name in tokenizer.state_dict() if name.startswith(("decoder", "post_quant_conv"))]
    with pytest.raises(ValueError, match="these weights hold no decoder: load a publication"):
        tokenizer.decode(tokenizer.encode(images))


def test_a_size_that_does_not_divide(config: TokenizerConfig):
    """A training size must hold whole codes."""
    with pytest.raises(ValueError, match="size 18 does not divide by 4.*: take 16"):
        replace(config, size=18)


def test_folder(tokenizer: VQTokenizer, images: Tensor, tmp_path: Path):
    """Saved and loaded it gives the same ids and images, and is ready to use."""
    tokenizer.save_pretrained(tmp_path / "model")
    loaded = vqtok.load_tokenizer(tmp_path / "model")
    assert loaded.config == tokenizer.config and not loaded.training
    ids = tokenizer.encode(images)
    assert torch.equal(loaded.encode(images), ids)
    assert torch.equal(loaded.decode(ids), tokenizer.decode(ids))


def test_small_folder(tokenizer: VQTokenizer, images: Tensor, tmp_path: Path):
    """Kept as bfloat16 it loads as float32, and loading again gives the same ids."""
    tokenizer.save_pretrained(tmp_path / "model", dtype=torch.bfloat16)
    loaded, again = load_tokenizer(tmp_path / "model"), load_tokenizer(tmp_path / "model")
    assert {parameter.dtype for parameter in loaded.parameters()} == {torch.float32}
    assert torch.equal(loaded.encode(images), again.encode(images))


@pytest.mark.parametrize(
    "quantizer",
    [
        VQConfig(codes=32, width=4, rotate=True),
        SimVQConfig(codes=32, width=4),
        FSQConfig(levels=(5, 4, 3)),
        LFQConfig(bits=5),
        BSQConfig(bits=5),
        GumbelConfig(codes=32, width=4),
        ResidualVQConfig(stages=3, codes=32, width=4),
        IBQConfig(codes=32, width=4),
    ],
    ids=lambda quantizer: quantizer.kind,
)
def test_any_quantizer(config: TokenizerConfig, quantizer: QuantizerConfig, images: Tensor, tmp_path: Path):
    """Images to ids and back, saved and loaded as the same, in half precision too."""
    torch.manual_seed(0)
    tokenizer = VQTokenizer(replace(config, quantizer=quantizer)).eval()
    ids = tokenizer.encode(images)
    assert ids.shape[:3] == (5, 4, 4) and tokenizer.tokens == ids[0].numel()
    assert int(ids.min()) >= 0 and int(ids.max()) < tokenizer.vocab == quantizer.vocab
    decoded = tokenizer.decode(ids)
    assert decoded.shape == images.shape
    torch.testing.assert_close(tokenizer(images).images.clamp(0, 1), decoded)
    tokenizer.save_pretrained(tmp_path / "model")
    loaded = load_tokenizer(tmp_path / "model")
    assert loaded.config == tokenizer.config
    assert torch.equal(loaded.encode(images), ids) and torch.equal(loaded.decode(ids), decoded)
    small = loaded.bfloat16()
    assert small(images.bfloat16()).images.shape == small.decode(small.encode(images)).shape


def test_several_ids_a_code(config: TokenizerConfig):
    """Their number is part of the shape that `decode` takes."""
    tokenizer = VQTokenizer(replace(config, quantizer=ResidualVQConfig(stages=3, codes=32, width=4)))
    for shape in [(1, 4, 4), (1, 4, 4, 2)]:
        with pytest.raises(ValueError, match=r"ids must be \(b, i, j, 3\) int64, got"):
            tokenizer.decode(torch.zeros(shape, dtype=torch.int64))


def test_a_config_from_before_there_were_kinds(tokenizer: VQTokenizer, tmp_path: Path):
    """A config.json whose quantizer says no kind is that of a VQ, as those of shipped weights are."""
    tokenizer.save_pretrained(tmp_path / "model")
    path = tmp_path / "model" / "config.json"
    data = json.loads(path.read_text())
    data["quantizer"] = {"codes": 32, "width": 4, "restart_below": 0.03, "memory": 0.99}
    path.write_text(json.dumps(data))
    loaded = load_tokenizer(tmp_path / "model")
    assert loaded.config.quantizer == VQConfig(codes=32, width=4, memory=0.99)
    assert {"quantize.embedding.weight", "quantize.usage"} < {*loaded.state_dict()}


def test_no_folder(tmp_path: Path):
    """A folder without a tokenizer is named."""
    with pytest.raises(ValueError, match=r"holds none"):
        load_tokenizer(tmp_path)
