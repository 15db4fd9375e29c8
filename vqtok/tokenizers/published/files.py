"""Finds the files of a published tokenizer, in a folder or on the hub, and opens whatever container they are.

safetensors are preferred. Pickles are read without running them, `vqtok.storage.pickles`; checkpoints of
training are opened down to the tensors by name.
"""

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath
from typing import Any

from torch import Tensor

from vqtok.storage.containers import open_checkpoint
from vqtok.storage.hub import OutOfReach, from_hub
from vqtok.storage.records import read_json
from vqtok.tokenizers.published.layouts import PARTS

CONFIG = "config.json"
INDEX = "model.safetensors.index.json"
WEIGHTS = (  # names that publications use, the safest first
    "model.safetensors",
    "diffusion_pytorch_model.safetensors",
    "pytorch_model.safetensors",
    INDEX,
    "pytorch_model.bin",
    "diffusion_pytorch_model.bin",
)
HALVES = ("encoder.pkl", "decoder.pkl")  # OpenAI's dVAE
SUFFIXES = (".safetensors", ".bin", ".pt", ".pth", ".ckpt")


@dataclass(frozen=True)
class Published:
    """Tensors by their published names, the config beside them if there is one, and the file's name."""

    tensors: dict[str, Tensor]
    path: Path
    config: dict[str, Any] = field(default_factory=dict)


def names_file(source: str | Path) -> bool:
    """Whether this is a file of weights, here or on the hub, rather than a folder."""
    return Path(source).is_file() or (not Path(source).exists() and _split(source)[1] != "")


def config_of(source: str | Path) -> dict[str, Any]:
    """The config.json of a folder, of a file's folder or of a hub id; empty where there is none.

    Raises:
        ValueError: if there is one but it is no JSON, or the hub refuses or cannot be asked.
    """
    place = Path(source)
    found = place.parent / CONFIG if place.is_file() else place / CONFIG
    if not place.exists():
        found = from_hub(_split(source)[0], CONFIG)
    if found is None or not found.is_file():
        return {}
    return read_json(found)


def read_published(source: str | Path) -> Published:
    """The tensors of a published tokenizer.

    Args:
        source: A file; a folder that holds one; `owner/name` on the hub, a folder or a file inside of it.

    Raises:
        ValueError: if there is no such file, or it is truncated, no checkpoint, or holds code.
    """
    paths = _locate(source)
    tensors: dict[str, Tensor] = {}
    for path in paths:
        prefix = f"{path.stem}." if path.name in HALVES else ""
        tensors |= {prefix + name: tensor for name, tensor in open_checkpoint(path)[0].items()}
    return Published(_part(tensors), paths[0], config_of(source))


def _locate(source: str | Path) -> list[Path]:
    """The file, or the shards or halves, that hold the weights."""
    place = Path(source)
    if place.is_file():
        return _shards(place)
    if place.is_dir():
        if all((place / half).is_file() for half in HALVES):
            return [place / half for half in HALVES]
        named = [place / name for name in WEIGHTS if (place / name).is_file()]
        others = sorted(path for path in place.iterdir() if path.suffix in SUFFIXES)
        if named or len(others) == 1:
            return _shards((named or others)[0])
        told = f"several: {', '.join(path.name for path in others)}" if others else "none"
        raise ValueError(
            f"{place} should hold one file of weights and holds {told}; name the file, "
            f"or give a folder with {', '.join(WEIGHTS[:3])} or {' and '.join(HALVES)}"
        )
    return _located_on_hub(source)


def _located_on_hub(source: str | Path) -> list[Path]:
    """The same of a place on the hub: the first of the names that is there, or, without network, cached."""
    refusal = ValueError(f"{source} is neither a file nor a folder here nor a published tokenizer on the hub")
    folder, file = _split(source)
    for name in [file] if file else WEIGHTS:
        try:
            found = from_hub(folder, name)
        except OutOfReach as error:
            refusal = error
            continue
        if found is not None:
            return [
                path if path.is_file() else from_hub(folder, path.name) or path for path in _shards(found)
            ]
    raise refusal


def _split(source: str | Path) -> tuple[str, str]:
    """Folder `owner/name[/folder...]` and file of a place on the hub; no file, if it ends like a folder."""
    place = PurePosixPath(source)
    if len(place.parts) > 2 and (place.suffix in SUFFIXES or place.name == INDEX):
        return str(place.parent), place.name
    return str(place), ""


def _shards(path: Path) -> list[Path]:
    """The file itself; of an index, the shards that hold the part that is a tokenizer."""
    if path.name != INDEX:
        return [path]
    try:
        shards = {*_part(json.loads(path.read_bytes())["weight_map"]).values()}
        return [path.parent / shard for shard in sorted(shards)]
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise ValueError(f"{path} is truncated or no index of shards: copy it again") from error


def _part(named: Mapping[str, Any]) -> dict[str, Any]:
    """Without the rest of a larger model, if that is what it is."""
    for part in PARTS:
        inside = {name: item for name, item in named.items() if name.startswith(part)}
        if inside:
            return inside
    return dict(named)
