"""DDPM's process with any target and variance, and exact networks for two Gaussians."""

from collections.abc import Callable

import pytest
import torch

from diffusion.oracle import GaussianOracle
from diffusion.process import Process, ProcessConfig

MEANS = torch.tensor([[[-0.5, 0.0], [0.3, 0.8]]], dtype=torch.float64)
VARIANCES = torch.tensor([[[0.01, 0.25], [0.5, 1.0]]], dtype=torch.float64)
ZERO = torch.zeros(1, 2, 2, dtype=torch.float64)
DATA = {
    "N(0, 0.5^2)": (ZERO, ZERO + 0.25),
    "pixels of their own": (MEANS, VARIANCES),
}


@pytest.fixture
def make() -> Callable[..., Process]:
    """Make a process; keywords are those of its configuration."""
    return lambda **settings: ProcessConfig(**settings).build()


@pytest.fixture(params=DATA.values(), ids=DATA)
def data(request: pytest.FixtureRequest) -> tuple[torch.Tensor, torch.Tensor]:
    """Mean and variance (1, 2, 2) float64 of the pixels of pictures."""
    return request.param


@pytest.fixture
def oracle(data: tuple[torch.Tensor, torch.Tensor]) -> Callable[[Process], GaussianOracle]:
    """Make the network that is exact for those pictures."""
    return lambda process: GaussianOracle(process, *data)
