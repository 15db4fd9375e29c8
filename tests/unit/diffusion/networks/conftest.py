"""What tests of diffusion share: networks that are small, and not all zeros."""

import pytest
import torch

from diffusion.networks import ClassesConfig, DiTConfig, UNetConfig

SMALL = {
    "unet": UNetConfig(channels=32, multipliers=(1, 2), blocks=1, classes=ClassesConfig(count=5)),
    "dit": DiTConfig(size=16, patch=4, width=32, depth=2, heads=2, classes=ClassesConfig(count=5)),
}


def moved(network):
    """`network` with every weight moved, those that begin at zero too, in evaluation mode."""
    with torch.no_grad():
        for weight in network.parameters():
            weight.add_(torch.randn_like(weight) * 0.05)
    return network.eval()


@pytest.fixture(params=SMALL.values(), ids=SMALL)
def config(request):
    """Of one network of each kind, with 5 classes."""
    return request.param


@pytest.fixture
def network(config):
    """With all weights drawn."""
    return moved(config.build())
