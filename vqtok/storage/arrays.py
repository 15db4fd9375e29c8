"""Pickled mappings of numpy arrays, read without running what they hold.

`pickle` builds objects by calling what a file names. Here it may name a few things of numpy and two of
Python, and gets stand-ins that keep what they are given; all else is refused, by name.
"""

import math
import pickle
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from vqtok.storage.pickles import DAMAGED

TYPES = ("f2", "f4", "f8", "i1", "i2", "i4", "i8", "u1", "u2", "u4", "b1")  # as numpy's pickles name them
DEEPEST = 64  # names inside one another; a tree of weights has about six


def read_arrays(path: str | Path) -> dict[str, Tensor]:
    """The numpy arrays of a pickled mapping, flat or of mappings; keys, and parts of keys, joined by dots.

    Entries that are no arrays are passed over.

    Raises:
        ValueError: if the file is truncated, no pickle of a mapping with arrays in it, holds code, or names
            an array twice.
    """
    try:
        with open(path, "rb") as file:
            tree = _Unpickler(file).load()
    except (pickle.UnpicklingError, ValueError, ArithmeticError, MemoryError, *DAMAGED) as error:
        if isinstance(error, OSError) and error.filename is not None:
            raise  # there is no such file, or it may not be read
        if isinstance(error, _Code):
            raise ValueError(
                f"{path} holds {error}, which is code and was not run: if you trust whoever made the file, "
                "have its arrays saved as safetensors"
            ) from error
        raise ValueError(
            f"{path} is truncated or no pickle of numpy arrays ({error}): copy it again"
        ) from error
    found: dict[str, Tensor] = {}
    _gather(tree, "", found, path)
    if not found:
        raise ValueError(f"{path} holds no numpy arrays by name: is this a checkpoint of a model?")
    return found


def _gather(tree: Any, name: str, found: dict[str, Tensor], path: str | Path) -> None:
    """Put the arrays below `name` into `found`."""
    if name.count(".") > DEEPEST:  # a pickle may hold itself
        raise ValueError(f"{path} has more than {DEEPEST} mappings inside one another: it is no checkpoint")
    if isinstance(tree, Mapping):
        for key, branch in tree.items():
            parts = key if isinstance(key, tuple) else (key,)
            _gather(branch, ".".join([*filter(None, [name]), *map(str, parts)]), found, path)
    elif isinstance(tree, _Array):
        if name in found:
            raise ValueError(f"{path} holds {name} twice: it was written from two trees")
        try:
            found[name] = tree.tensor()
        except ValueError as error:
            raise ValueError(f"{path}: {name} {error}") from error


class _Code(pickle.UnpicklingError):
    """The file names what is not run."""


class _Kind:
    """Stands for `numpy.dtype`: a name such as f4, and the order of bytes."""

    def __init__(self, name: Any = None, *_: Any) -> None:
        self.name, self.order = name, "="

    def __setstate__(self, state: Any) -> None:
        self.order = state[1] if isinstance(state, tuple) and len(state) > 1 else None

    def dtype(self) -> np.dtype:
        """The real one.

        Raises:
            ValueError: if it is none of plain numbers.
        """
        if self.name not in TYPES or self.order not in ("<", ">", "=", "|"):
            raise ValueError(f"is of type {self.name!r}, expected one of {', '.join(TYPES)}")
        return np.dtype(self.name).newbyteorder(self.order)


class _Array:
    """Stands for `numpy.ndarray`: keeps shape, type and bytes."""

    state: Any = None

    def __init__(self, *_: Any) -> None:
        """Take the empty shape that numpy begins with, and drop it."""

    def __setstate__(self, state: Any) -> None:
        self.state = state

    def tensor(self) -> Tensor:
        """The array, in the machine's order of bytes.

        Raises:
            ValueError: if shape, type and bytes do not fit one another.
        """
        if not isinstance(self.state, tuple) or len(self.state) != 5:
            raise ValueError("is no array: it has no shape, type and bytes")
        _, shape, kind, columns, raw = self.state
        if not isinstance(kind, _Kind) or not isinstance(raw, bytes | bytearray):
            raise ValueError("is no array of plain numbers")
        dtype = kind.dtype()
        sizes = isinstance(shape, tuple) and all(type(size) is int and size >= 0 for size in shape)
        if not sizes or len(raw) != math.prod(shape) * dtype.itemsize:
            raise ValueError(f"has {len(raw)} bytes, its shape is {shape} of {dtype.name}")
        array = np.frombuffer(raw, dtype).reshape(shape, order="F" if columns else "C")
        return torch.from_numpy(array.astype(dtype.newbyteorder("="), order="C"))  # astype copies: writable


class _Framed(_Array):
    """Stands for `numpy.core.numeric._frombuffer`, which pickles of protocol 5 name."""

    def __init__(self, raw: Any, kind: Any, shape: Any, order: Any) -> None:
        self.state = (1, shape, kind, order == "F", raw)


class _Encoded:
    """Stands for `_codecs.encode`, with which old protocols write bytes as text."""

    def __new__(cls, text: Any, coding: Any) -> bytes:
        if not isinstance(text, str) or coding != "latin1":
            raise pickle.UnpicklingError("bytes that are not written as latin1")
        return text.encode("latin1")

    def __setstate__(self, state: Any) -> None:
        """Is there so that a pickle cannot set attributes of the class."""


class _Empty:
    """Stands for `bytes`, with which old protocols make those of length 0."""

    def __new__(cls) -> bytes:
        return b""

    def __setstate__(self, state: Any) -> None:
        """As `_Encoded`."""


STAND_INS = {
    "numpy.ndarray": _Array,
    "numpy.dtype": _Kind,
    "numpy.core.multiarray._reconstruct": _Array,
    "numpy._core.multiarray._reconstruct": _Array,
    "numpy.core.numeric._frombuffer": _Framed,
    "numpy._core.numeric._frombuffer": _Framed,
    "_codecs.encode": _Encoded,
    "__builtin__.bytes": _Empty,
}


class _Unpickler(pickle._Unpickler):
    """Finds stand-ins and nothing else.

    The one written in Python: in C, a number in a damaged file can ask for a memo of many gigabytes.
    """

    def find_class(self, module: str, name: str) -> Any:
        """The stand-in for what a file names."""
        named = f"{module}.{name}"
        if named not in STAND_INS:
            raise _Code(named)
        return STAND_INS[named]
