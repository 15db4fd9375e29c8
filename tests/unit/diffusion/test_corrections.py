"""Clipping and dynamic thresholding."""

import pytest
import torch

from diffusion.corrections import Clip, DynamicThreshold

X = torch.randn(3, 2, 10, 10, generator=torch.Generator().manual_seed(0))


def test_clip():
    """Beyond the limit it is the limit, within nothing changes."""
    found = Clip(limit=0.7)(X)
    assert float(found.abs().max()) == pytest.approx(0.7)
    assert torch.equal(found[X.abs() < 0.7], X[X.abs() < 0.7])


def test_threshold_is_each_pictures_own():
    """A picture within [-1, 1] stays; another is cut at its quantile and divided by it."""
    x = torch.stack((X[0] / 10, X[1] * 5))
    found = DynamicThreshold(quantile=0.9)(x)
    assert torch.equal(found[0], x[0])
    limit = x[1].abs().flatten().sort().values[179]
    assert torch.allclose(found[1], x[1].clamp(-limit, limit) / limit)
    assert torch.equal(DynamicThreshold(quantile=0.9)(x[1:])[0], found[1])


@pytest.mark.parametrize("make", [lambda: Clip(limit=0), lambda: DynamicThreshold(quantile=1.5)])
def test_settings_that_cannot_be(make):
    """No limit, no share."""
    with pytest.raises(ValueError, match=r"is not above 0|is outside \(0, 1\]"):
        make()
