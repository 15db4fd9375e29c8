"""Fourier features of images."""

import math

import pytest
import torch

from diffusion.networks import FourierFeatures


def test_written_out():
    """Channels are x, then sin(2^n pi x) for all n and channels, then cosines."""
    x = torch.rand(2, 3, 4, 4) * 2 - 1
    features = FourierFeatures(first=1, last=2)
    found = features(x)
    angles = torch.cat((2 * math.pi * x, 4 * math.pi * x), 1)
    expected = torch.cat((x, angles.sin(), angles.cos()), 1)
    torch.testing.assert_close(found, expected)
    assert found.shape[1] == features.channels(3) == 15


def test_neighboring_levels_differ():
    """One level of 256 moves a pixel by 0.008 and its features by more than 1."""
    levels = torch.tensor([127.0, 128.0]).div(127.5).sub(1).view(2, 1, 1, 1)
    one, other = FourierFeatures()(levels)
    assert (one[0] - other[0]).abs() < 0.01 and (one - other).norm() > 1


def test_bad_frequencies():
    """An empty or absurd range is refused."""
    with pytest.raises(ValueError, match="first 3, last 2"):
        FourierFeatures(first=3, last=2)
