"""Finds and opens the files of a published transformer: one or several, safetensors or pickles.

Pickles are read without running what they hold. A folder's safetensors are preferred.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from torch import Tensor

from vqtok.storage.containers import INSIDE, open_checkpoint
from vqtok.storage.hub import OutOfReach, find_file
from vqtok.storage.records import read_json

CONFIG = "config.json"
WEIGHTS = (  # as transformers names them, the safest first; an index tells in which shards tensors lie
    "model.safetensors.index.json",
    "model.safetensors",
    "pytorch_model.bin.index.json",
    "pytorch_model.bin",
)

Source = str | Path | Mapping[str, Tensor]


@dataclass(frozen=True)
class Published:
    """What was found.

    Args:
        where: For errors.
        tensors: By their published names.
        settings: Of config.json; empty where there is none.
        beside: What a training checkpoint keeps beside its tensors.
    """

    where: str
    tensors: dict[str, Tensor]
    settings: dict[str, Any] = field(default_factory=dict)
    beside: dict[str, Any] = field(default_factory=dict)


def read_published(source: Source, inside: Iterable[str] = INSIDE) -> Published:
    """The tensors of a transformer as its authors left them, and its settings.

    Args:
        source: A folder with config.json and weights; a file of weights; `owner/name` on the hub; or tensors
            by name.
        inside: Entries of a training checkpoint in which tensors may lie, the preferred first.

    Raises:
        ValueError: naming the file that is missing, truncated, no checkpoint, or holds code.
    """
    if isinstance(source, Mapping):
        return Published("the state dict", dict(source))
    if Path(source).is_file():
        tensors, beside = open_checkpoint(Path(source), tuple(inside))
        return Published(str(source), tensors, beside=beside)
    config = find_file(source, CONFIG)
    if config is None:
        raise ValueError(
            f"{Path(source) / CONFIG} is missing: a published transformer is config.json and "
            f"{WEIGHTS[1]}, or a file of weights"
        )
    settings, tensors = read_json(config), {}
    for path in _shards(source):
        tensors |= open_checkpoint(path, tuple(inside))[0]
    return Published(str(source), tensors, settings)


def _shards(source: str | Path) -> list[Path]:
    """The files that hold the weights."""
    found = _first(source)
    if found.suffix != ".json":
        return [found]
    names = sorted(set(read_json(found).get("weight_map", {}).values()))
    if not names:
        raise ValueError(f"{found} names no shard: copy it again")
    paths = {name: find_file(source, name) for name in names}
    missing = [name for name, path in paths.items() if path is None]
    if missing:
        raise ValueError(f"{Path(source) / missing[0]} is missing: {found.name} says that weights lie in it")
    return list(paths.values())


def _first(source: str | Path) -> Path:
    """The first of the usual names that is there, or, where the hub is out of reach, cached."""
    refusal = ValueError(f"{source} holds none of {', '.join(WEIGHTS)}: name the file of weights instead")
    for name in WEIGHTS:
        try:
            if (found := find_file(source, name)) is not None:
                return found
        except OutOfReach as error:
            refusal = error
    raise refusal
