"""OpenAI's improved and guided diffusion: flat state dicts in `.pt` files, read, and written by name.

Nichol & Dhariwal 2021; Dhariwal & Nichol 2021. Settings are not in the files, they were flags of the command
line: what shapes and names tell is inferred, and the rest must be given.
"""

import re
from collections.abc import Iterator, Mapping
from pathlib import Path

import torch
from einops import rearrange
from torch import Tensor

from diffusion.networks.classes import ClassesConfig
from diffusion.networks.times import TimeConfig
from diffusion.networks.unet import UNet, UNetConfig
from diffusion.published.names import Names, Slot, filled, slots_of
from vqtok.storage.containers import open_checkpoint

GROUPS, EPS, TIME = 32, 1e-5, TimeConfig(first="cos", shift=0)  # fixed in their code
NAMES = Names(
    block={
        "norm1": "in_layers.0",
        "conv1": "in_layers.2",
        "time": "emb_layers.1",
        "norm2": "out_layers.0",
        "conv2": "out_layers.3",
        "skip": "skip_connection",
    },
    attention={"norm": "norm", "attention.qkv": "qkv", "attention.out": "proj_out"},
    halve="op",
)
FLAGS = "heads=, their num_heads, or head_width=, their num_head_channels"


def load_openai(
    source: str | Path | Mapping[str, Tensor],
    *,
    heads: int | None = None,
    head_width: int | None = None,
    new_order: bool = False,
    null_class: bool = False,
) -> UNet:
    """A UNet with the weights of an improved- or guided-diffusion checkpoint, in evaluation mode, float32.

    What it predicts, and with what schedule, is not in the file either. A network that was trained with their
    flag rescale_timesteps is to be given t = 1000 step / steps.

    Args:
        source: A `model*.pt` or `ema*.pt`, or tensors by name.
        heads: Their num_heads: 4 by default.
        head_width: Their num_head_channels, in place of `heads`: 64 for most of guided diffusion's.
        new_order: Their use_new_attention_order: whether queries of all heads come first.
        null_class: Whether the last class is no class; theirs have none.

    Raises:
        ValueError: if neither heads nor head_width is given, or both; if the file is damaged or none of
            theirs; naming tensors that are missing, extra or mis-shaped.
    """
    if isinstance(source, Mapping):
        tensors, where = source, "the state dict"
    else:
        tensors, where = open_checkpoint(Path(source))[0], str(source)
    config = openai_config(tensors, heads=heads, head_width=head_width, null_class=null_class)
    return filled(config, lambda unet: openai_slots(unet, new_order), tensors, where)


def openai_config(
    tensors: Mapping[str, Tensor],
    *,
    heads: int | None = None,
    head_width: int | None = None,
    null_class: bool = False,
) -> UNetConfig:
    """The shape told by names and shapes of the tensors, and by the two settings that they do not tell.

    Raises:
        ValueError: as `load_openai`.
    """
    if (heads is None) == (head_width is None):
        given = "neither is given" if heads is None else f"both are given, {heads} and {head_width}"
        raise ValueError(f"no tensor tells how wide a head is, and {given}: give {FLAGS}")
    try:
        first, last = tensors["input_blocks.0.0.weight"], tensors["out.2.weight"]
        count = 1 + max(_numbers(tensors, r"output_blocks\.(\d+)\.0\.in_layers\.2\.weight"))
        blocks = _blocks(tensors, count)
        firsts = range(0, count, blocks + 1)  # of each level, the smallest images first
        widths = [len(tensors[f"output_blocks.{n}.0.out_layers.3.bias"]) for n in firsts]
        told = len(tensors["output_blocks.0.0.emb_layers.1.bias"])
    except (KeyError, ValueError) as error:
        raise ValueError(
            f"these tensors are no UNet of improved or guided diffusion ({error}): name a model*.pt or an "
            "ema*.pt"
        ) from error
    channels, levels = len(first), len(widths)
    if any(width % channels for width in widths) or count % (blocks + 1):
        raise ValueError(f"levels of {widths[::-1]} channels do not fit {channels} of the first")
    attended = _numbers(tensors, r"output_blocks\.(\d+)\.1\.qkv\.weight")
    rows = len(tensors["label_emb.weight"]) if "label_emb.weight" in tensors else 0
    drop = 0.1 if null_class else 0.0
    resized = _numbers(tensors, r"output_blocks\.(\d+)\.[12]\.in_layers\.2\.weight")
    return UNetConfig(
        in_channels=first.shape[1],
        out_channels=len(last),
        channels=channels,
        multipliers=tuple(width // channels for width in widths[::-1]),
        blocks=blocks,
        attention_levels=tuple(sorted({levels - 1 - n // (blocks + 1) for n in attended})),
        heads=heads or 1,
        head_width=head_width,
        groups=GROUPS,
        eps=EPS,
        classes=ClassesConfig(count=rows - null_class, null=null_class, drop=drop) if rows else None,
        time=TIME,
        scale_shift=told == 2 * widths[0],
        resampling="blocks" if resized else "symmetric",
    )


def openai_tensors(unet: UNet, *, new_order: bool = False) -> dict[str, Tensor]:
    """The tensors of `unet` as improved and guided diffusion name and shape them, for `torch.save`.

    Raises:
        ValueError: if the network has settings that theirs never have.
    """
    config = unet.config
    wanted = {"groups": GROUPS, "eps": EPS, "time": TIME}
    found = {name: getattr(config, name) for name in wanted}
    others = [f"{name} {found[name]}" for name, only in wanted.items() if found[name] != only]
    others += ["asymmetric resampling"] if config.resampling == "asymmetric" else []
    if others:
        raise ValueError(f"this network has {', '.join(others)}, theirs never: save_diffusers")
    return {name: slot.read() for name, slot in openai_slots(unet, new_order).items()}


def openai_slots(unet: UNet, new_order: bool) -> dict[str, Slot]:
    """The tensors of `unet` by their names; attentions are convolutions of one dimension there."""
    slots = slots_of(unet, NAMES, dict(_places(unet.config)))
    for name, slot in slots.items():
        if not re.search(r"\.(qkv|proj_out)\.(weight|bias)$", name):
            continue
        view, shape = slot.view, slot.shape
        if ".qkv." in name and not new_order:  # query, key and value of one head, then of the next
            heads = unet.config.heads_of(len(view) // 3)
            view = rearrange(view, "(qkv heads c) ... -> heads qkv c ...", qkv=3, heads=heads)
        slots[name] = Slot(view, torch.Size((*shape, 1)) if name.endswith("weight") else shape)
    return slots


def _places(config: UNetConfig) -> Iterator[tuple[str, str]]:
    """What they call our modules."""
    yield from (("conv_in", "input_blocks.0.0"), ("norm_out", "out.0"), ("conv_out", "out.2"))
    yield from (("time.up", "time_embed.0"), ("time.out", "time_embed.2"))
    if config.classes is not None:
        yield "classes.table", "label_emb"
    yield from (("middle.block1", "middle_block.0"), ("middle.attention", "middle_block.1"))
    yield "middle.block2", "middle_block.2"
    levels = range(len(config.multipliers))
    stage = 1
    for level in levels:
        for block in range(config.blocks):
            yield f"down.{level}.blocks.{block}", f"input_blocks.{stage}.0"
            if level in config.attention_levels:
                yield f"down.{level}.attentions.{block}", f"input_blocks.{stage}.1"
            stage += 1
        if level != levels[-1]:
            yield f"down.{level}.resample", f"input_blocks.{stage}.0"
            stage += 1
    for stage in range(len(levels) * (config.blocks + 1)):
        level, block = levels[-1] - stage // (config.blocks + 1), stage % (config.blocks + 1)
        attended = level in config.attention_levels
        yield f"up.{level}.blocks.{block}", f"output_blocks.{stage}.0"
        if attended:
            yield f"up.{level}.attentions.{block}", f"output_blocks.{stage}.1"
        if block == config.blocks and level:
            yield f"up.{level}.resample", f"output_blocks.{stage}.{1 + attended}"


def _blocks(tensors: Mapping[str, Tensor], count: int) -> int:
    """Residual blocks a level: on the way up, where levels have one more, what doubles ends a level."""
    ends = _numbers(tensors, r"output_blocks\.(\d+)\.[12]\.(?:conv|in_layers\.2)\.weight")
    return min(ends, default=count - 1)


def _numbers(tensors: Mapping[str, Tensor], pattern: str) -> list[int]:
    """What the pattern's group is in the names that it fits."""
    return [int(found[1]) for name in tensors if (found := re.fullmatch(pattern, name))]
