"""Arrays that Flax wrote as msgpack, read without Flax and without running anything.

`flax.serialization` writes a tree of mappings in one piece. EasyLM's `StreamingCheckpointer` writes one
record after the other, each of an array's path through the tree and its msgpack. Both are told by the first
byte. Of msgpack (github.com/msgpack/msgpack/blob/master/spec.md) all plain types are read, and of its
extensions those of Flax that hold arrays: (shape, name of the type, bytes), row by row.
"""

import math
import mmap
import struct
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

ARRAYS = (1, 3)  # Flax's extensions: an array, and a number as an array without axes
CHUNKED, CHUNKS, SHAPE = "__msgpack_chunked_array__", "chunks", "shape"  # of arrays of 1 GiB and more
DEEPEST = 64  # nested mappings and lists; a tree of weights has about six
DTYPES = {
    str(dtype).removeprefix("torch."): dtype
    for dtype in (
        torch.bfloat16, torch.float16, torch.float32, torch.float64, torch.bool, torch.uint8, torch.uint16,
        torch.uint32, torch.int8, torch.int16, torch.int32, torch.int64,
    )
}  # fmt: skip
NUMBERS = {  # msgpack's code: how the number after it lies
    0xCA: ">f", 0xCB: ">d", 0xCC: ">B", 0xCD: ">H", 0xCE: ">I", 0xCF: ">Q",
    0xD0: ">b", 0xD1: ">h", 0xD2: ">i", 0xD3: ">q",
}  # fmt: skip
COUNTED = {  # msgpack's code: what follows, and how the number that counts it lies
    0xC4: ("bytes", ">B"), 0xC5: ("bytes", ">H"), 0xC6: ("bytes", ">I"),
    0xC7: ("extension", ">B"), 0xC8: ("extension", ">H"), 0xC9: ("extension", ">I"),
    0xD9: ("text", ">B"), 0xDA: ("text", ">H"), 0xDB: ("text", ">I"),
    0xDC: ("list", ">H"), 0xDD: ("list", ">I"), 0xDE: ("mapping", ">H"), 0xDF: ("mapping", ">I"),
}  # fmt: skip
SHORT = ((0x80, 0x8F, "mapping"), (0x90, 0x9F, "list"), (0xA0, 0xBF, "text"))  # count in the code itself
PLAIN = {0xC0: None, 0xC2: False, 0xC3: True}
PAIR = 0x92  # a list of two, with which every record of a stream begins


def is_flax(path: str | Path) -> bool:
    """Whether a file begins as a stream or a tree of Flax's arrays does: a path, or a name, comes first."""
    with open(path, "rb") as file:
        head = file.read(9)
    if len(head) < 9 or head[4:] == b"\0\0\0\0{":  # safetensors: the length of its JSON, and the JSON
        return False
    if head[0] == PAIR:
        return 0x90 <= head[1] <= 0x9F or head[1] in (0xDC, 0xDD)
    counted = {0xDE: 2, 0xDF: 4}.get(head[0], 0)  # bytes of the number of entries, after the code
    name = head[1 + counted]
    return (counted > 0 or 0x81 <= head[0] <= 0x8F) and (0xA0 <= name <= 0xBF or name in (0xD9, 0xDA, 0xDB))


def read_flax(path: str | Path, wanted: Callable[[str], bool] = lambda name: True) -> dict[str, Tensor]:
    """The arrays of a file by their path through the tree, joined by dots, in the types they have there.

    Args:
        path: A stream of records, or a tree in one piece.
        wanted: Says by name which arrays to read; of a stream, the others cost nothing.

    Raises:
        ValueError: if the file is truncated, no msgpack of Flax's, or names an array twice.
    """
    found: dict[str, Tensor] = {}
    with open(path, "rb") as file:
        try:
            # A copy on write, because torch warns of memory that it could not write to.
            data = mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_COPY)
        except ValueError as error:
            raise ValueError(f"{path} is empty: copy it again") from error
    try:
        for name, tensor in _arrays(data, wanted):
            if name in found:
                raise ValueError(f"{name} is there twice")
            found[name] = tensor
    except ValueError as error:
        raise ValueError(f"{path} is truncated or no msgpack of Flax's ({error}): copy it again") from error
    return found


def _arrays(data: mmap.mmap, wanted: Callable[[str], bool]) -> Iterator[tuple[str, Tensor]]:
    """Name and array of every leaf of a stream or a tree."""
    reader = _Reader(memoryview(data))
    if data[0] != PAIR:
        yield from _leaves(reader.value(), wanted)
        return
    while reader.at < len(data):
        record = reader.value()
        if not isinstance(record, list) or len(record) != 2 or not isinstance(record[0], list):
            raise ValueError(f"a record ends at byte {reader.at} that is no path and its array")
        name = ".".join(map(str, record[0]))
        if wanted(name):
            held = record[1]
            yield from _leaves(_Reader(held).value() if isinstance(held, memoryview) else held, wanted, name)


def _leaves(tree: Any, wanted: Callable[[str], bool], name: str = "") -> Iterator[tuple[str, Tensor]]:
    """Name and array of every leaf below `name`; leaves that are no arrays are passed over."""
    if isinstance(tree, Mapping) and CHUNKED not in tree:
        for key, branch in tree.items():
            yield from _leaves(branch, wanted, f"{name}.{key}" if name else str(key))
    elif wanted(name) and isinstance(tree, Mapping):
        yield name, _joined(tree, name)
    elif wanted(name) and isinstance(tree, _Array):
        yield name, tree.tensor(name)


def _joined(tree: Mapping[str, Any], name: str) -> Tensor:
    """An array that was written in chunks of its flat self; what is a tuple in Python has keys "0", "1"..."""
    chunks, shape = tree.get(CHUNKS), tree.get(SHAPE)
    if not isinstance(chunks, Mapping) or not isinstance(shape, Mapping):
        raise ValueError(f"{name} has no chunks")
    parts = [chunks.get(str(number)) for number in range(len(chunks))]
    sizes = [shape.get(str(axis)) for axis in range(len(shape))]
    if not all(isinstance(part, _Array) for part in parts) or not _are_sizes(sizes):
        raise ValueError(f"a chunk of {name} is missing")
    flat = torch.cat([part.tensor(name) for part in parts])
    if len(flat) != math.prod(sizes):
        raise ValueError(f"chunks of {name} hold {len(flat)} numbers, its shape is {tuple(sizes)}")
    return flat.view(sizes)


def _are_sizes(shape: Any) -> bool:
    return isinstance(shape, list) and all(type(size) is int and size >= 0 for size in shape)


class _Array:
    """Bytes of an array that nobody asked for yet."""

    def __init__(self, content: memoryview) -> None:
        self.content = content

    def tensor(self, name: str) -> Tensor:
        """The array, copied out of the file."""
        told = _Reader(self.content).value()
        if not isinstance(told, list) or len(told) != 3 or not _are_sizes(told[0]):
            raise ValueError(f"{name} is no shape, type and bytes")
        shape, kind, raw = told
        dtype = DTYPES.get(kind) if isinstance(kind, str) else None
        if dtype is None or not isinstance(raw, memoryview):
            raise ValueError(f"{name} is of type {kind!r}, expected one of {', '.join(DTYPES)}")
        if len(raw) != math.prod(shape) * dtype.itemsize:
            raise ValueError(f"{name} has {len(raw)} bytes, its shape is {tuple(shape)} of {kind}")
        if not raw:
            return torch.empty(shape, dtype=dtype)
        return torch.frombuffer(bytearray(raw), dtype=dtype).view(shape)


class _Reader:
    """Values of msgpack, one after the other; bytes stay where they are."""

    def __init__(self, data: memoryview) -> None:
        self.data = data
        self.at = 0

    def value(self, depth: int = 0) -> Any:
        """The next value: None, bool, number, str, memoryview, list, mapping, or an array of Flax's."""
        if depth > DEEPEST:
            raise ValueError(f"more than {DEEPEST} values inside one another")
        code = self._taken(1)[0]
        if code < 0x80 or code >= 0xE0:  # small numbers are their own code
            return code if code < 0x80 else code - 0x100
        if code in PLAIN:
            return PLAIN[code]
        if code in NUMBERS:
            return self._number(NUMBERS[code])
        if 0xD4 <= code <= 0xD8:  # extensions of 1, 2, 4, 8 and 16 bytes
            return self._extension(1 << (code - 0xD4))
        if code in COUNTED:
            what, form = COUNTED[code]
            return self._counted(what, self._number(form), depth)
        for low, high, what in SHORT:
            if low <= code <= high:
                return self._counted(what, code - low, depth)
        raise ValueError(f"byte {self.at - 1} is {code:#x}, which msgpack does not use")

    def _counted(self, what: str, count: int, depth: int) -> Any:
        if what == "bytes":
            return self._taken(count)
        if what == "extension":
            return self._extension(count)
        if what == "text":
            return str(self._taken(count), "utf-8")
        if what == "list":
            return [self.value(depth + 1) for _ in range(count)]
        mapping = {}
        for _ in range(count):
            key = self.value(depth + 1)
            if not isinstance(key, str | int) or key in mapping:
                raise ValueError(f"key {key!r} of a mapping is no name, or there twice")
            mapping[key] = self.value(depth + 1)
        return mapping

    def _extension(self, count: int) -> Any:
        """An array of Flax's; what other extensions hold is no weight, and becomes None."""
        kind = self._number(">b")
        content = self._taken(count)
        return _Array(content) if kind in ARRAYS else None

    def _number(self, form: str) -> Any:
        return struct.unpack(form, self._taken(struct.calcsize(form)))[0]

    def _taken(self, count: int) -> memoryview:
        """The next `count` bytes."""
        if self.at + count > len(self.data):
            raise ValueError(f"it ends at byte {len(self.data)} of a value that goes on")
        self.at += count
        return self.data[self.at - count : self.at]
