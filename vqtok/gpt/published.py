"""Published weights: transformers' `LlamaForCausalLM`, the layout of LVM (Bai et al. 2023), read strictly.

Rows keep their order, since both sides pair the two halves of a head. Query, key and value matrices, and gate
and up matrices, are stacked into one each.
"""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from vqtok.gpt.config import GPTConfig
from vqtok.gpt.model import GPT
from vqtok.storage.tensors import check_tensors, read_tensors

WHOLE = {  # our name: theirs
    "embed.weight": "model.embed_tokens.weight",
    "norm.weight": "model.norm.weight",
    "head.weight": "lm_head.weight",
}
BLOCK = {  # our name inside blocks.{i}: the parts inside model.layers.{i} that are stacked in it
    "attention_norm.weight": ("input_layernorm.weight",),
    "attention.qkv.weight": ("self_attn.q_proj.weight", "self_attn.k_proj.weight", "self_attn.v_proj.weight"),
    "attention.out.weight": ("self_attn.o_proj.weight",),
    "mlp_norm.weight": ("post_attention_layernorm.weight",),
    "mlp.gate_up.weight": ("mlp.gate_proj.weight", "mlp.up_proj.weight"),
    "mlp.down.weight": ("mlp.down_proj.weight",),
}
IGNORED = "rotary_emb.inv_freq"  # a constant that old files hold
FIXED = {  # settings that LLaMA files may hold and we have only this way
    "hidden_act": "silu",
    "attention_bias": False,
    "mlp_bias": False,
    "tie_word_embeddings": False,
    "rope_scaling": None,
}


def load_llama(source: str | Path | Mapping[str, Tensor], config: GPTConfig | None = None) -> GPT:
    """A GPT with the weights of a `LlamaForCausalLM`, in evaluation mode, float32.

    Args:
        source: A folder with model.safetensors or its shards and their index, or the tensors by name.
        config: Shape of the model; None reads the folder's config.json.

    Raises:
        ValueError: naming the file that is missing or damaged, the setting that has no counterpart here, or
            the tensors that are missing, extra or mis-shaped.
    """
    if isinstance(source, (str, Path)):
        folder = Path(source)
        config = config or llama_config(_read_json(folder / "config.json"))
        tensors = _read_folder(folder)
    elif config is None:
        raise ValueError("tensors alone do not tell the number of heads: give config=GPTConfig(...) too")
    else:
        folder, tensors = "the state dict", source
    if config.period is not None:
        raise ValueError(f"period {config.period}: a LLaMA has no such embedding; leave it out of the config")
    with torch.random.fork_rng(devices=[]):  # loading draws nothing from the caller's random numbers
        gpt = GPT(config)
    parts = _parts(gpt)
    tensors = {name: tensor for name, tensor in tensors.items() if not name.endswith(IGNORED)}
    check_tensors(tensors, parts, folder)
    for name, part in parts.items():
        part.copy_(tensors[name])
    return gpt.eval()


def llama_config(settings: Mapping[str, Any]) -> GPTConfig:
    """The shape told by a `LlamaForCausalLM`'s config.json.

    Raises:
        ValueError: if a setting is missing, or has no counterpart here.
    """
    rope = settings.get("rope_parameters") or {}
    found = {**settings, "rope_scaling": settings.get("rope_scaling") or _scaling(rope)}
    for name, only in FIXED.items():
        if found.get(name, only) != only:
            raise ValueError(f"config.json: {name} is {found[name]!r}, but only {only!r} can be loaded")
    try:
        width, heads = settings["hidden_size"], settings["num_attention_heads"]
        shape = {"vocab": settings["vocab_size"], "hidden": settings["intermediate_size"]}
        shape |= {"depth": settings["num_hidden_layers"], "length": settings["max_position_embeddings"]}
    except KeyError as error:
        raise ValueError(f"config.json: {error} is missing: is this a LlamaForCausalLM?") from error
    head_width = settings.get("head_dim") or width // heads
    if head_width * heads != width:
        raise ValueError(f"config.json: head_dim {head_width} is not hidden_size {width} / {heads}")
    return GPTConfig(
        **shape,
        width=width,
        heads=heads,
        kv_heads=settings.get("num_key_value_heads"),
        rope_base=float(rope.get("rope_theta", settings.get("rope_theta", 10_000.0))),
        norm_eps=settings.get("rms_norm_eps", 1e-6),
    )


def _scaling(rope: Mapping[str, Any]) -> Mapping[str, Any] | None:
    """Newer files' rope settings, unless they are the plain kind that older ones leave out."""
    return None if rope.get("rope_type", "default") == "default" else rope


def _parts(gpt: GPT) -> dict[str, Tensor]:
    """Their tensors by name, as views of ours: writing one writes its rows of the stack it lies in."""
    weights, config = gpt.state_dict(), gpt.config
    heads = [count * config.head_width for count in (config.heads, config.key_heads, config.key_heads)]
    parts = {theirs: weights[ours] for ours, theirs in WHOLE.items()}
    for layer in range(config.depth):
        for ours, theirs in BLOCK.items():
            weight = weights[f"blocks.{layer}.{ours}"]
            rows = heads if len(theirs) == 3 else len(weight) // len(theirs)
            names = (f"model.layers.{layer}.{name}" for name in theirs)
            parts |= zip(names, weight.split(rows), strict=True)
    return parts


def _read_folder(folder: Path) -> dict[str, Tensor]:
    """The tensors of model.safetensors, or of the shards that its index names."""
    index = folder / "model.safetensors.index.json"
    if not index.is_file():
        return read_tensors(folder / "model.safetensors")
    tensors: dict[str, Tensor] = {}
    for shard in sorted(set(_read_json(index).get("weight_map", {}).values())):
        tensors |= read_tensors(folder / shard)
    return tensors


def _read_json(path: Path) -> dict[str, Any]:
    if not path.is_file():
        raise ValueError(f"{path} is missing: a published LLaMA is config.json and *.safetensors")
    try:
        return json.loads(path.read_bytes())
    except ValueError as error:
        raise ValueError(f"{path} is truncated or no JSON ({error}): copy it again") from error
