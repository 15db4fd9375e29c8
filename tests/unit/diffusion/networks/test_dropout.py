"""Dropout from fewer random bits."""

import pytest
import torch

from diffusion.networks.dropout import Dropout


@pytest.mark.parametrize("share", [0.1, 0.5, 0.9])
def test_share_and_mean(share):
    """A share p is zero and the mean stays, to within 5 standard deviations; the rest is x / (1 - p)."""
    x = torch.ones(4, 32, 25, 25).contiguous(memory_format=torch.channels_last)
    out = Dropout(share).train()(x)
    error = 5 * (share * (1 - share) / x.numel()) ** 0.5
    assert (out == 0).float().mean().item() == pytest.approx(share, abs=error)
    assert set(out.unique().tolist()) == {0.0, torch.tensor(1.0).div(1 - share).item()}
    assert out.is_contiguous(memory_format=torch.channels_last)


def test_numbers_are_dropped_independently():
    """Neighbors, which come from the same 64 random bits, are dropped together as often as others."""
    kept = (Dropout(0.5).train()(torch.ones(1, 64, 100, 100)) != 0).movedim(1, -1).flatten().float() - 0.5
    for distance in range(1, 9):
        product = (kept[distance:] * kept[:-distance]).mean().item() * 4
        assert abs(product) < 5 / 640_000**0.5


def test_the_gradient_is_dropped_alike():
    """What is zero has no gradient, the rest that of x / (1 - p)."""
    x = torch.randn(2, 8, 5, 7, requires_grad=True)
    out = Dropout(0.3).train()(x)
    out.sum().backward()
    torch.testing.assert_close(x.grad, (out != 0) / torch.tensor(0.7))


def test_seeded_and_off():
    """A seed repeats it; evaluation and p = 0 change nothing."""
    x, layer = torch.randn(2, 8, 4, 4), Dropout(0.5)
    first, second = (layer.train()(torch.manual_seed(1) and x) for _ in range(2))
    assert torch.equal(first, second)
    assert layer.eval()(x) is x and torch.equal(Dropout(0.0).train()(x), x)
