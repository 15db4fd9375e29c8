"""GPT against transformers' ImageGPT: the same weights give the same scores, loss and greedy pixels."""

import pytest
import torch
import transformers
from torch import Tensor

from vqtok.gpt import GPT, KVCache, next_token_loss
from vqtok.gpt.published import imagegpt_config, load_gpt2, load_imagegpt

pytestmark = pytest.mark.peer

SOS = 512
SHAPES = {
    "small: 8 layers of width 256": {"n_embd": 256, "n_layer": 8, "n_head": 4, "n_positions": 64},
    "2 layers of iGPT-S, whole images": {"n_embd": 512, "n_layer": 2, "n_head": 8, "n_positions": 1024},
    "other scales, GELU": {
        "n_embd": 48,
        "n_layer": 3,
        "n_head": 4,
        "n_positions": 64,
        "n_inner": 80,
        "initializer_range": 0.1,
        "activation_function": "gelu",
        "scale_attn_weights": False,
        "scale_attn_by_inverse_layer_idx": True,
        "reorder_and_upcast_attn": True,
    },
}


@pytest.fixture(params=SHAPES.values(), ids=SHAPES, scope="module")
def peer(request):
    """A random ImageGPT, biases and gains too, with weights that make attention far from uniform."""
    torch.manual_seed(0)
    config = transformers.ImageGPTConfig(**{"initializer_range": 0.04} | request.param)
    model = transformers.ImageGPTForCausalImageModeling(config).eval()
    with torch.no_grad():
        for name, weight in model.named_parameters():
            if weight.ndim == 1:
                weight.normal_(float("ln_" in name), 0.1)
    return model


@pytest.fixture(scope="module")
def folder(peer, tmp_path_factory):
    """The peer, saved by transformers in one file."""
    place = tmp_path_factory.mktemp("imagegpt")
    peer.save_pretrained(place)
    return place


def started(pixels: Tensor) -> Tensor:
    """What the peer reads to score `pixels`: the start token in front, the last pixel dropped."""
    return torch.cat((torch.full_like(pixels[:, :1], SOS), pixels[:, :-1]), 1)


def greedy(gpt: GPT, batch: int, count: int) -> Tensor:
    """The best pixels, one after the other, from the start token on."""
    cache, ids = KVCache(gpt.config, batch), torch.empty(batch, 0, dtype=torch.int64)
    drawn = [gpt(ids, cache)[:, -1:].argmax(-1)]
    while len(drawn) < count:
        drawn.append(gpt(drawn[-1], cache).argmax(-1))
    return torch.cat(drawn, 1)


@torch.no_grad()
def test_scores_of_every_pixel(peer, folder):
    """Logits are within 1e-4, from the first pixel to the last, cached or not."""
    gpt, pixels = load_imagegpt(folder), torch.randint(SOS, (1, peer.config.n_positions))
    expected = peer(started(pixels)).logits
    assert expected.std() > 0.3 and expected.shape[-1] == SOS
    found = gpt(pixels[:, :-1])
    torch.testing.assert_close(found, expected, atol=1e-4, rtol=0)
    cache, half = KVCache(gpt.config, batch=1), peer.config.n_positions // 2
    pieces = [gpt(piece, cache) for piece in pixels[:, :-1].split([half, 1, half - 2], 1)]
    torch.testing.assert_close(torch.cat(pieces, 1), expected, atol=1e-4, rtol=0)


@torch.no_grad()
def test_loss(peer, folder):
    """The peer's own loss lacks the last pixel: ours over the same ones is equal, and one over all exists."""
    gpt, pixels = load_imagegpt(folder), torch.randint(SOS, (1, peer.config.n_positions))
    read = started(pixels)
    logits = gpt(pixels[:, :-1])
    found = next_token_loss(logits[:, :-1], pixels[:, :-1])
    assert found.item() == pytest.approx(peer(read, labels=read).loss.item(), abs=1e-5)
    assert next_token_loss(logits, pixels).isfinite()


@torch.no_grad()
def test_greedy_pixels(peer, folder):
    """Greedy pixels from the start token are those of generate()."""
    whole = peer.generate(
        torch.full((2, 1), SOS), attention_mask=torch.ones(2, 1), max_length=41, do_sample=False
    )
    drawn = greedy(load_imagegpt(folder), 2, 40)
    assert torch.equal(drawn, whole[:, 1:])


def test_old_files_hold_masks(peer, folder):
    """Constants of old versions are passed over; other extra tensors are not."""
    expected, settings = load_imagegpt(folder).state_dict(), peer.config.to_dict()
    tensors = dict(peer.state_dict()) | {"transformer.h.0.attn.bias": torch.ones(1, 1, 4, 4)}
    tensors["transformer.h.0.attn.masked_bias"] = torch.tensor(-1e4)
    found = load_imagegpt(tensors, settings).state_dict()
    assert all(torch.equal(found[name], expected[name]) for name in expected)
    with pytest.raises(ValueError, match="extra transformer.h.0.attn.q_attn.weight"):
        load_imagegpt(tensors | {"transformer.h.0.attn.q_attn.weight": torch.ones(2)}, settings)


def test_the_head_has_a_row_less_than_the_table(peer):
    """Shapes are told as in the file: 513 rows in, 512 out."""
    tensors, settings = dict(peer.state_dict()), peer.config.to_dict()
    width = peer.config.n_embd
    tensors["transformer.wte.weight"] = torch.zeros(SOS, width)
    with pytest.raises(ValueError, match=rf"wte.weight \(512, {width}\) instead of \(513, {width}\)"):
        load_imagegpt(tensors, settings)
    with pytest.raises(ValueError, match="tie_word_embeddings is True"):
        imagegpt_config(settings | {"tie_word_embeddings": True})


def test_other_families_are_named(folder):
    """GPT-2's reader says that this is an ImageGPT."""
    with pytest.raises(ValueError, match="looks like an ImageGPT: use load_imagegpt"):
        load_gpt2(folder)


def test_classifiers_are_told(tmp_path):
    """A model that classifies has no head for pixels, and the message says so."""
    config = transformers.ImageGPTConfig(n_embd=16, n_layer=1, n_head=2, n_positions=4, num_labels=3)
    transformers.ImageGPTForImageClassification(config).save_pretrained(tmp_path)
    with pytest.raises(ValueError, match="that classifies, without a head for pixels"):
        load_imagegpt(tmp_path)
