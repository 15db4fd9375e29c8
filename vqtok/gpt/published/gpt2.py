"""transformers' `GPT2LMHeadModel` (Radford et al. 2019), and what ImageGPT's port has in common with it.

Matrices lie the other way round there, (in, out), and queries, keys and values in one, as here.
"""

import math
from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import torch

from vqtok.gpt.config import AttentionConfig, GPTConfig, HeadConfig
from vqtok.gpt.mlps import GELUConfig, MLPConfig, QuickGELUConfig
from vqtok.gpt.model import GPT
from vqtok.gpt.norms import LayerNormConfig
from vqtok.gpt.positions import LearnedConfig
from vqtok.gpt.published.files import Published, Source, read_published
from vqtok.gpt.published.names import Names, check_family, filled

BENDS: dict[str, MLPConfig] = {
    "gelu_new": GELUConfig(),
    "gelu_pytorch_tanh": GELUConfig(),
    "gelu": GELUConfig(approximate="none"),
    "quick_gelu": QuickGELUConfig(),
}
BLOCK = {  # ours: theirs, ImageGPT's too
    "attention_norm.weight": "ln_1.weight",
    "attention.qkv.weight": "attn.c_attn.weight",
    "attention.qkv.bias": "attn.c_attn.bias",
    "attention.out.weight": "attn.c_proj.weight",
    "attention.out.bias": "attn.c_proj.bias",
    "mlp_norm.weight": "ln_2.weight",
    "mlp.up.weight": "mlp.c_fc.weight",
    "mlp.up.bias": "mlp.c_fc.bias",
    "mlp.down.weight": "mlp.c_proj.weight",
    "mlp.down.bias": "mlp.c_proj.bias",
}
IGNORED = r"\.attn\.(masked_)?bias$"  # the causal mask, which old files hold
NAMES = Names(
    family="a GPT-2",
    layer="transformer.h.{}.",
    whole={
        "embed.weight": "transformer.wte.weight",
        "positions.weight": "transformer.wpe.weight",
        "norm.weight": "transformer.ln_f.weight",
        "norm.bias": "transformer.ln_f.bias",
        "head.weight": "lm_head.weight",
    },
    block=BLOCK | {"attention_norm.bias": "ln_1.bias", "mlp_norm.bias": "ln_2.bias"},
    transposed=True,
    ignored=IGNORED,
)


def load_gpt2(source: Source, settings: Mapping[str, Any] | None = None) -> GPT:
    """A GPT with the weights of a `GPT2LMHeadModel`, in evaluation mode, float32, without dropout.

    Args:
        source: A folder with config.json and weights, safetensors or .bin, in one file or in shards with
            their index; `owner/name` on the hub; or tensors by name.
        settings: What config.json says; None reads it.

    Raises:
        ValueError: naming the file that is missing or damaged, the setting that has no counterpart here, or
            the tensors that are missing, extra or mis-shaped.
    """
    published = read_published(source)
    check_family(NAMES, published)
    settings = settings_of(published, settings)
    return rescaled(filled(gpt2_config(settings), NAMES, _whole(published)), settings)


def gpt2_config(settings: Mapping[str, Any]) -> GPTConfig:
    """The shape told by a `GPT2LMHeadModel`'s config.json.

    Raises:
        ValueError: if a setting is missing, or has no counterpart here.
    """
    bend = settings.get("activation_function", "gelu_new")
    if bend not in BENDS:
        raise ValueError(f"config.json: activation_function is {bend!r}, expected one of {', '.join(BENDS)}")
    if settings.get("add_cross_attention"):
        raise ValueError("config.json: add_cross_attention is True, but there is no other model to attend to")
    try:
        return GPTConfig(
            vocab=settings["vocab_size"],
            length=settings["n_positions"],
            width=settings["n_embd"],
            depth=settings["n_layer"],
            heads=settings["n_head"],
            hidden=settings.get("n_inner"),
            norm=LayerNormConfig(eps=settings.get("layer_norm_epsilon", 1e-5)),
            mlp=BENDS[bend],
            positions=LearnedConfig(),
            attention=AttentionConfig(bias=True),
            head=HeadConfig(tied=settings.get("tie_word_embeddings", True)),
        )
    except KeyError as error:
        raise ValueError(f"config.json: {error} is missing: is this a GPT-2 or an ImageGPT?") from error


def settings_of(published: Published, settings: Mapping[str, Any] | None) -> Mapping[str, Any]:
    """The given settings, or else those found.

    Raises:
        ValueError: if there are none.
    """
    if settings is None and not published.settings:
        raise ValueError("tensors alone do not tell the number of heads: give settings={'n_head': ...} too")
    return published.settings if settings is None else settings


@torch.no_grad()
def rescaled(gpt: GPT, settings: Mapping[str, Any]) -> GPT:
    """`gpt` with queries scaled as two settings of these files ask for, which we have no settings for."""
    config = gpt.config
    width = config.heads * config.head_width
    plain = 1.0 if settings.get("scale_attn_weights", True) else math.sqrt(config.head_width)
    for layer, block in enumerate(gpt.blocks):
        factor = plain / (layer + 1) if settings.get("scale_attn_by_inverse_layer_idx", False) else plain
        if factor != 1:
            block.attention.qkv.weight[:width] *= factor
            block.attention.qkv.bias[:width] *= factor
    return gpt


def _whole(published: Published) -> Published:
    """With the names of the whole model, which OpenAI's own files on the hub leave out."""
    if any(name.startswith("transformer.") for name in published.tensors):
        return published
    tensors = {
        name if name.startswith("lm_head.") else f"transformer.{name}": tensor
        for name, tensor in published.tensors.items()
    }
    return replace(published, tensors=tensors)
