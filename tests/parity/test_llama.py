"""GPT against transformers' Llama, read and written: the same weights, the same scores and greedy tokens."""

import json
import shutil

import pytest
import torch
import transformers
from safetensors.torch import load_file, save_file

from vqtok.gpt import GPT, GPTConfig, KVCache, Sampling, generate, next_token_loss
from vqtok.gpt.config import AttentionConfig, HeadConfig, RangeConfig
from vqtok.gpt.masks import FullConfig
from vqtok.gpt.mlps import GELUConfig, SwiGLUConfig
from vqtok.gpt.norms import LayerNormConfig, RMSNormConfig
from vqtok.gpt.positions import LearnedConfig, RoPEConfig
from vqtok.gpt.prefix import SOSConfig
from vqtok.gpt.published import llama_config, load_llama, save_llama

pytestmark = pytest.mark.peer

SHAPES = {
    "vqlm_debug with shared key heads": {
        "hidden_size": 128,
        "intermediate_size": 256,
        "num_hidden_layers": 2,
        "num_attention_heads": 4,
        "num_key_value_heads": 2,
    },
    "one layer of a quarter of vqlm_3b, head width 100": {
        "hidden_size": 800,
        "intermediate_size": 2160,
        "num_hidden_layers": 1,
        "num_attention_heads": 8,
        "rope_parameters": {"rope_type": "default", "rope_theta": 500.0},
        "rms_norm_eps": 1e-5,
    },
    "tied, biases everywhere, one key head": {
        "hidden_size": 64,
        "intermediate_size": 96,
        "num_hidden_layers": 2,
        "num_attention_heads": 4,
        "num_key_value_heads": 1,
        "attention_bias": True,
        "mlp_bias": True,
        "tie_word_embeddings": True,
        "initializer_range": 0.2,
    },
}


@pytest.fixture(params=SHAPES.values(), ids=SHAPES, scope="module")
def peer(request):
    """A random LlamaForCausalLM with weights large enough for attention to be far from uniform."""
    shape = {"vocab_size": 8292, "max_position_embeddings": 64, "initializer_range": 0.06} | request.param
    torch.manual_seed(0)
    config = transformers.LlamaConfig(**shape, bos_token_id=None, eos_token_id=None, pad_token_id=8192)
    model = transformers.LlamaForCausalLM(config).eval()
    with torch.no_grad():
        for name, weight in model.named_parameters():
            if weight.ndim == 1:  # gains are 1 and biases 0 by default, which would hide a mistake
                weight.normal_(float(name.endswith("norm.weight")), 0.1)
    return model


@pytest.fixture(scope="module")
def folder(peer, tmp_path_factory):
    """The peer, saved by transformers in one file."""
    place = tmp_path_factory.mktemp("llama")
    peer.save_pretrained(place)
    return place


@pytest.fixture
def small(tmp_path):
    """A folder with a very small Llama and its tensors, for tests that damage it."""
    shape = {"hidden_size": 16, "intermediate_size": 32, "num_hidden_layers": 1, "num_attention_heads": 2}
    transformers.LlamaForCausalLM(transformers.LlamaConfig(vocab_size=11, **shape)).save_pretrained(tmp_path)
    return tmp_path


@torch.no_grad()
def test_scores(peer, folder):
    """Logits are within 1e-4 at every position: float32 sums in another order, scores of size 1 and more."""
    gpt = load_llama(folder)
    ids = torch.randint(8292, (2, 64))
    expected = peer(ids).logits
    assert expected.std() > 0.5
    torch.testing.assert_close(gpt(ids), expected, atol=1e-4, rtol=0)
    cache = KVCache(gpt.config, batch=2)
    pieces = [gpt(piece, cache=cache) for piece in ids.split([20, 1, 33, 10], dim=1)]
    torch.testing.assert_close(torch.cat(pieces, 1), expected, atol=1e-4, rtol=0)


@torch.no_grad()
def test_greedy_tokens(peer, folder):
    """Greedy tokens are those of generate()."""
    ids = torch.randint(8192, (3, 24))
    whole = peer.generate(ids, attention_mask=torch.ones_like(ids), max_new_tokens=40, do_sample=False)
    drawn = generate(load_llama(folder), ids, 40, Sampling(temperature=0))
    assert torch.equal(drawn, whole[:, 24:])
    assert len(drawn.unique()) > 20 or peer.config.tie_word_embeddings  # such a model repeats itself


@torch.no_grad()
def test_loss(peer, folder):
    """The loss is that of labels=."""
    ids = torch.randint(8292, (2, 64))
    found = next_token_loss(load_llama(folder)(ids[:, :-1]), ids[:, 1:])
    assert found.item() == pytest.approx(peer(ids, labels=ids).loss.item(), abs=1e-5)


def test_pickles_and_their_shards(peer, folder, tmp_path):
    """pytorch_model.bin, and shards of it with their index, give the tensors of safetensors."""
    expected = load_llama(folder).state_dict()
    tensors = dict(peer.state_dict())
    whole, parts = tmp_path / "whole", tmp_path / "parts"
    for place in (whole, parts):
        place.mkdir()
        shutil.copy(folder / "config.json", place)
    torch.save(tensors, whole / "pytorch_model.bin")
    names = sorted(tensors)
    shards = {f"pytorch_model-{k + 1:05}-of-00003.bin": names[k::3] for k in range(3)}
    for shard, held in shards.items():
        torch.save({name: tensors[name].clone() for name in held}, parts / shard)
    index = {"weight_map": {name: shard for shard, held in shards.items() for name in held}}
    (parts / "pytorch_model.bin.index.json").write_text(json.dumps(index))
    for place in (whole, parts):
        found = load_llama(place).state_dict()
        assert list(found) == list(expected) and all(torch.equal(found[k], expected[k]) for k in found)


def test_shards_and_state_dicts(peer, folder, tmp_path):
    """One file, shards with their index and a state dict with old constants give the same tensors."""
    before = torch.get_rng_state()
    expected = load_llama(folder).state_dict()
    assert torch.equal(torch.get_rng_state(), before)  # loading draws nothing
    peer.save_pretrained(tmp_path, max_shard_size="2MB")
    assert len(list(tmp_path.glob("*.safetensors"))) > 1
    old = {**peer.state_dict(), "model.layers.0.self_attn.rotary_emb.inv_freq": torch.ones(3)}
    assert not peer.config.tie_word_embeddings or "lm_head.weight" in old
    for gpt in (load_llama(tmp_path), load_llama(old, llama_config(peer.config.to_dict()))):
        found = gpt.state_dict()
        assert list(found) == list(expected) and all(torch.equal(found[k], expected[k]) for k in found)


def test_wrong_tensors_are_named(small):
    """Missing, extra and mis-shaped tensors raise and are named as in their file."""
    tensors = load_file(small / "model.safetensors")
    del tensors["model.layers.0.self_attn.k_proj.weight"]
    tensors["model.layers.1.mlp.up_proj.weight"] = torch.zeros(32, 16)
    tensors["lm_head.weight"] = torch.zeros(12, 16)
    save_file(tensors, small / "model.safetensors")
    with pytest.raises(ValueError) as error:
        load_llama(small)
    for fault in ("missing model.layers.0.self_attn.k_proj", "extra model.layers.1.mlp.up_proj", "(12, 16)"):
        assert fault in str(error.value)


@pytest.mark.parametrize(
    ("setting", "value"),
    [
        ("hidden_act", "gelu"),
        ("head_dim", 10),
        ("rope_scaling", {"rope_type": "linear", "factor": 2.0}),
        ("rope_parameters", {"rope_type": "linear", "factor": 2.0, "rope_theta": 1e4}),
        ("hidden_size", None),
    ],
)
def test_other_architectures_are_refused(small, setting, value):
    """What we have no counterpart for raises and is named, rather than being computed otherwise."""
    settings = json.loads((small / "config.json").read_text())
    settings[setting] = value
    name = {"rope_parameters": "rope_scaling"}.get(setting, setting)
    with pytest.raises(ValueError, match=name):
        llama_config({k: v for k, v in settings.items() if v is not None})


def test_older_settings_are_read():
    """Without key heads, rope settings or epsilon, transformers' defaults of old files hold."""
    settings = {"vocab_size": 8292, "hidden_size": 640, "intermediate_size": 1664, "num_hidden_layers": 22}
    config = llama_config(settings | {"num_attention_heads": 10, "max_position_embeddings": 4096})
    assert (config.positions, config.norm) == (RoPEConfig(base=10_000.0), RMSNormConfig(eps=1e-6))
    assert (config.key_heads, config.inner) == (10, 1664)
    assert config.parameters / 1e6 == pytest.approx(117.0, rel=1e-3)


def test_damaged_files_are_named(small):
    """A truncated shard, a missing one, a missing or broken config.json: the file is named."""
    whole = (small / "model.safetensors").read_bytes()
    (small / "model.safetensors").write_bytes(whole[:-100])
    with pytest.raises(ValueError, match="model.safetensors is truncated"):
        load_llama(small)
    index = {"weight_map": {"lm_head.weight": "model-00001-of-00001.safetensors"}}
    (small / "model.safetensors.index.json").write_text(json.dumps(index))
    with pytest.raises(ValueError, match="model-00001-of-00001.safetensors is missing"):
        load_llama(small)
    (small / "config.json").write_text("{")
    with pytest.raises(ValueError, match="config.json is truncated"):
        load_llama(small)
    shutil.rmtree(small)
    with pytest.raises(ValueError, match="config.json is missing"):
        load_llama(small)


def test_mistakes_are_refused(small):
    """A state dict without a shape, and a shape with an embedding that no Llama has."""
    with pytest.raises(ValueError, match="give config="):
        load_llama(load_file(small / "model.safetensors"))
    config = llama_config(json.loads((small / "config.json").read_text()))
    with pytest.raises(ValueError, match="period 4"):
        load_llama(small, type(config)(**vars(config) | {"period": 4}))


@torch.no_grad()
def test_written_folders_are_read_by_transformers(peer, folder, tmp_path):
    """A Llama that was read, written and read by transformers has its tensors and its scores."""
    gpt, ids = load_llama(folder), torch.randint(8292, (2, 40))
    save_llama(gpt, tmp_path / "ours")
    again = transformers.LlamaForCausalLM.from_pretrained(tmp_path / "ours").eval()
    torch.testing.assert_close(again(ids).logits, peer(ids).logits, atol=1e-6, rtol=0)
    for name, tensor in peer.state_dict().items():
        assert torch.equal(again.state_dict()[name], tensor), name
    assert torch.equal(load_llama(tmp_path / "ours")(ids), gpt(ids))


@torch.no_grad()
def test_our_own_models_are_served_by_transformers(tmp_path):
    """A GPT that was never theirs: scores within 1e-4, greedy tokens equal, none taken for the end."""
    torch.manual_seed(1)
    shape = {"vocab": 60, "length": 48, "width": 32, "depth": 2, "heads": 4, "kv_heads": 2}
    gpt = GPT(GPTConfig(**shape, positions=RoPEConfig(base=99.0))).eval()
    for weight in gpt.parameters():
        weight.mul_(8) if weight.ndim == 2 else weight.uniform_(0.5, 1.5)
    save_llama(gpt, tmp_path / "ours")
    peer = transformers.AutoModelForCausalLM.from_pretrained(tmp_path / "ours").eval()
    ids = torch.randint(60, (3, 8))
    torch.testing.assert_close(peer(ids).logits, gpt(ids), atol=1e-4, rtol=0)
    drawn = peer.generate(ids, attention_mask=torch.ones_like(ids), max_new_tokens=40, do_sample=False)
    assert torch.equal(drawn[:, 8:], generate(gpt, ids, 40, Sampling(temperature=0)))
    save_llama(gpt, tmp_path / "half", dtype=torch.bfloat16)
    half = transformers.AutoModelForCausalLM.from_pretrained(tmp_path / "half")
    assert half.dtype == torch.bfloat16


@pytest.mark.parametrize(
    ("parts", "named"),
    [
        ({"norm": LayerNormConfig()}, "norm `layer`"),
        ({"mlp": GELUConfig()}, "mlp `gelu`"),
        ({"positions": LearnedConfig()}, "positions `learned`"),
        ({"attention": AttentionConfig(mask=FullConfig(), qk_norm=True)}, "mask `full`, attention.qk_norm"),
        ({"period": 4}, "period 4"),
        ({"prefix": SOSConfig()}, "prefix `sos`"),
        ({"head": HeadConfig(ranges=(RangeConfig(start=0, low=0, high=3),))}, "head.ranges"),
    ],
)
def test_what_no_llama_has_is_not_written(parts, named, tmp_path):
    """The parts are named and nothing is written."""
    shape = {"vocab": 11, "length": 12, "width": 32, "depth": 1, "heads": 4, "mlp": SwiGLUConfig()}
    with pytest.raises(ValueError, match=f"this model has .*{named}.*, which no LLaMA has"):
        save_llama(GPT(GPTConfig(**shape | parts)), tmp_path / "ours")
    assert not list(tmp_path.iterdir())


def test_a_folder_that_is_there_is_not_replaced(tmp_path):
    """Writing is whole or not at all, and never over something."""
    gpt = GPT(GPTConfig(vocab=11, length=12, width=32, depth=1, heads=4))
    (tmp_path / "kept").write_text("mine")
    with pytest.raises(FileExistsError):
        save_llama(gpt, tmp_path)
    assert (tmp_path / "kept").read_text() == "mine"
