"""What every test stands on: no network, one CPU thread, a fixed seed, GPU tests that skip themselves.

One thread because the tensors are tiny, and because sums then round the same way on every machine.
"""

import os

os.environ.setdefault("OMP_NUM_THREADS", "1")  # before torch starts its pool; child processes inherit it
os.environ.setdefault("HF_HUB_OFFLINE", "1")  # before huggingface_hub reads it; no test needs a hub

import pytest
import torch

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
