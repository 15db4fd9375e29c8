"""Two processes with half a batch each give the gradients of one with all of it: DDP and FSDP2, on CPUs."""

import importlib.util
import os
import socket
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

SCRIPT = Path(__file__).parent / "halves.py"


@pytest.fixture(scope="module")
def halves():
    """The script as a module."""
    spec = importlib.util.spec_from_file_location("halves", SCRIPT)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.fixture(scope="module")
def made(tmp_path_factory) -> dict[str, torch.Tensor]:
    """What two processes found, by way and name."""
    folder = tmp_path_factory.mktemp("two")
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = str(free.getsockname()[1])
    world = {"WORLD_SIZE": "2", "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": port, "OMP_NUM_THREADS": "1"}
    paths = {"PYTHONPATH": os.pathsep.join([str(SCRIPT.parents[4]), os.environ.get("PYTHONPATH", "")])}
    both = [
        subprocess.Popen(
            [sys.executable, str(SCRIPT), str(folder)],
            env=os.environ | world | paths | {"RANK": rank},
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )
        for rank in "01"
    ]
    told = [process.communicate(timeout=300)[0] for process in both]
    assert [process.returncode for process in both] == [0, 0], "\n".join(told)
    return load_file(folder / "made.safetensors")


@pytest.mark.parametrize("way", ["ddp", "fsdp2"])
def test_two_halves_make_the_whole(way, made, halves):
    """Loss and every gradient, of a tied head and a recomputed block too, to float32 rounding."""
    model = halves.objective()
    expected = {"loss": halves.backward(model, slice(0, 4)), **halves.gradients(model)}
    found = {name.removeprefix(f"{way}."): tensor for name, tensor in made.items() if name.startswith(way)}
    assert found.keys() == expected.keys()
    for name, tensor in expected.items():
        torch.testing.assert_close(found[name], tensor, atol=1e-6, rtol=1e-5)
