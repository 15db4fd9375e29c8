"""Pickled numpy arrays: numbers come out, code does not run."""

import os
import pickle
import random
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from vqtok.storage.arrays import read_arrays

MATRIX = np.arange(6, dtype=np.float32).reshape(2, 3)


class Hostile:
    """Calls `function(*arguments)` when it is unpickled."""

    def __init__(self, function: Any, *arguments: Any) -> None:
        self.reduced = (function, arguments)

    def __reduce__(self) -> Any:
        return self.reduced


@pytest.fixture
def save(tmp_path: Path) -> Any:
    """Pickle something."""

    def save(content: Any, protocol: int = 4) -> Path:
        (tmp_path / "params.pkl").write_bytes(pickle.dumps(content, protocol=protocol))
        return tmp_path / "params.pkl"

    return save


@pytest.mark.parametrize("protocol", range(pickle.HIGHEST_PROTOCOL + 1))
def test_arrays_come_back(protocol: int, save: Any):
    """Of every protocol, in rows or columns, either order of bytes, flat by tuples or in mappings."""
    held = {
        ("a", "b"): MATRIX,
        "c": {"turned": MATRIX.T, "half": MATRIX.astype(">f2"), "bits": MATRIX > 2, "none": MATRIX[:0]},
        "step": 7,
    }
    found = read_arrays(save(held, protocol))
    expected = {"a.b": MATRIX, "c.turned": MATRIX.T, "c.half": MATRIX.astype("f2")}
    expected |= {"c.bits": MATRIX > 2, "c.none": MATRIX[:0]}
    assert found.keys() == expected.keys()
    for name, array in expected.items():
        assert torch.equal(found[name], torch.from_numpy(np.ascontiguousarray(array)))


@pytest.mark.parametrize("function", [os.system, eval, getattr, np.load, np.fromfile])
def test_code_is_not_run(function: Any, save: Any, tmp_path: Path):
    """Whatever a file calls is named, and not called."""
    path = save({"a": Hostile(function, f"touch {tmp_path / 'ran'}")})
    with pytest.raises(
        ValueError, match=rf"params.pkl holds \S*{function.__name__}, which is code and was not run"
    ):
        read_arrays(path)
    assert not (tmp_path / "ran").exists()


@pytest.mark.parametrize("named", ["numpy\nndarray", "numpy\ndtype", "_codecs\nencode", "__builtin__\nbytes"])
def test_stand_ins_cannot_be_changed(named: str, save: Any):
    """A file that gives attributes to what it names is refused, and the next one is read as ever."""
    path = save({})
    for state in (b"}X\x06\x00\x00\x00tensorK\x05s", b"N}X\x06\x00\x00\x00tensorK\x05s\x86"):
        path.write_bytes(b"\x80\x02c" + named.encode() + b"\n" + state + b"b.")
        with pytest.raises(ValueError, match="no pickle of numpy arrays"):
            read_arrays(path)
    assert torch.equal(read_arrays(save({"a": MATRIX}, 2))["a"], torch.from_numpy(MATRIX))


def test_objects_inside_arrays_are_refused(save: Any):
    """Arrays of objects would hold anything."""
    with pytest.raises(ValueError, match="a is no array of plain numbers"):
        read_arrays(save({"a": np.array([{}, []], dtype=object)}))
    with pytest.raises(ValueError, match="is of type 'U1', expected one of f2"):
        read_arrays(save({"a": np.array("x")}))


def test_other_content_is_refused(save: Any):
    """No arrays, a name twice, a mapping that holds itself, no pickle at all."""
    with pytest.raises(ValueError, match="holds no numpy arrays by name"):
        read_arrays(save([1, 2]))
    with pytest.raises(ValueError, match=r"holds a\.b twice"):
        read_arrays(save({("a", "b"): MATRIX, "a": {"b": MATRIX}}))
    circle: dict[str, Any] = {}
    circle["x"] = circle
    with pytest.raises(ValueError, match="more than 64 mappings inside one another"):
        read_arrays(save(circle))
    path = save({})
    path.write_bytes(b"PK\x03\x04")
    with pytest.raises(ValueError, match="params.pkl is truncated or no pickle of numpy arrays"):
        read_arrays(path)
    with pytest.raises(FileNotFoundError):
        read_arrays(path.with_name("absent.pkl"))


def test_changed_bytes_never_crash(save: Any):
    """Any byte changed, or any end cut off: arrays or a ValueError."""
    path = save({"a": MATRIX, "b": {"c": MATRIX.T}})
    whole, rng = path.read_bytes(), random.Random(0)
    for _ in range(500):
        content = bytearray(whole)
        content[rng.randrange(len(content))] = rng.randrange(256)
        path.write_bytes(content[: rng.choice([len(content), rng.randrange(len(content))])])
        try:
            read_arrays(path)
        except ValueError as error:
            assert "params.pkl" in str(error)
