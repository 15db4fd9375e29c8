"""diffusers' `UNet2DModel`: read from folders of a network or a pipeline, and written as a `DDPMPipeline`.

Both names of the four matrices of an attention are read; the newer ones are written. What config.json says of
the network is a `UNetConfig`; what the scheduler's file says is handed through as it is.
"""

import json
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from diffusion.networks.classes import ClassesConfig
from diffusion.networks.times import TimeConfig
from diffusion.networks.unet import UNet, UNetConfig
from diffusion.published.names import Names, Slot, filled, slots_of
from vqtok.storage.containers import open_checkpoint
from vqtok.storage.folders import publish
from vqtok.storage.hub import find_file
from vqtok.storage.records import read_json
from vqtok.storage.tensors import write_tensors

CONFIG, SCHEDULER, INDEX = "config.json", "scheduler_config.json", "model_index.json"
WEIGHTS = ("diffusion_pytorch_model.safetensors", "diffusion_pytorch_model.bin")  # the safer first
NAMES = Names(
    block={
        "norm1": "norm1",
        "conv1": "conv1",
        "time": "time_emb_proj",
        "norm2": "norm2",
        "conv2": "conv2",
        "skip": "conv_shortcut",
    },
    attention={"norm": "group_norm", "attention.qkv": "to_q + to_k + to_v", "attention.out": "to_out.0"},
    halve="conv",
)
OLD = {"query": "to_q", "key": "to_k", "value": "to_v", "proj_attn": "to_out.0"}
FIXED = {  # settings that we have only this way
    "center_input_sample": (False,),
    "time_embedding_type": ("positional",),
    "mid_block_type": ("UNetMidBlock2D",),
    "mid_block_scale_factor": (1,),
    "act_fn": ("silu", "swish"),
    "add_attention": (True,),
    "class_embed_type": (None,),
    "num_train_timesteps": (None,),
}
DEFAULTS = {  # of UNet2DModel, for what older files leave out
    "in_channels": 3,
    "out_channels": 3,
    "sample_size": None,
    "time_embedding_dim": None,
    "freq_shift": 0,
    "flip_sin_to_cos": True,
    "down_block_types": ("DownBlock2D", "AttnDownBlock2D", "AttnDownBlock2D", "AttnDownBlock2D"),
    "up_block_types": ("AttnUpBlock2D", "AttnUpBlock2D", "AttnUpBlock2D", "UpBlock2D"),
    "block_out_channels": (224, 448, 672, 896),
    "layers_per_block": 2,
    "downsample_padding": 1,
    "downsample_type": "conv",
    "upsample_type": "conv",
    "dropout": 0.0,
    "attention_head_dim": 8,
    "norm_num_groups": 32,
    "attn_norm_num_groups": None,
    "norm_eps": 1e-5,
    "resnet_time_scale_shift": "default",
    "num_class_embeds": None,
}
DOWN = {"DownBlock2D": False, "AttnDownBlock2D": True, "ResnetDownsampleBlock2D": False}  # have attention
UP = {"UpBlock2D": False, "AttnUpBlock2D": True, "ResnetUpsampleBlock2D": False}


@dataclass(frozen=True)
class PublishedUNet:
    """What such a folder holds.

    Args:
        unet: In evaluation mode, float32.
        scheduler: What scheduler_config.json says, by diffusers' names; empty where there is none.
        size: Side of the images it was trained on, in pixels; None where config.json does not say.
    """

    unet: UNet
    scheduler: dict[str, Any]
    size: int | None


def load_diffusers(source: str | Path, *, null_class: bool = False) -> PublishedUNet:
    """A UNet with the weights of a `UNet2DModel`, and the settings of the scheduler beside it.

    Args:
        source: A folder of a pipeline (unet/, scheduler/), or of the network alone, with config.json and
            weights, safetensors or .bin; or `owner/name` on the hub.
        null_class: Whether the last row of its class embedding is that of no class.

    Raises:
        ValueError: naming the file that is missing or damaged, the setting that has no counterpart here, or
            the tensors that are missing, extra or mis-shaped.
    """
    within = "unet/" if find_file(source, f"unet/{CONFIG}") is not None else ""
    path = find_file(source, within + CONFIG)
    if path is None:
        raise ValueError(f"{source} has neither unet/{CONFIG} nor {CONFIG}: is this a folder of diffusers?")
    settings = read_json(path)
    config = diffusers_config(settings, null_class=null_class)
    found = (find_file(source, within + name) for name in WEIGHTS)
    weights = next((path for path in found if path is not None), None)
    if weights is None:
        raise ValueError(f"{source} has no {within}{' or '.join(WEIGHTS)}: copy one of them there")
    tensors = _renamed(open_checkpoint(weights)[0])
    unet = filled(config, diffusers_slots, tensors, str(weights))
    size = settings.get("sample_size")
    return PublishedUNet(unet, _scheduler(source), size if isinstance(size, int) else None)


def diffusers_config(settings: Mapping[str, Any], *, null_class: bool = False) -> UNetConfig:
    """The shape told by a `UNet2DModel`'s config.json.

    Raises:
        ValueError: if a setting has no counterpart here.
    """
    _check_known(settings)
    found = DEFAULTS | settings
    widths = found["block_out_channels"]
    first = widths[0]
    if any(width % first for width in widths):
        raise _refusal("block_out_channels", widths, f"multiples of the first, {first},")
    if found["time_embedding_dim"] not in (None, 4 * first):
        raise _refusal("time_embedding_dim", found["time_embedding_dim"], f"{4 * first}")
    scale_shift = found["resnet_time_scale_shift"] == "scale_shift"
    if not scale_shift and found["resnet_time_scale_shift"] != "default":
        raise _refusal("resnet_time_scale_shift", found["resnet_time_scale_shift"], "default or scale_shift")
    groups = found["norm_num_groups"]
    # Without this number, a network of scale_shift has no norm in the middle's attention.
    if found["attn_norm_num_groups"] not in ((groups,) if scale_shift else (groups, None)):
        raise _refusal("attn_norm_num_groups", found["attn_norm_num_groups"], f"norm_num_groups, {groups},")
    count = found["num_class_embeds"]
    drop = 0.1 if null_class else 0.0
    return UNetConfig(
        in_channels=found["in_channels"],
        out_channels=found["out_channels"],
        channels=first,
        multipliers=tuple(width // first for width in widths),
        blocks=found["layers_per_block"],
        attention_levels=_attention_levels(found),
        head_width=found["attention_head_dim"],
        groups=groups,
        eps=found["norm_eps"],
        dropout=found["dropout"],
        classes=ClassesConfig(count=count - null_class, null=null_class, drop=drop) if count else None,
        time=TimeConfig(first="cos" if found["flip_sin_to_cos"] else "sin", shift=found["freq_shift"]),
        scale_shift=scale_shift,
        resampling=_resampling(found),
    )


def save_diffusers(
    unet: UNet,
    folder: str | Path,
    *,
    size: int,
    scheduler: Mapping[str, Any] | None = None,
    dtype: torch.dtype | None = None,
) -> None:
    """Write a folder that diffusers' `DDPMPipeline.from_pretrained` reads.

    Args:
        unet: The network; of one with a vector for no class, that is the last of `num_class_embeds`.
        folder: A new one, written whole or not at all.
        size: Side of the images that the pipeline draws, in pixels.
        scheduler: Settings by diffusers' names; what is left out, all of it if None, is as diffusers has it:
            a `DDPMScheduler` of 1000 steps, betas from 0.0001 to 0.02, that predicts the noise.
        dtype: Keep weights as this type; None keeps theirs.

    Raises:
        ValueError: if `size` does not halve as often, or heads differ in width.
        FileExistsError: if there is such a folder.
    """
    if size < 1 or size % unet.config.factor:
        raise ValueError(f"size {size} does not divide by {unet.config.factor}: give one that does")
    schedule = {"_class_name": "DDPMScheduler", **(scheduler or {})}
    tensors = {name: slot.read() for name, slot in diffusers_slots(unet).items()}
    index = {
        "_class_name": "DDPMPipeline",
        "scheduler": ["diffusers", schedule["_class_name"]],
        "unet": ["diffusers", "UNet2DModel"],
    }
    files = {
        INDEX: index,
        f"unet/{CONFIG}": unet2d_settings(unet.config, size),
        f"scheduler/{SCHEDULER}": schedule,
    }
    with publish(folder) as place:
        for name, content in files.items():
            (place / name).parent.mkdir(exist_ok=True)
            (place / name).write_text(json.dumps(content, indent=2) + "\n")
        write_tensors(place / "unet" / WEIGHTS[0], tensors, dtype)


def diffusers_slots(unet: UNet) -> dict[str, Slot]:
    """The tensors of `unet` by diffusers' names."""
    return slots_of(unet, NAMES, dict(_places(unet.config)))


def _places(config: UNetConfig) -> Iterator[tuple[str, str]]:
    """What they call our modules."""
    yield from (("conv_in", "conv_in"), ("norm_out", "conv_norm_out"), ("conv_out", "conv_out"))
    yield from (("time.up", "time_embedding.linear_1"), ("time.out", "time_embedding.linear_2"))
    if config.classes is not None:
        yield "classes.table", "class_embedding"
    last = len(config.multipliers) - 1
    for level in range(last + 1):
        for way, stage, count, end in (("down", level, 0, last), ("up", last - level, 1, 0)):
            for block in range(config.blocks + count):
                yield f"{way}.{level}.blocks.{block}", f"{way}_blocks.{stage}.resnets.{block}"
                if level in config.attention_levels:
                    yield f"{way}.{level}.attentions.{block}", f"{way}_blocks.{stage}.attentions.{block}"
            if level != end:
                yield f"{way}.{level}.resample", f"{way}_blocks.{stage}.{way}samplers.0"
    yield from (("middle.block1", "mid_block.resnets.0"), ("middle.block2", "mid_block.resnets.1"))
    yield "middle.attention", "mid_block.attentions.0"


def _renamed(tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """With the newer names of attentions; a tensor that is there under both keeps its own, and is extra."""
    found = {}
    for name, tensor in tensors.items():
        new = re.sub(rf"(attentions\.\d+)\.({'|'.join(OLD)})\.", lambda at: f"{at[1]}.{OLD[at[2]]}.", name)
        found[name if new in tensors else new] = tensor
    return found


def _check_known(settings: Mapping[str, Any]) -> None:
    """Raise a ValueError for what is another network, or is not known to be the same."""
    kind = settings.get("_class_name", "UNet2DModel")
    if kind != "UNet2DModel":
        raise ValueError(f"config.json is of a {kind}, but only a UNet2DModel can be loaded")
    for name, allowed in FIXED.items():
        if settings.get(name, allowed[0]) not in allowed:
            raise _refusal(name, settings[name], repr(allowed[0]))
    for name, value in settings.items():
        if name not in FIXED | DEFAULTS and not name.startswith("_") and value not in (None, False):
            raise _refusal(name, value, "a setting that is known here")


def _attention_levels(found: Mapping[str, Any]) -> tuple[int, ...]:
    down, up = found["down_block_types"], found["up_block_types"][::-1]
    levels = len(found["block_out_channels"])
    for name, types, known in (("down_block_types", down, DOWN), ("up_block_types", up, UP)):
        if len(types) != levels or not {*types} <= {*known}:
            raise _refusal(name, types, f"{levels} of {', '.join(known)}")
    attended = [DOWN[kind] for kind in down]
    if attended != [UP[kind] for kind in up]:
        raise _refusal("up_block_types", found["up_block_types"], "attention where down_block_types has it")
    return tuple(level for level, has in enumerate(attended) if has)


def _resampling(found: Mapping[str, Any]) -> str:
    """How all levels halve and double."""
    plain = {"DownBlock2D": "conv", "UpBlock2D": "conv", "AttnDownBlock2D": found["downsample_type"]}
    plain["AttnUpBlock2D"] = found["upsample_type"]
    resampled = [*found["down_block_types"][:-1], *found["up_block_types"][:-1]]  # the last ones do not
    kinds = {plain.get(kind, "resnet") for kind in resampled}
    if kinds == {"resnet"}:
        return "blocks"
    if kinds - {"conv"}:
        raise _refusal("downsample_type", sorted(kinds, key=str), "conv or resnet at all levels")
    if found["downsample_padding"] not in (0, 1):
        raise _refusal("downsample_padding", found["downsample_padding"], "0 or 1")
    return "symmetric" if found["downsample_padding"] else "asymmetric"


def _scheduler(source: str | Path) -> dict[str, Any]:
    """What the scheduler's file says: within the pipeline, beside the network, or beside its folder."""
    paths = [find_file(source, name) for name in (f"scheduler/{SCHEDULER}", SCHEDULER)]
    if Path(source).is_dir():
        paths.append(find_file(Path(source).resolve().parent, f"scheduler/{SCHEDULER}"))
    return next((read_json(path) for path in paths if path is not None), {})


def unet2d_settings(config: UNetConfig, size: int) -> dict[str, Any]:
    """What the config.json of a `UNet2DModel` like this one says, for images of `size` pixels a side."""
    levels = range(len(config.multipliers))
    attended = [level in config.attention_levels for level in levels]
    blocks = config.resampling == "blocks"
    plain = ("ResnetDownsampleBlock2D", "ResnetUpsampleBlock2D") if blocks else ("DownBlock2D", "UpBlock2D")
    found = {
        "_class_name": "UNet2DModel",
        "sample_size": size,
        "in_channels": config.in_channels,
        "out_channels": config.out_channels,
        "block_out_channels": config.widths,
        "down_block_types": ["AttnDownBlock2D" if has else plain[0] for has in attended],
        "up_block_types": ["AttnUpBlock2D" if has else plain[1] for has in attended[::-1]],
        "layers_per_block": config.blocks,
        "downsample_padding": 0 if config.resampling == "asymmetric" else 1,
        "attention_head_dim": _head_width(config),
        "norm_num_groups": config.groups,
        "norm_eps": config.eps,
        "dropout": config.dropout,
        "flip_sin_to_cos": config.time.first == "cos",
        "freq_shift": config.time.shift,
        "num_class_embeds": config.classes.rows if config.classes is not None else None,
        "resnet_time_scale_shift": "scale_shift" if config.scale_shift else "default",
        "attn_norm_num_groups": config.groups if config.scale_shift else None,
    }
    return found | {"downsample_type": "resnet", "upsample_type": "resnet"} if blocks else found


def _head_width(config: UNetConfig) -> int | None:
    """Channels of every head; None for one head everywhere."""
    if config.head_width is not None or config.heads == 1:
        return config.head_width
    levels = {*config.attention_levels, len(config.multipliers) - 1}
    found = {config.widths[level] // config.heads for level in levels}
    if len(found) > 1:
        raise ValueError(
            f"heads {config.heads} are {sorted(found)} channels wide, and diffusers has one width for all: "
            "only a network of head_width, or of one head, can be written"
        )
    return found.pop()


def _refusal(name: str, value: Any, only: str) -> ValueError:
    return ValueError(f"config.json: {name} is {value!r}, but only {only} can be loaded")
