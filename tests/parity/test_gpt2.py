"""GPT against transformers' GPT-2: the same weights and ids give the same scores, loss and greedy tokens."""

import json
import shutil

import pytest
import torch
import transformers
from safetensors.torch import load_file, save_file

from vqtok.gpt import KVCache, Sampling, generate, next_token_loss
from vqtok.gpt.published import gpt2_config, load_gpt2, load_imagegpt, load_llama

pytestmark = pytest.mark.peer

SHAPES = {
    "GPT-2": {"n_embd": 64, "n_layer": 3, "n_head": 4},
    "scores scaled by the layer": {
        "n_embd": 48,
        "n_layer": 3,
        "n_head": 4,
        "scale_attn_by_inverse_layer_idx": True,
    },
    "scores not scaled, untied, exact GELU": {
        "n_embd": 32,
        "n_layer": 2,
        "n_head": 4,
        "n_inner": 72,
        "scale_attn_weights": False,
        "tie_word_embeddings": False,
        "activation_function": "gelu",
    },
}


@pytest.fixture(params=SHAPES.values(), ids=SHAPES, scope="module")
def peer(request):
    """A random GPT2LMHeadModel with weights large enough for attention to be far from uniform."""
    shape = {"vocab_size": 301, "n_positions": 64, "initializer_range": 0.1} | request.param
    torch.manual_seed(0)
    config = transformers.GPT2Config(
        **shape, bos_token_id=None, eos_token_id=None, attn_implementation="eager"
    )
    model = transformers.GPT2LMHeadModel(config).eval()
    with torch.no_grad():
        for name, weight in model.named_parameters():
            if weight.ndim == 1:  # gains are 1 and biases 0 by default, which would hide a mistake
                weight.normal_(float("ln_" in name and name.endswith("weight")), 0.1)
    return model


@pytest.fixture(scope="module")
def folder(peer, tmp_path_factory):
    """The peer, saved by transformers in one file."""
    place = tmp_path_factory.mktemp("gpt2")
    peer.save_pretrained(place)
    return place


@torch.no_grad()
def test_scores_and_loss(peer, folder):
    """Logits are within 1e-4 at every position, cached or not, and the loss is that of labels=."""
    gpt, ids = load_gpt2(folder), torch.randint(301, (2, 64))
    expected = peer(ids, labels=ids)
    assert expected.logits.std() > 0.3
    torch.testing.assert_close(gpt(ids), expected.logits, atol=1e-4, rtol=0)
    cache = KVCache(gpt.config, batch=2)
    pieces = [gpt(piece, cache=cache) for piece in ids.split([20, 1, 33, 10], dim=1)]
    torch.testing.assert_close(torch.cat(pieces, 1), expected.logits, atol=1e-4, rtol=0)
    found = next_token_loss(gpt(ids[:, :-1]), ids[:, 1:])
    assert found.item() == pytest.approx(expected.loss.item(), abs=1e-5)


@torch.no_grad()
def test_greedy_tokens(peer, folder):
    """Greedy tokens are those of generate()."""
    ids = torch.randint(301, (3, 24))
    mask = torch.ones_like(ids)
    whole = peer.generate(ids, attention_mask=mask, max_new_tokens=40, do_sample=False, pad_token_id=0)
    drawn = generate(load_gpt2(folder), ids, 40, Sampling(temperature=0))
    assert torch.equal(drawn, whole[:, 24:])


def test_old_files(peer, folder, tmp_path):
    """A pickle with the masks of old versions, and without the name of the whole, gives the same tensors."""
    expected = load_gpt2(folder).state_dict()
    old = {name.removeprefix("transformer."): tensor for name, tensor in peer.state_dict().items()}
    old |= {"h.0.attn.bias": torch.ones(1, 1, 64, 64), "h.1.attn.masked_bias": torch.tensor(-1e4)}
    torch.save(old, tmp_path / "pytorch_model.bin")
    shutil.copy(folder / "config.json", tmp_path)
    for source in (tmp_path, old):
        settings = None if source is tmp_path else peer.config.to_dict()
        found = load_gpt2(source, settings).state_dict()
        assert list(found) == list(expected) and all(torch.equal(found[k], expected[k]) for k in found)


def test_wrong_tensors_are_named(folder, tmp_path):
    """Missing, extra and mis-shaped tensors raise and are named as in their file."""
    shutil.copy(folder / "config.json", tmp_path)
    tensors = load_file(folder / "model.safetensors")
    del tensors["transformer.h.1.attn.c_attn.bias"]
    tensors["transformer.h.7.ln_1.weight"] = torch.zeros(3)
    tensors["transformer.h.0.mlp.c_fc.weight"] = tensors["transformer.h.0.mlp.c_fc.weight"].T.contiguous()
    save_file(tensors, tmp_path / "model.safetensors")
    with pytest.raises(ValueError) as error:
        load_gpt2(tmp_path)
    faults = ("missing transformer.h.1.attn.c_attn.bias", "extra transformer.h.7.ln_1", "mis-shaped transf")
    assert all(fault in str(error.value) for fault in faults)


def test_a_head_that_should_be_tied_and_is_not(peer, folder):
    """It is not silently dropped."""
    tensors = dict(peer.state_dict())
    if not peer.config.tie_word_embeddings:
        tensors["lm_head.weight"] = tensors["lm_head.weight"].clone()
    tensors["lm_head.weight"] = tensors["lm_head.weight"] + 1
    settings = peer.config.to_dict() | {"tie_word_embeddings": True}
    with pytest.raises(ValueError, match="lm_head.weight is not transformer.wte.weight"):
        load_gpt2(tensors, settings)


def test_other_families_are_named(folder):
    """What reads another family says which one this is."""
    for load in (load_llama, load_imagegpt):
        with pytest.raises(ValueError, match="looks like a GPT-2: use load_gpt2"):
            load(folder)


@pytest.mark.parametrize(
    ("setting", "value", "message"),
    [
        ("activation_function", "relu", "activation_function is 'relu', expected one of gelu_new"),
        ("add_cross_attention", True, "add_cross_attention is True"),
        ("n_layer", None, "'n_layer' is missing: is this a GPT-2"),
    ],
)
def test_other_architectures_are_refused(folder, setting, value, message):
    """What we have no counterpart for raises and is named, rather than being computed otherwise."""
    settings = json.loads((folder / "config.json").read_text()) | {setting: value}
    with pytest.raises(ValueError, match=message):
        gpt2_config({name: value for name, value in settings.items() if value is not None})


def test_tensors_alone_do_not_do(peer):
    """The number of heads is in no tensor."""
    with pytest.raises(ValueError, match="give settings="):
        load_gpt2(peer.state_dict())
