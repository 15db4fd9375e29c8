"""Published LVMs against transformers' Llama, of every container; and ours, drawn by transformers."""

import json
import pickle
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
import transformers
from einops import rearrange
from safetensors.torch import save_file

from lvm.generate import answers
from lvm.layout import BareConfig, MarkedConfig
from lvm.model import LVM, LVMConfig
from lvm.published import export_llama, load_lvm
from vqtok.gpt import GPTConfig, Sampling
from vqtok.gpt.published.llama import NAMES as LLAMA
from vqtok.gpt.published.names import stacks_of
from vqtok.tokenizers.autoencoder import AutoencoderConfig
from vqtok.tokenizers.quantizers.vq import VQConfig
from vqtok.tokenizers.tokenizer import TokenizerConfig, VQTokenizer

pytestmark = pytest.mark.peer

SHAPES = {
    "debug": {"hidden_size": 128, "intermediate_size": 256, "num_hidden_layers": 2, "num_attention_heads": 4},
    "one layer of a quarter of 3b, head width 100": {
        "hidden_size": 800,
        "intermediate_size": 2160,
        "num_hidden_layers": 1,
        "num_attention_heads": 8,
    },
}
TOKENS = 16
NAMES = {
    "self_attn.q_proj": "attention.wq",
    "self_attn.k_proj": "attention.wk",
    "self_attn.v_proj": "attention.wv",
    "self_attn.o_proj": "attention.wo",
    "mlp.gate_proj": "feed_forward.w1",
    "mlp.down_proj": "feed_forward.w2",
    "mlp.up_proj": "feed_forward.w3",
    "input_layernorm": "attention_norm",
    "post_attention_layernorm": "ffn_norm",
}


@pytest.fixture(scope="module")
def tokenizer(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A small one with as many codes as LVM's, saved."""
    autoencoder = AutoencoderConfig(channels=8, multipliers=(1, 1), blocks=1, latent=4, groups=4, patch=8)
    torch.manual_seed(0)
    quantizer = VQConfig(codes=8192, width=4)
    model = VQTokenizer(TokenizerConfig(size=64, autoencoder=autoencoder, quantizer=quantizer))
    folder = tmp_path_factory.mktemp("lvm") / "tokenizer"
    model.save_pretrained(folder)
    return folder


@pytest.fixture(params=SHAPES.values(), ids=SHAPES, scope="module")
def peer(request: pytest.FixtureRequest) -> transformers.LlamaForCausalLM:
    """Random, lively, with LVM's constants, and the begin and end that transformers takes by default."""
    shape = {"vocab_size": 8292, "max_position_embeddings": 4096, "initializer_range": 0.06} | request.param
    torch.manual_seed(0)
    config = transformers.LlamaConfig(**shape, rms_norm_eps=1e-6, bos_token_id=1, eos_token_id=2)
    model = transformers.LlamaForCausalLM(config).eval()
    with torch.no_grad():
        for weight in model.parameters():
            if weight.ndim == 1:  # gains are 1 by default, which would hide a mistake
                weight.normal_(1.0, 0.1)
    return model


def easylm(peer: transformers.LlamaForCausalLM) -> dict[str, np.ndarray]:
    """Its weights as EasyLM has them: matrices (in, out), channels of a head in pairs."""
    arrays = {}
    for name, tensor in peer.state_dict().items():
        part = name.removesuffix(".weight")
        if part.startswith("model.layers."):
            layer, inside = part.removeprefix("model.layers.").split(".", 1)
            part = f"transformer.h.{layer}.{NAMES[inside]}.kernel"
            if inside in ("self_attn.q_proj", "self_attn.k_proj"):
                heads = peer.config.num_attention_heads
                tensor = rearrange(tensor, "(n two k) d -> (n k two) d", n=heads, two=2)
        else:
            whole = {
                "model.embed_tokens": "transformer.wte.embedding",
                "model.norm": "transformer.ln_f.kernel",
            }
            part = whole.get(part, "lm_head.kernel")
        turned = tensor.T if tensor.ndim == 2 and part.endswith("kernel") else tensor
        arrays[part] = turned.contiguous().numpy()
    return arrays


@torch.no_grad()
def check(found: LVM, peer: transformers.LlamaForCausalLM) -> None:
    """Scores are within 1e-4 at every place: float32 sums in another order, scores of size 1 and more."""
    ids = torch.randint(8292, (2, 48))
    expected = peer(ids).logits
    assert expected.std() > 0.5 and not found.training
    torch.testing.assert_close(found.gpt(ids), expected, atol=1e-4, rtol=0)


@pytest.mark.parametrize("shard", ["1GB", "2MB"])
def test_transformers_folders(
    shard: str, peer: transformers.LlamaForCausalLM, tokenizer: Path, tmp_path: Path
):
    """safetensors in one file or in shards give the peer's scores, and its greedy codes."""
    peer.save_pretrained(tmp_path, max_shard_size=shard)
    assert (tmp_path / "model.safetensors").exists() == (shard == "1GB")
    model = load_lvm(tmp_path, tokenizer)
    check(model, peer)
    images = torch.randint(8192, (2, 3, TOKENS))
    drawn = answers(model.gpt, model.layout, images, Sampling(temperature=0.0))
    prompt = images.flatten(1)
    theirs = peer.generate(
        prompt,
        attention_mask=torch.ones_like(prompt),
        max_new_tokens=TOKENS,
        do_sample=False,
        eos_token_id=None,
        suppress_tokens=[*range(8192, 8292)],
    )
    assert torch.equal(drawn, theirs[:, -TOKENS:])


def test_shards_of_pickles(peer: transformers.LlamaForCausalLM, tokenizer: Path, tmp_path: Path):
    """.bin shards with their index, as EasyLM's converter of 2023 wrote them, in half precision."""
    tensors = {name: tensor.half() for name, tensor in peer.state_dict().items()}
    names = {f"pytorch_model-{part + 1:05}-of-00002.bin": sorted(tensors)[part::2] for part in range(2)}
    for shard, held in names.items():
        torch.save({name: tensors[name] for name in held}, tmp_path / shard)
    index = {"weight_map": {name: shard for shard, held in names.items() for name in held}}
    (tmp_path / "pytorch_model.bin.index.json").write_text(json.dumps(index))
    peer.config.save_pretrained(tmp_path)
    gpt = load_lvm(tmp_path, tokenizer).gpt
    assert gpt.embed.weight.dtype == torch.float32
    for name, stack in stacks_of(gpt, LLAMA).items():
        assert torch.equal(torch.cat(stack.views), tensors[name].float()), name


def test_files_without_settings(peer: transformers.LlamaForCausalLM, tokenizer: Path, tmp_path: Path):
    """.bin and safetensors alone tell all but the heads, which a named size knows; constants do no harm."""
    tensors = {name: tensor.clone() for name, tensor in peer.state_dict().items()}
    heads = peer.config.num_attention_heads
    save_file(tensors, tmp_path / "lvm.safetensors")
    torch.save(
        tensors | {"model.layers.0.self_attn.rotary_emb.inv_freq": torch.ones(3)}, tmp_path / "lvm.bin"
    )
    for name in ("lvm.safetensors", "lvm.bin"):
        check(load_lvm(tmp_path / name, tokenizer, heads), peer)
    if heads == 4:
        check(load_lvm(tmp_path / "lvm.bin", tokenizer), peer)
    else:
        with pytest.raises(ValueError, match="1 layers of width 800, which is no named size: give heads="):
            load_lvm(tmp_path / "lvm.bin", tokenizer)


@pytest.mark.parametrize("form", ["stream", "state of training", "tree", "pickle"])
def test_easylm(
    form: str, peer: transformers.LlamaForCausalLM, tokenizer: Path, write_flax: Callable, tmp_path: Path
):
    """EasyLM's streams, states of training, Flax trees and pickles give the scores of what they hold."""
    arrays, path = easylm(peer), tmp_path / "streaming_params"
    if form == "pickle":
        path = path.with_suffix(".pkl")
        path.write_bytes(pickle.dumps({tuple(name.split(".")): array for name, array in arrays.items()}))
    elif form == "state of training":
        state = {f"params.params.{name}": array for name, array in arrays.items()}
        moments = {f"opt_state.0.mu.params.{name}": array[:1] for name, array in arrays.items()}
        write_flax(path, {"step": np.array(3)} | state | moments)
    else:
        nested = {f"params.{name}": array for name, array in arrays.items()} if form == "tree" else arrays
        write_flax(path, nested, stream=form == "stream")
    check(load_lvm(path, tokenizer, heads=peer.config.num_attention_heads), peer)


@torch.no_grad()
@pytest.mark.parametrize("bare", [True, False])
def test_ours_are_drawn_by_transformers(bare: bool, tokenizer: Path, tmp_path: Path):
    """Scores are ours, and `generate` draws whole images of codes, though it would rather have other ids."""
    images = VQTokenizer.from_pretrained(tokenizer)
    layout = BareConfig() if bare else MarkedConfig()
    shape = {"vocab": 8292 if bare else 8195, "length": 128, "width": 32, "depth": 1, "heads": 2}
    model = LVM(LVMConfig(tokenizer=images.config, gpt=GPTConfig(**shape), layout=layout)).eval()
    for weight in model.gpt.parameters():
        weight.mul_(8) if weight.ndim == 2 else weight.uniform_(0.5, 1.5)
    model.gpt.head.weight[8192:] *= 100  # ids above the codes would win every second draw
    model.gpt.head.weight[2] *= 3  # a code that transformers takes for the end by default
    export_llama(model, tmp_path / "theirs")
    peer = transformers.AutoModelForCausalLM.from_pretrained(tmp_path / "theirs").eval()
    shown = torch.randint(8192, (3, 3, TOKENS))
    prompt = model.layout.prompt(shown)
    torch.testing.assert_close(peer(prompt).logits, model.gpt(prompt), atol=1e-3, rtol=1e-5)  # up to 1000
    drawn = peer.generate(
        prompt, attention_mask=torch.ones_like(prompt), max_new_tokens=TOKENS, do_sample=False
    )
    found = drawn[:, prompt.shape[1] :]
    assert found.shape == (3, TOKENS) and int(found.max()) < 8192
    assert torch.equal(found, answers(model.gpt, model.layout, shown, Sampling(temperature=0.0)))
    again = load_lvm(tmp_path / "theirs", tokenizer) if bare else None
    assert again is None or torch.equal(again.gpt(prompt), model.gpt(prompt))


def test_what_no_llama_has_is_not_written(tokenizer: Path, tmp_path: Path):
    """The embedding of places in an image, which the recipes here set, has no counterpart."""
    config = VQTokenizer.from_pretrained(tokenizer).config
    gpt = GPTConfig(vocab=8195, length=66, width=16, depth=1, heads=2, period=32)
    with pytest.raises(ValueError, match="period 32, which no LLaMA has: keep it as a folder of ours"):
        export_llama(LVM(LVMConfig(tokenizer=config, gpt=gpt)), tmp_path / "theirs")
    assert not list(tmp_path.iterdir())
