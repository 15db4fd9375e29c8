"""Named tensors in safetensors files: written whole, read strictly, never pickled."""

import errno
import os
import re
from collections.abc import Mapping
from pathlib import Path

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor


def write_tensors(path: Path | str, tensors: Mapping[str, Tensor], dtype: torch.dtype | None = None) -> None:
    """Write `tensors` to a safetensors file; floating-point ones as `dtype` if given.

    Tensors that share memory (tied weights) are written once a name.

    Raises:
        OSError: if the disk is full or cannot be written; the part that was written may remain.
    """
    seen: set[int] = set()
    plain = {}
    for name, tensor in tensors.items():
        tensor = tensor.detach().cpu().contiguous()
        if dtype is not None and tensor.is_floating_point():
            tensor = tensor.to(dtype)
        address = tensor.untyped_storage().data_ptr()
        plain[name] = tensor.clone() if address in seen else tensor
        seen.add(address)
    try:
        save_file(plain, path, metadata={"format": "pt"})
        _share(path)
    except SafetensorError as error:
        told = re.search(r"os error (\d+)", str(error))
        code = int(told[1]) if told else errno.EIO
        raise OSError(code, os.strerror(code), str(path)) from error


def _share(path: Path | str) -> None:
    """Give a file the permissions of any other: safetensors writes it for its owner alone."""
    mask = os.umask(0)
    os.umask(mask)  # the only way to read it
    os.chmod(path, 0o666 & ~mask)


def read_tensors(path: Path | str) -> dict[str, Tensor]:
    """The tensors of a safetensors file, on the CPU.

    Raises:
        ValueError: if the file is missing, truncated or no safetensors file.
    """
    if not Path(path).is_file():
        raise ValueError(f"{path} is missing: a model is a folder with config.json and model.safetensors")
    try:
        return load_file(path)
    except SafetensorError as error:
        raise ValueError(f"{path} is truncated or no safetensors file ({error}): copy it again") from error


def check_tensors(found: Mapping[str, Tensor], wanted: Mapping[str, Tensor], where: Path | str) -> None:
    """Raise a ValueError that names every missing, extra and mis-shaped tensor of `found`."""
    shapes = [
        f"{name} {tuple(found[name].shape)} instead of {tuple(wanted[name].shape)}"
        for name in wanted
        if name in found and found[name].shape != wanted[name].shape
    ]
    faults = {
        "missing": [name for name in wanted if name not in found],
        "extra": [name for name in found if name not in wanted],
        "mis-shaped": shapes,
    }
    told = [f"{fault} {_list(names)}" for fault, names in faults.items() if names]
    if told:
        raise ValueError(f"{where} does not fit this model: {'; '.join(told)}")


def _list(names: list[str], most: int = 8) -> str:
    rest = f" and {len(names) - most} more" if len(names) > most else ""
    return ", ".join(names[:most]) + rest
