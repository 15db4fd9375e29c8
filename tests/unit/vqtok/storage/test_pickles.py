"""Other people's pickles: tensors come out, code does not run."""

import argparse
import builtins
import os
import pickle
import random
import zipfile
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest
import torch

from vqtok.storage.pickles import Inert, module_tensors, read_pickle


class Hostile:
    """Calls `function(*arguments)` when it is unpickled."""

    def __init__(self, function: Any, *arguments: Any) -> None:
        self.reduced = (function, arguments)

    def __reduce__(self) -> Any:
        return self.reduced


def test_plain_content(tmp_path: Path):
    """Tensors, numbers, strings and plain containers come back as they were."""
    content = {
        "state_dict": {"a.weight": torch.arange(6.0).view(2, 3)},
        "epoch": 3,
        "of": ["x", None],
    }
    torch.save(content, tmp_path / "a.ckpt")
    read = read_pickle(tmp_path / "a.ckpt")
    assert torch.equal(read["state_dict"]["a.weight"], content["state_dict"]["a.weight"])
    assert (read["epoch"], read["of"]) == (3, ["x", None])


@pytest.mark.parametrize("zipped", [True, False])
def test_settings_of_training_are_inert(zipped: bool, tmp_path: Path):
    """Known harmless objects become `Inert`, in old files and new; the tensors beside them are read."""
    content = {"model": {"a": torch.ones(2)}, "args": argparse.Namespace(lr=1e-4)}
    torch.save(content, tmp_path / "a.pt", _use_new_zipfile_serialization=zipped)
    read = read_pickle(tmp_path / "a.pt")
    assert torch.equal(read["model"]["a"], torch.ones(2))
    assert isinstance(read["args"], Inert) and read["args"].lr == 1e-4


@pytest.mark.parametrize("zipped", [True, False])
@pytest.mark.parametrize(
    ("function", "argument"),
    [
        (os.system, "touch {}"),
        (builtins.eval, "open('{}', 'w')"),
        (builtins.exec, "open('{}', 'w')"),
        (Path.touch, Path("{}")),
    ],
)
def test_a_hostile_pickle_does_not_run(zipped: bool, function: Any, argument: Any, tmp_path: Path):
    """Code in a checkpoint is named and refused, and was not run."""
    ran = tmp_path / "ran"
    hostile = Hostile(function, type(argument)(str(argument).format(ran)))
    content = {"state_dict": {"a": torch.ones(2)}, "x": hostile}
    torch.save(content, tmp_path / "a.ckpt", _use_new_zipfile_serialization=zipped)
    with pytest.raises(ValueError, match=r"a.ckpt holds [\w.]+, which is code and was not run"):
        read_pickle(tmp_path / "a.ckpt")
    assert not ran.exists()
    pickle.loads(pickle.dumps(hostile))  # as it would have
    assert ran.exists()


def test_a_hostile_plain_pickle_does_not_run(tmp_path: Path):
    """Nor in a file that `pickle` wrote, without any tensor in it."""
    ran = tmp_path / "ran"
    (tmp_path / "a.pkl").write_bytes(pickle.dumps(Hostile(os.system, f"touch {ran}"), protocol=2))
    with pytest.raises(ValueError, match="a.pkl holds posix.system, which is code"):
        read_pickle(tmp_path / "a.pkl")
    assert not ran.exists()


def test_a_stand_in_does_nothing(tmp_path: Path):
    """What stands for a known class takes any arguments and state, and its real class is never made."""
    torch.save({"x": Hostile(argparse.Namespace)}, tmp_path / "a.pt")
    made = read_pickle(tmp_path / "a.pt")["x"]
    assert type(made) is Inert
    made.__setstate__([1, 2])
    assert vars(made) == {}


def test_modules_are_read_as_tensors(tmp_path: Path):
    """Of a pickled module nothing is left but names and tensors, parameters and buffers."""
    content = torch.nn.Sequential(torch.nn.ReLU(), torch.nn.Sequential(torch.nn.Identity()))
    content[1].register_buffer("mean", torch.ones(3))
    content.register_parameter("scale", torch.nn.Parameter(torch.zeros(2)))
    torch.save(content, tmp_path / "a.pkl")
    read = read_pickle(tmp_path / "a.pkl")
    assert isinstance(read, Inert)
    tensors = dict(module_tensors(read))
    assert {name: tensor.tolist() for name, tensor in tensors.items()} == {
        "scale": [0, 0],
        "1.mean": [1, 1, 1],
    }
    assert not tensors["scale"].requires_grad


def test_damaged_files(tmp_path: Path):
    """Truncated, empty, foreign files and TorchScript are ValueErrors with the file's name."""
    torch.save({"a": torch.ones(1000)}, tmp_path / "whole.pt")
    whole = (tmp_path / "whole.pt").read_bytes()
    torch.save({"a": torch.ones(1000)}, tmp_path / "old.pt", _use_new_zipfile_serialization=False)
    old = (tmp_path / "old.pt").read_bytes()
    contents = {"half": whole[: len(whole) // 2], "empty": b"", "text": b"not a checkpoint at all\n" * 9}
    contents |= {"old half": old[: len(old) // 2], "nearly": whole[:-30], "old nearly": old[:-30]}
    for name, content in contents.items():
        (tmp_path / f"{name}.pt").write_bytes(content)
        with pytest.raises(ValueError, match=f"{name}.pt is (truncated|damaged) or no checkpoint of torch's"):
            read_pickle(tmp_path / f"{name}.pt")
    rng = random.Random(0)
    for content in 150 * (whole, old):
        damaged = bytearray(content)
        damaged[rng.randrange(500)] ^= 1 << rng.randrange(8)
        (tmp_path / "damaged.pt").write_bytes(damaged)
        with suppress(ValueError):  # some changes leave it readable; nothing else may be raised
            read_pickle(tmp_path / "damaged.pt")
    with zipfile.ZipFile(tmp_path / "script.pt", "w") as archive:
        archive.writestr("script/data.pkl", b"")
        archive.writestr("script/constants.pkl", b"")
    with pytest.raises(ValueError, match="script.pt is truncated or no checkpoint"):
        read_pickle(tmp_path / "script.pt")
