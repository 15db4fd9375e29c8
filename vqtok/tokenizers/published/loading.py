"""A published tokenizer as one of ours: layout recognized, tensors renamed, every one accounted for.

Strict: a tensor that is missing, extra or mis-shaped raises, and what is left out is left out by name.
"""

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from vqtok.storage.tensors import check_tensors
from vqtok.tokenizers.choice import build
from vqtok.tokenizers.interface import ImageTokenizer
from vqtok.tokenizers.published.files import Published
from vqtok.tokenizers.published.layouts import LAYOUTS, PARTS, RIDERS, Layout
from vqtok.tokenizers.published.shapes import Shapes

POINTWISE = re.compile(r".*\.attn(_1|\.\d+)\.(q|k|v|proj_out)\.weight$")  # diffusers has matrices there
SHADOW = "model_ema."
UNSAID = 32  # diffusers' default for the size, which its published tokenizers of 256 pixels left standing
FIXED = {  # settings that configs may hold and we have only this way
    "norm_type": "group",
    "act_fn": "silu",
    "double_z": False,
    "double_latent": False,
    "in_channels": 3,
    "num_channels": 3,
    "out_channels": 3,
    "resample_with_conv": True,
}


@dataclass(frozen=True)
class Plan:
    """What published weights turned out to be: their layout, our config, and the tensors under our names."""

    layout: Layout
    config: Any
    tensors: dict[str, Tensor]


def tokenizer_of(published: Published, plan: Plan) -> ImageTokenizer:
    """The tokenizer that published weights are, in evaluation mode, float32.

    Raises:
        ValueError: naming every tensor that is missing, extra or mis-shaped.
    """
    with torch.device("meta"):  # nothing is allocated before every shape is known to be right
        wanted = dict(build(plan.config).named_parameters())
    check_tensors(plan.tensors, wanted, f"{published.path}, taken for {plan.layout.name},")
    with torch.random.fork_rng(devices=[]):  # loading draws nothing from the caller's random numbers
        tokenizer = build(plan.config)
    with torch.no_grad():  # buffers are state of our training, and stay as they are
        for name, parameter in tokenizer.named_parameters():
            parameter.copy_(plan.tensors[name])
    return tokenizer.eval()


def plan_for(published: Published, size: int | None = None, low: float | None = None) -> Plan:
    """What published weights are, told by the names and shapes of tensors and the config beside them.

    Args:
        published: What `read_published` found.
        size: Pixels a side of the training images; None asks the config, then the layout.
        low: Black as the network sees it, -1 or 0; None asks likewise.

    Raises:
        ValueError: if no layout fits, or a setting or a shape has no counterpart here.
    """
    layout = recognize(published.tensors, published.config, published.path.suffix)
    asked = {name: value for name, value in (("size", size), ("low", low)) if value is not None}
    try:
        tensors = renamed(published.tensors, layout)
        shapes = Shapes({name: tuple(tensor.shape) for name, tensor in tensors.items()})
        config = layout.shape(shapes, _facts(layout, published.config) | asked)
    except ValueError as error:
        raise ValueError(f"{published.path}, taken for {layout.name}: {error}") from error
    return Plan(layout, config, tensors)


def recognize(names: Iterable[str], config: Mapping[str, Any], suffix: str = "") -> Layout:
    """The first layout that fits the names of tensors, the class that a config names, and the file's suffix.

    Raises:
        ValueError: naming what can be loaded, if none fits.
    """
    names = [_without_part(name) for name in names]
    for layout in LAYOUTS:
        marked = all(any(re.match(mark, name) for name in names) for mark in layout.marks)
        spoiled = any(re.match(mark, name) for name in names for mark in layout.absent)
        told = not layout.classes or config.get("_class_name") in layout.classes
        if marked and not spoiled and told and (not layout.suffixes or suffix in layout.suffixes):
            return layout
    known = ", ".join(dict.fromkeys(layout.name for layout in LAYOUTS))
    sample = ", ".join(sorted(names)[:3]) or "none"
    raise ValueError(f"no tokenizer known here has tensors such as {sample}: these load: {known}")


def renamed(tensors: Mapping[str, Tensor], layout: Layout) -> dict[str, Tensor]:
    """The tensors under our names; of those that have a shadow, a running mean of training, the shadow."""
    riders = [re.compile(rider) for rider in (*RIDERS, *layout.riders)]
    tensors = {_without_part(name): tensor for name, tensor in tensors.items()}
    ours = {}
    for name, tensor in tensors.items():
        if any(rider.match(name) for rider in riders):
            continue
        shadow = tensors.get(SHADOW + name.replace(".", ""))
        for pattern, replacement in layout.renames:
            name = re.sub(pattern, replacement, name)
        if name in ours:
            raise ValueError(f"two tensors would both be {name}: the file mixes layouts")
        tensor = tensor if shadow is None else shadow
        pointwise = tensor.ndim == 2 and POINTWISE.match(name)
        ours[name] = tensor[:, :, None, None] if pointwise else tensor
    return _from_full_size(ours) if layout.run_order else ours


def _facts(layout: Layout, config: Mapping[str, Any]) -> dict[str, Any]:
    """What tensors do not tell: from the config where it does, else from the layout."""
    config = config.get("vq_config") or config  # of a larger model
    for name, only in FIXED.items():
        if config.get(name, only) != only:
            raise ValueError(f"its config has {name} {config[name]!r}, but only {only!r} can be loaded")
    facts = {"size": layout.size, "low": layout.low, "normalize": layout.normalize, "groups": 32}
    if config.get("lookup_from_codebook"):  # aMUSEd: muse's tokenizer under diffusers' names
        facts["low"] = 0.0
    if "num_patches" in config:  # Janus counts codes a side
        facts["size"] = config["num_patches"] * 2 ** (len(config.get("channel_multiplier", range(5))) - 1)
    told = config.get("resolution", config.get("sample_size"))
    if isinstance(told, int) and told != UNSAID:
        facts["size"] = told
    facts["groups"] = config.get("norm_num_groups", facts["groups"])
    return facts


def _from_full_size(tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Levels of the decoder counted from full size, where they were counted as they run."""
    level = re.compile(r"^decoder\.up\.(\d+)\.")
    last = max((int(found[1]) for name in tensors if (found := level.match(name))), default=0)
    return {
        level.sub(lambda found: f"decoder.up.{last - int(found[1])}.", name): tensor
        for name, tensor in tensors.items()
    }


def _without_part(name: str) -> str:
    return next((name.removeprefix(part) for part in PARTS if name.startswith(part)), name)
