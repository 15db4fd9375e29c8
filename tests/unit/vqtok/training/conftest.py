"""The toy run of toy.py, in this process, in two processes, or in a process of its own."""

import importlib.util
import json
import os
import socket
import subprocess
import sys
from pathlib import Path

import pytest
from accelerate.state import AcceleratorState
from safetensors.torch import load_file

HERE = Path(__file__).parent
ROOT = HERE.parents[3]


def _environment(device="cpu", **more):
    """Of a process that tests start; one that sees a GPU could not fork."""
    path = os.pathsep.join([str(ROOT), str(HERE)])
    shared = {**os.environ, "PYTHONPATH": path, "OMP_NUM_THREADS": "1", "ACCELERATE_USE_CPU": "0"}
    return {
        **shared,
        **({"ACCELERATE_USE_CPU": "1", "CUDA_VISIBLE_DEVICES": ""} if device == "cpu" else {}),
        **more,
    }


@pytest.fixture(scope="session", autouse=True)
def cpu():
    """These tests and the processes they start compute on the CPU, where equal means in each bit."""
    patch = pytest.MonkeyPatch()
    patch.setenv("ACCELERATE_USE_CPU", "1")
    AcceleratorState._reset_state(reset_partial_state=True)
    yield
    AcceleratorState._reset_state(reset_partial_state=True)
    patch.undo()


@pytest.fixture(scope="session")
def toy():
    """The module toy.py."""
    spec = importlib.util.spec_from_file_location("toy", HERE / "toy.py")
    module = importlib.util.module_from_spec(spec)
    sys.modules["toy"] = module  # where dataclasses look for it
    spec.loader.exec_module(module)
    return module


@pytest.fixture(scope="session")
def script():
    """Run one of the scripts of this folder to its end; returns what it printed."""

    def run(name, *arguments, device="cpu"):
        command = [sys.executable, str(HERE / name), *arguments]
        done = subprocess.run(command, env=_environment(device), capture_output=True, text=True, timeout=540)
        assert done.returncode == 0, done.stderr
        return done.stdout

    return run


@pytest.fixture(scope="session")
def pair():
    """Train each of some configurations with two processes; returns the result of each."""

    def run(configurations):
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            port = str(free.getsockname()[1])
        text = json.dumps([{**options, "processes": 2} for options in configurations])
        world = {"WORLD_SIZE": "2", "LOCAL_WORLD_SIZE": "2", "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": port}
        both = [
            subprocess.Popen(
                [sys.executable, str(HERE / "toy.py"), text],
                env=_environment(RANK=rank, LOCAL_RANK=rank, **world),
                stdout=subprocess.PIPE,
                stderr=subprocess.STDOUT,
                text=True,
            )
            for rank in "01"
        ]
        told = [process.communicate(timeout=300)[0] for process in both]
        assert [process.returncode for process in both] == [0, 0], "\n".join(told)
        results = [Path(options["folder"], "result.safetensors") for options in configurations]
        return [load_file(path) if path.exists() else None for path in results]

    return run
