"""Checkpoints: folder/checkpoints/step-00001234/ with tensors, state.json and, last, manifest.json.

A checkpoint is whole or absent: it is written aside, flushed and renamed. Nothing in it is pickled.
"""

import json
import warnings
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from vqtok.storage.folders import publish, remove, sweep
from vqtok.storage.manifests import read_manifest, write_manifest
from vqtok.storage.tensors import read_tensors, write_tensors


def save(folder: Path, step: int, tensors: Mapping[str, Mapping[str, Tensor]], state: Any, keep: int) -> Path:
    """Write the checkpoint of `step` into `folder`, then delete all but the newest `keep`.

    Args:
        folder: Holds the checkpoints of one run.
        step: Optimiser steps done.
        tensors: File name without ending -> tensors by name.
        state: Anything JSON can hold.
        keep: How many checkpoints stay, this one included.

    Returns:
        Where it lies.

    Raises:
        OSError: if the disk is full or cannot be written; older checkpoints are as they were.
    """
    place = folder / f"step-{step:08d}"
    with publish(place, replace=True) as part:
        for name, group in tensors.items():
            write_tensors(part / f"{name}.safetensors", group)
        (part / "state.json").write_text(json.dumps(state))
        write_manifest(part, {"step": step})
    for old in steps(folder)[:-keep]:
        remove(old)
    return place


def newest(folder: Path) -> Path | None:
    """The newest whole checkpoint in `folder`; None if there is none at all. Damaged ones are moved aside.

    Raises:
        ValueError: if there are checkpoints, all damaged.
    """
    if folder.exists():
        sweep(folder)
    damaged = []
    for place in reversed(steps(folder)):
        try:
            read_manifest(place)
        except ValueError as error:
            damaged.append((place, error))
        else:
            _set_aside(damaged, place)
            return place
    if damaged:
        raise ValueError(
            f"no whole checkpoint in {folder}: {damaged[0][1]}; or delete the folder to begin anew"
        )
    return None


def load(place: Path) -> tuple[dict[str, dict[str, Tensor]], Any]:
    """Tensors and state as given to `save`."""
    tensors = {path.stem: read_tensors(path) for path in sorted(place.glob("*.safetensors"))}
    return tensors, json.loads((place / "state.json").read_text())


def steps(folder: Path) -> list[Path]:
    """The checkpoints in `folder`, oldest first, whole or not."""
    found = [path for path in folder.glob("step-*") if path.name[5:].isdigit()]
    return sorted(found, key=lambda path: int(path.name[5:]))


def optimizer_tensors(optimizer: torch.optim.Optimizer) -> dict[str, Tensor]:
    """What an optimizer remembers of each parameter, named `<number of the parameter>.<name>`."""
    state = optimizer.state_dict()["state"]
    return {
        f"{index}.{name}": torch.as_tensor(value)
        for index, memory in state.items()
        for name, value in memory.items()
        if value is not None
    }


def load_optimizer(optimizer: torch.optim.Optimizer, tensors: Mapping[str, Tensor], where: Path) -> None:
    """Give an optimizer its memory back; its settings stay as they are.

    Raises:
        ValueError: if the memory belongs to other parameters.
    """
    parameters = [parameter for group in optimizer.param_groups for parameter in group["params"]]
    state: dict[int, dict[str, Tensor]] = {}
    for key, tensor in tensors.items():
        index, name = key.split(".", 1)
        shape = parameters[int(index)].shape if int(index) < len(parameters) else None
        if shape is None or (tensor.ndim and tensor.shape != shape):
            raise ValueError(
                f"{where}: {name} of parameter {index} does not fit the optimizer: use a new run.folder"
            )
        if tensor.ndim:  # files hold no strides, and fused AdamW pairs numbers by their place in memory
            tensor = torch.empty_like(parameters[int(index)], dtype=tensor.dtype).copy_(tensor)
        state.setdefault(int(index), {})[name] = tensor
    groups = optimizer.state_dict()["param_groups"]
    optimizer.load_state_dict({"state": state, "param_groups": groups})


def _set_aside(damaged: list[tuple[Path, ValueError]], whole: Path) -> None:
    for place, error in damaged:
        aside = place.with_name(f"damaged-{place.name}")
        if aside.exists():
            remove(aside)
        place.rename(aside)
        warnings.warn(
            f"{error}; going on from {whole.name}, the damaged one is now {aside.name}", stacklevel=4
        )
