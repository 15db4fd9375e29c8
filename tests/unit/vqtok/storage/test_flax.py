"""Flax's msgpack: arrays come out by name, and whatever is damaged is refused."""

import random
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch

from vqtok.storage.flax import is_flax, read_flax

ARRAYS = {
    "transformer.wte.embedding": np.arange(12, dtype=np.float32).reshape(4, 3),
    "transformer.h.0.kernel": np.arange(6, dtype=np.float16).reshape(2, 3) / 7,
    "step": np.array(7, dtype=np.int32),
    "none": np.zeros((0, 5), dtype=np.float64),
}
# By hand after the specification: (["a"], bytes of extension 1: [[2], "bfloat16", 1.0 and -2.0]).
BFLOAT16 = b"\x92\x91\xa1a\xc4\x15\xc7\x12\x01\x93\x91\x02\xa8bfloat16\xc4\x04\x80\x3f\x00\xc0"


@pytest.mark.parametrize("stream", [True, False])
def test_arrays_come_back(stream: bool, write_flax: Callable, tmp_path: Path):
    """Names, types, shapes and numbers, of a stream and of a tree; those that are not wanted stay out."""
    path = write_flax(tmp_path / "streaming_params", ARRAYS, stream)
    assert is_flax(path)
    found = read_flax(path)
    assert list(found) == list(ARRAYS) or not stream
    for name, array in ARRAYS.items():
        assert (
            torch.equal(found[name], torch.from_numpy(array))
            and found[name].dtype == torch.from_numpy(array).dtype
        )
    assert list(read_flax(path, wanted=lambda name: name == "step")) == ["step"]


def test_short_forms(tmp_path: Path):
    """Forms that msgpack keeps for short values, and a type that numpy lacks, byte by byte."""
    (tmp_path / "short").write_bytes(BFLOAT16)
    found = read_flax(tmp_path / "short")
    assert torch.equal(found["a"], torch.tensor([1.0, -2.0], dtype=torch.bfloat16))


def test_what_is_no_array_is_passed_over(tmp_path: Path):
    """Numbers of every size, text, bytes, lists and unknown extensions; the array after them is read."""
    numbers = [b"\x01", b"\xff", b"\xcc\x80", b"\xcd\x01\x00", b"\xce" + bytes(4), b"\xcf" + bytes(8)]
    numbers += [b"\xd0\x80", b"\xd1\x80\x00", b"\xd2" + bytes(4), b"\xd3" + bytes(8)]
    numbers += [b"\xca" + bytes(4), b"\xcb" + bytes(8), b"\xc0", b"\xc2", b"\xc3"]
    others = [b"\xd4\x05x", b"\xd8\x05" + bytes(16), b"\xd9\x01x", b"\xc5\x00\x01x", b"\x91\x01", b"\x80"]
    values = b"\xdc" + bytes([0, len(numbers + others)]) + b"".join(numbers + others)
    (tmp_path / "tree").write_bytes(b"\x82\xa1x" + values + b"\xa1a" + BFLOAT16[6:])
    assert list(read_flax(tmp_path / "tree")) == ["a"]


def test_an_array_in_chunks(write_flax: Callable, tmp_path: Path):
    """Flax cuts what is larger than 1 GiB into pieces of its flat self; they become one array again."""
    whole = np.arange(20, dtype=np.float32)
    tree = {"w.__msgpack_chunked_array__": 1, "w.shape.0": 4, "w.shape.1": 5}
    tree |= {"w.chunks.0": whole[:13], "w.chunks.1": whole[13:]}
    path = write_flax(tmp_path / "params", tree, stream=False)
    assert torch.equal(read_flax(path)["w"], torch.arange(20.0).view(4, 5))
    for change, told in (
        ({"w.shape.1": 6}, r"hold 20 numbers"),
        ({"w.chunks.1": 3}, "a chunk of w is missing"),
    ):
        with pytest.raises(ValueError, match=told):
            read_flax(write_flax(tmp_path / "params", tree | change, stream=False))


@pytest.mark.parametrize(
    ("content", "told"),
    [
        (b"", "is empty"),
        (BFLOAT16[:-1], "it ends at byte 26 of a value that goes on"),
        (BFLOAT16 + b"\x92", "it ends at byte 28"),
        (BFLOAT16 * 2, "a is there twice"),
        (BFLOAT16.replace(b"bfloat16", b"object64"), "a is of type 'object64', expected one of bfloat16"),
        (BFLOAT16.replace(b"\x91\x02", b"\x91\x03"), "a has 4 bytes, its shape is .3,. of bfloat16"),
        (BFLOAT16.replace(b"\x91\x02", b"\x91\xff"), "a is no shape, type and bytes"),
        (BFLOAT16 + b"\x07", "a record ends at byte 28 that is no path"),
        (b"\x92" + b"\x91" * 100, "more than 64 values inside one another"),
        (b"\x92\xc1", "byte 1 is 0xc1, which msgpack does not use"),
        (b"\x82\xa1a\x01\xa1a\x02", "key 'a' of a mapping is no name, or there twice"),
        (b"\x81\xc0\x01", "key None of a mapping is no name"),
    ],
)
def test_damaged_files(content: bytes, told: str, tmp_path: Path):
    """What is wrong is said, with the file; nothing but a ValueError comes out."""
    (tmp_path / "params").write_bytes(content)
    with pytest.raises(ValueError, match=f"params is .*{told}|params {told}"):
        read_flax(tmp_path / "params")


def test_changed_bytes_never_crash(write_flax: Callable, tmp_path: Path):
    """Any byte changed, or any end cut off: arrays or a ValueError."""
    whole = write_flax(tmp_path / "whole", {name: ARRAYS[name] for name in list(ARRAYS)[:2]}).read_bytes()
    rng = random.Random(0)
    for _ in range(500):
        content = bytearray(whole)
        content[rng.randrange(len(content))] = rng.randrange(256)
        (tmp_path / "broken").write_bytes(content[: rng.choice([len(content), rng.randrange(len(content))])])
        try:
            read_flax(tmp_path / "broken")
        except ValueError as error:
            assert "broken is" in str(error)


def test_other_files_are_none(tmp_path: Path):
    """Pickles, archives, safetensors of whatever length of JSON, and empty files begin otherwise."""
    others = [b"\x80\x04", b"PK\x03\x04", b"\x90", b"\x92\x01", b"\x81\x01", b"\xde\x00\x01\xc0"]
    lengths = [b"\x92\x91", b"\x88\xa5", b"\xde\x00\xa1"]
    others += [length + bytes(8 - len(length)) + b'{"a"' for length in lengths]
    for first in others:
        (tmp_path / "other").write_bytes(first + bytes(9) if len(first) < 9 else first)
        assert not is_flax(tmp_path / "other")
    (tmp_path / "other").write_bytes(b"")
    assert not is_flax(tmp_path / "other")
