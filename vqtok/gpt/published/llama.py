"""transformers' `LlamaForCausalLM`, the layout of LVM (Bai et al. 2023): read, and written for others.

Rows keep their order, since both sides pair the two halves of a head. Query, key and value matrices, and gate
and up matrices, are stacked into one each.
"""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch

from vqtok.gpt.config import AttentionConfig, GPTConfig, HeadConfig
from vqtok.gpt.masks import CausalConfig
from vqtok.gpt.mlps import SwiGLUConfig
from vqtok.gpt.model import GPT
from vqtok.gpt.norms import RMSNormConfig
from vqtok.gpt.positions import RoPEConfig
from vqtok.gpt.published.files import Source, read_published
from vqtok.gpt.published.names import Names, check_family, filled, stacks_of
from vqtok.storage.folders import publish
from vqtok.storage.tensors import write_tensors

NAMES = Names(
    family="a LLaMA",
    layer="model.layers.{}.",
    whole={
        "embed.weight": "model.embed_tokens.weight",
        "norm.weight": "model.norm.weight",
        "head.weight": "lm_head.weight",
    },
    block={
        "attention_norm.weight": "input_layernorm.weight",
        "attention.qkv.weight": "self_attn.q_proj.weight + self_attn.k_proj.weight + self_attn.v_proj.weight",
        "attention.qkv.bias": "self_attn.q_proj.bias + self_attn.k_proj.bias + self_attn.v_proj.bias",
        "attention.out.weight": "self_attn.o_proj.weight",
        "attention.out.bias": "self_attn.o_proj.bias",
        "mlp_norm.weight": "post_attention_layernorm.weight",
        "mlp.gate_up.weight": "mlp.gate_proj.weight + mlp.up_proj.weight",
        "mlp.gate_up.bias": "mlp.gate_proj.bias + mlp.up_proj.bias",
        "mlp.down.weight": "mlp.down_proj.weight",
        "mlp.down.bias": "mlp.down_proj.bias",
    },
    ignored=r"rotary_emb\.inv_freq$",  # a constant that old files hold
)
FIXED = {"hidden_act": "silu", "rope_scaling": None}  # settings that we have only this way


def load_llama(source: Source, config: GPTConfig | None = None) -> GPT:
    """A GPT with the weights of a `LlamaForCausalLM`, in evaluation mode, float32.

    Args:
        source: A folder with config.json and weights, safetensors or .bin, in one file or in shards with
            their index; `owner/name` on the hub; or tensors by name.
        config: Shape of the model; None reads config.json.

    Raises:
        ValueError: naming the file that is missing or damaged, the setting that has no counterpart here, or
            the tensors that are missing, extra or mis-shaped.
    """
    published = read_published(source)
    check_family(NAMES, published)
    if config is None and not published.settings:
        raise ValueError("tensors alone do not tell the number of heads: give config=GPTConfig(...) too")
    config = config or llama_config(published.settings)
    _check(config, "this config")
    return filled(config, NAMES, published)


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
        norm=RMSNormConfig(eps=settings.get("rms_norm_eps", 1e-6)),
        mlp=SwiGLUConfig(bias=settings.get("mlp_bias", False)),
        positions=RoPEConfig(base=float(rope.get("rope_theta", settings.get("rope_theta", 10_000.0)))),
        attention=AttentionConfig(bias=settings.get("attention_bias", False)),
        head=HeadConfig(tied=settings.get("tie_word_embeddings", False)),
    )


def save_llama(
    gpt: GPT,
    folder: str | Path,
    dtype: torch.dtype | None = None,
    generation: Mapping[str, Any] | None = None,
) -> None:
    """Write `gpt` as a folder that transformers, vLLM and others read as a `LlamaForCausalLM`.

    Args:
        gpt: A model of LLaMA's architecture.
        folder: A new one, written whole or not at all.
        dtype: Keep weights as this type; None keeps theirs.
        generation: What generation_config.json shall say of drawing; None writes no such file.

    Raises:
        ValueError: if a part of the model has no counterpart in a LLaMA.
        FileExistsError: if there is such a folder.
    """
    _check(gpt.config, "this model")
    tensors = {name: torch.cat(stack.views) for name, stack in stacks_of(gpt, NAMES).items()}
    settings = _settings(gpt.config) | {"dtype": str(dtype or gpt.embed.weight.dtype).removeprefix("torch.")}
    with publish(folder) as place:
        write_tensors(place / "model.safetensors", tensors, dtype)
        (place / "config.json").write_text(json.dumps(settings, indent=2) + "\n")
        if generation is not None:
            (place / "generation_config.json").write_text(json.dumps(generation, indent=2) + "\n")


def _settings(config: GPTConfig) -> dict[str, Any]:
    """What a `LlamaForCausalLM`'s config.json says, in the words of old and new readers."""
    base = config.positions.base
    return {
        "architectures": ["LlamaForCausalLM"],
        "model_type": "llama",
        "vocab_size": config.vocab,
        "hidden_size": config.width,
        "intermediate_size": config.inner,
        "num_hidden_layers": config.depth,
        "num_attention_heads": config.heads,
        "num_key_value_heads": config.key_heads,
        "head_dim": config.head_width,
        "hidden_act": "silu",
        "max_position_embeddings": config.length,
        "rms_norm_eps": config.norm.eps,
        "rope_theta": base,
        "rope_parameters": {"rope_type": "default", "rope_theta": base},
        "attention_bias": config.attention.bias,
        "mlp_bias": config.mlp.bias,
        "tie_word_embeddings": config.head.tied,
        "bos_token_id": None,  # or else LLaMA's 1 and 2 would begin and end sequences
        "eos_token_id": None,
        "pad_token_id": None,
    }


def _scaling(rope: Mapping[str, Any]) -> Mapping[str, Any] | None:
    """Newer files' rope settings, unless they are the plain kind that older ones leave out."""
    return None if rope.get("rope_type", "default") == "default" else rope


def _check(config: GPTConfig, what: str) -> None:
    """Raise a ValueError naming the parts of a config that a LLaMA does not have."""
    kinds = {"norm": RMSNormConfig, "mlp": SwiGLUConfig, "positions": RoPEConfig}
    others = [f"{name} `{getattr(config, name).kind}`" for name, kind in kinds.items()
              if not isinstance(getattr(config, name), kind)]  # fmt: skip
    attention = config.attention
    others += [f"mask `{attention.mask.kind}`"] if not isinstance(attention.mask, CausalConfig) else []
    others += ["attention.qk_norm"] if attention.qk_norm else []
    others += [f"period {config.period}"] if config.period is not None else []
    others += [f"shifts {config.shifts}"] if config.shifts else []
    others += [f"prefix `{config.prefix.kind}`"] if config.prefix is not None else []
    others += ["head.ranges"] if config.head.ranges else []
    if others:
        raise ValueError(f"{what} has {', '.join(others)}, which no LLaMA has: keep it as a folder of ours")
