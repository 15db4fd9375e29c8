"""minDALL-E's transformer (Kim et al. 2021, github.com/kakaobrain/minDALL-E) under our names, and back.

It keeps text and image apart: a table of tokens, one of positions and a head of each. Here they are one of
each, text first: id i of its image vocabulary is id i + (text ids) here, its image place p is place p + (text
places) of the stream. No start token: the first text token is given, the last one's place scores the first of
the image. Its captions always fill all text places, [PAD] being an id like others.

The file is stage2_last.ckpt of the archive; stage1_last.ckpt is a taming VQGAN, for `vqtok.load_tokenizer`.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import fields, replace

import torch
from torch import Tensor

from vqtok.gpt.config import AttentionConfig, GPTConfig, HeadConfig, RangeConfig
from vqtok.gpt.mlps import GELUConfig
from vqtok.gpt.model import GPT
from vqtok.gpt.norms import LayerNormConfig
from vqtok.gpt.positions import LearnedConfig
from vqtok.gpt.published.files import Source, read_published
from vqtok.gpt.published.names import Names, check_family
from vqtok.storage.tensors import check_tensors

NAMES = Names(
    family="a minDALL-E",
    layer="blocks.{}.",
    whole={
        "embed.weight": "tok_emb_txt.weight + tok_emb_img.weight",
        "positions.weight": "pos_emb_txt.weight + pos_emb_img.weight",
        "norm.weight": "ln_f.weight",
        "norm.bias": "ln_f.bias",
        "head.weight": "head_txt.weight + head_img.weight",
    },
    block={
        "attention_norm.weight": "ln1.weight",
        "attention_norm.bias": "ln1.bias",
        "attention.qkv.weight": "attn.query.weight + attn.key.weight + attn.value.weight",
        "attention.qkv.bias": "attn.query.bias + attn.key.bias + attn.value.bias",
        "attention.out.weight": "attn.proj.weight",
        "attention.out.bias": "attn.proj.bias",
        "mlp_norm.weight": "ln2.weight",
        "mlp_norm.bias": "ln2.bias",
        "mlp.up.weight": "mlp.0.weight",
        "mlp.up.bias": "mlp.0.bias",
        "mlp.down.weight": "mlp.2.weight",
        "mlp.down.bias": "mlp.2.bias",
    },
)
TABLES = ("tok_emb_txt.weight", "tok_emb_img.weight", "pos_emb_txt.weight", "pos_emb_img.weight")
HEADS = {(42, 1536): 24}  # of the published size, by depth and width


def load_mindalle(source: Source, heads: int | None = None) -> GPT:
    """A GPT with the weights of a minDALL-E, in evaluation mode, float32, without dropout.

    Args:
        source: stage2_last.ckpt, a file with the same tensors, or tensors by name.
        heads: Of attention, for a size that was not published.

    Raises:
        ValueError: naming the file that is damaged or holds code, or the tensors that are missing, extra or
            mis-shaped; or if the number of heads cannot be told.
    """
    published = read_published(source)
    check_family(NAMES, published)
    config, tensors = read(published.tensors, heads, published.where)
    with torch.random.fork_rng(devices=[]):  # loading draws nothing from the caller's random numbers
        gpt = GPT(config)
    gpt.load_state_dict(tensors)
    return gpt.eval()


def read(
    state: Mapping[str, Tensor], heads: int | None = None, where: str = "the state dict"
) -> tuple[GPTConfig, dict[str, Tensor]]:
    """The shape that tensors of a minDALL-E tell, and these tensors under our names.

    Args:
        state: By their names.
        heads: Of attention, for a size that was not published.
        where: Name of the file, for errors.

    Raises:
        ValueError: naming the tensors that are missing, extra or mis-shaped; or if the number of heads cannot
            be told.
    """
    config = _config_of(state, heads, where)
    check_tensors(state, shapes_of(config), where)
    tensors = {}
    for ours, theirs in _pairs(config.depth):
        parts = [state[name] for name in theirs]
        tensors[ours] = torch.cat(parts) if len(parts) > 1 else parts[0]
    return config, tensors


def write(config: GPTConfig, tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Tensors of a `GPT` under minDALL-E's names, for its own code; the inverse of `read`.

    Args:
        config: Shape of the model, as `read` tells it; dropout may differ.
        tensors: Its state dict.

    Raises:
        ValueError: if minDALL-E has no such part, or naming tensors that do not fit the config.
    """
    _check(config)
    with torch.device("meta"):
        check_tensors(tensors, GPT(config).state_dict(), "the state dict")
    return dict(_split(config, tensors))


def shapes_of(config: GPTConfig) -> dict[str, Tensor]:
    """minDALL-E's tensors of that shape by its names, without memory behind them."""
    with torch.device("meta"):
        return dict(_split(config, GPT(config).state_dict()))


def _config_of(state: Mapping[str, Tensor], heads: int | None, where: str) -> GPTConfig:
    """The shape that tables tell; the number of heads, which they do not, is that of the published size."""
    if "sos" in state or "sos.weight" in state:
        raise ValueError(
            f"{where} is a minDALL-E that went on to learn images alone: take the one it began from"
        )
    for name in TABLES:
        if name not in state or state[name].ndim != 2:
            raise ValueError(f"{where} is no minDALL-E: missing {name}, a matrix")
    width = state[TABLES[0]].shape[1]
    numbers = [name.split(".")[1] for name in state if name.startswith("blocks.")]
    depth = 1 + max((int(number) for number in numbers if number.isdecimal()), default=0)
    heads = heads or HEADS.get((depth, width))
    if heads is None:
        raise ValueError(
            f"{where} has {depth} layers of width {width}, which is no published size: give heads="
        )
    return _config([len(state[name]) for name in TABLES], width, depth, heads)


def _config(rows: Sequence[int], width: int, depth: int, heads: int) -> GPTConfig:
    """The shape with so many rows in each of `TABLES`."""
    text_ids, image_ids, text, image = rows
    ranges = (
        RangeConfig(start=0, low=0, high=text_ids),
        RangeConfig(start=text, low=text_ids, high=text_ids + image_ids),
    )
    return GPTConfig(
        vocab=text_ids + image_ids,
        length=text + image,
        width=width,
        depth=depth,
        heads=heads,
        norm=LayerNormConfig(eps=1e-5),
        mlp=GELUConfig(approximate="none"),
        positions=LearnedConfig(),
        attention=AttentionConfig(bias=True),
        head=HeadConfig(ranges=ranges),
    )


def _check(config: GPTConfig) -> None:
    """Raise a ValueError naming the parts of a config that a minDALL-E does not have."""
    if len(config.head.ranges) != 2:
        raise ValueError(f"head.ranges are {config.head.ranges}: give one for text and one for images")
    text, image = config.head.ranges
    rows = (text.high, config.vocab - text.high, image.start, config.length - image.start)
    wanted = _config(rows, config.width, config.depth, config.heads)
    found = replace(config, dropout=0.0, hidden=None if config.inner == wanted.inner else config.hidden)
    others = [part.name for part in fields(config) if getattr(found, part.name) != getattr(wanted, part.name)]
    if others:
        raise ValueError(
            f"this model's {', '.join(others)} are not minDALL-E's: keep it as a folder of ours"
        )


def _pairs(depth: int) -> Iterator[tuple[str, list[str]]]:
    """Our names, and theirs that lie in that tensor one below the other."""
    for ours, theirs in NAMES.whole.items():
        yield ours, theirs.split(" + ")
    for layer in range(depth):
        inside = NAMES.layer.format(layer)
        for ours, theirs in NAMES.block.items():
            yield f"blocks.{layer}.{ours}", [inside + name for name in theirs.split(" + ")]


def _split(config: GPTConfig, tensors: Mapping[str, Tensor]) -> Iterator[tuple[str, Tensor]]:
    """Their names, and views of our tensors."""
    image = config.head.ranges[1]
    for ours, theirs in _pairs(config.depth):
        rows = [len(tensors[ours]) // len(theirs)] * len(theirs)
        if len(theirs) == 2:
            first = image.start if ours == "positions.weight" else image.low
            rows = [first, len(tensors[ours]) - first]
        yield from zip(theirs, tensors[ours].split(rows), strict=True)
