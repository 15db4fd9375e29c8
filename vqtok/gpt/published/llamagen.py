"""LlamaGen's class-conditional transformers (Sun et al. 2024), in the `.pt` files of its authors.

There, neighboring channels of a head turn together; here, the two halves do: rows of queries and keys change
their order. The class token's place has a table of zeros, so its query and key are zero: kept as it is, since
the weights were trained with it.
"""

import math
from typing import Any

import torch
from einops import rearrange

from vqtok.gpt.config import GPTConfig
from vqtok.gpt.model import GPT
from vqtok.gpt.norms import RMSNormConfig
from vqtok.gpt.positions import RoPE2DConfig
from vqtok.gpt.prefix import ClassesConfig
from vqtok.gpt.published.files import Published, Source, read_published
from vqtok.gpt.published.names import Names, check_family, filled

NAMES = Names(
    family="a LlamaGen",
    layer="layers.{}.",
    whole={
        "embed.weight": "tok_embeddings.weight",
        "prefix.table.weight": "cls_embedding.embedding_table.weight",
        "norm.weight": "norm.weight",
        "head.weight": "output.weight",
    },
    block={
        "attention_norm.weight": "attention_norm.weight",
        "attention.qkv.weight": "attention.wqkv.weight",
        "attention.out.weight": "attention.wo.weight",
        "mlp_norm.weight": "ffn_norm.weight",
        "mlp.gate_up.weight": "feed_forward.w1.weight + feed_forward.w3.weight",
        "mlp.down.weight": "feed_forward.w2.weight",
    },
    ignored=r"^freqs_cis$|\.kv_cache\.[kv]_cache$",  # tables, and what its sampler leaves in a state dict
)
HEADS = {  # of the published sizes, by depth and width
    (12, 768): 12,  # B
    (24, 1024): 16,  # L
    (36, 1280): 20,  # XL
    (48, 1536): 24,  # XXL
    (48, 2560): 40,  # XXXL
    (22, 2048): 32,  # 1B
    (24, 3200): 32,  # 3B
    (32, 4096): 32,  # 7B
}


def load_llamagen(source: Source, tokens: int | None = None, heads: int | None = None) -> GPT:
    """A GPT with the weights of a class-conditional LlamaGen, in evaluation mode, float32, without dropout.

    Args:
        source: The `.pt` file, or tensors by name.
        tokens: Of an image, such as 256 or 576; None reads it from the file, if that tells.
        heads: Of a size that was not published.

    Raises:
        ValueError: naming the file that is damaged or holds code, or the tensors that are missing, extra or
            mis-shaped; or if the number of tokens or heads cannot be told.
    """
    published = read_published(source, inside=("model", "module", "state_dict"))  # as its own sampler looks
    check_family(NAMES, published)
    gpt = filled(llamagen_config(published, tokens, heads), NAMES, published)
    _to_halves(gpt)
    return gpt


def llamagen_config(published: Published, tokens: int | None = None, heads: int | None = None) -> GPTConfig:
    """The shape told by the tensors of a LlamaGen, and by its training arguments if they are there.

    Raises:
        ValueError: if a tensor that tells is missing, or the number of tokens or heads cannot be told.
    """
    tensors = published.tensors
    told = ["tok_embeddings.weight", "cls_embedding.embedding_table.weight"]
    told += ["layers.0.feed_forward.w1.weight", "layers.0.attention.wqkv.weight"]
    for name in told:
        if name not in tensors:
            other = "; text-conditional ones cannot be read" if name.startswith("cls_") else ""
            raise ValueError(f"{published.where} is no class-conditional LlamaGen: missing {name}{other}")
    vocab, width = tensors[told[0]].shape
    depth = 1 + max(int(name.split(".")[1]) for name in tensors if name.startswith("layers."))
    heads = heads or HEADS.get((depth, width))
    if heads is None:
        raise ValueError(
            f"{published.where} has {depth} layers of width {width}, which is no published size: give heads="
        )
    tokens = tokens or _tokens(published.beside.get("args"))
    if tokens is None or math.isqrt(tokens) ** 2 != tokens:
        raise ValueError(
            f"{published.where} does not tell the tokens of a square image, got {tokens}: "
            "give tokens=256 for 16 x 16, tokens=576 for 24 x 24"
        )
    return GPTConfig(
        vocab=vocab,
        length=1 + tokens,
        width=width,
        depth=depth,
        heads=heads,
        kv_heads=_key_heads(len(tensors[told[3]]), width, heads),
        hidden=len(tensors[told[2]]),
        norm=RMSNormConfig(eps=1e-5),
        positions=RoPE2DConfig(columns=math.isqrt(tokens), before=1),
        prefix=ClassesConfig(classes=len(tensors[told[1]]) - 1),
    )


def _tokens(arguments: Any) -> int | None:
    """Of an image, as training arguments say in pixels a side and pixels a token."""
    size = getattr(arguments, "image_size", None)
    return (size // getattr(arguments, "downsample_size", 16)) ** 2 if size else None


def _key_heads(stacked: int, width: int, heads: int) -> int:
    """Of (heads + 2 key heads) x head width stacked rows."""
    return (stacked * heads // width - heads) // 2


@torch.no_grad()
def _to_halves(gpt: GPT) -> None:
    """Put rows of queries and keys in the order in which the halves of a head turn together."""
    config = gpt.config
    turned = (config.heads + config.key_heads) * config.head_width
    for block in gpt.blocks:
        rows = block.attention.qkv.weight[:turned]
        rows.copy_(rearrange(rows, "(n k two) d -> (n two k) d", n=config.heads + config.key_heads, two=2))
