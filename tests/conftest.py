"""What every test stands on: no network, one CPU thread, a fixed seed, GPU tests that skip themselves.

One thread because the tensors are tiny, and because sums then round the same way on every machine.
"""

import os
import socket
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

os.environ.setdefault("OMP_NUM_THREADS", "1")  # before torch starts its pool; child processes inherit it
os.environ.setdefault("HF_HUB_OFFLINE", "1")  # before huggingface_hub reads it; no test needs a hub

import pytest
import torch

ROOT = Path(__file__).parents[1]

torch.set_num_threads(1)


@pytest.fixture(autouse=True)
def seeded() -> None:
    """Global randomness starts from 0 in every test, so that no test depends on which ran before it."""
    torch.manual_seed(0)


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Tests marked gpu skip themselves where there is no CUDA device."""
    if torch.cuda.is_available():
        return
    for item in items:
        if item.get_closest_marker("gpu"):
            item.add_marker(pytest.mark.skip(reason="needs a CUDA device"))


@pytest.fixture
def start_two() -> Callable[[str, Path], Callable[[], None]]:
    """Starts a trainer's module on a recipe in two processes; what it returns waits for them to end well."""

    def start(module: str, recipe: Path) -> Callable[[], None]:
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            port = free.getsockname()[1]
        shared = {
            "WORLD_SIZE": "2",
            "LOCAL_WORLD_SIZE": "2",
            "MASTER_ADDR": "127.0.0.1",
            "MASTER_PORT": str(port),
        }
        shared |= {"ACCELERATE_USE_CPU": "1", "CUDA_VISIBLE_DEVICES": "", "OMP_NUM_THREADS": "1"}
        both = [
            subprocess.Popen(
                [sys.executable, "-m", module, "--config", str(recipe)],
                env={**os.environ, **shared, "RANK": rank, "LOCAL_RANK": rank, "PYTHONPATH": str(ROOT)},
                stdout=subprocess.PIPE,
                stderr=subprocess.STDOUT,
                text=True,
            )
            for rank in "01"
        ]

        def join() -> None:
            told = [process.communicate(timeout=300)[0] for process in both]
            assert [process.returncode for process in both] == [0, 0], "\n".join(told)

        return join

    return start
