"""What decoders give to levels: probabilities that sum to 1, exact far from the mean, with gradients."""

import math

import pytest
import torch

from diffusion.decoders import DiscretizedGaussian, GaussianDensity, Softmax256, discretized_gaussian
from diffusion.pixels import levels
from diffusion.process import Estimate
from diffusion.schedules import LinearConfig

ALL = torch.arange(256, dtype=torch.float64) / 127.5 - 1


@pytest.mark.parametrize("mean", [-3.0, -1.0, -0.2, 0.0, 0.7, 1.0, 5.0])
@pytest.mark.parametrize("deviation", [1e-3, 0.01, 0.3, 2.0, 50.0])
@pytest.mark.parametrize("dtype", [torch.float64, torch.float32])
def test_levels_sum_to_one(mean, deviation, dtype):
    """All 256 together have probability 1, because the ends are open: in float32 to 1e-4, else to 1e-12."""
    x_0 = ALL.to(dtype)
    log_variance = torch.full_like(x_0, 2 * math.log(deviation))
    found = discretized_gaussian(x_0, torch.full_like(x_0, mean), log_variance)
    assert float(found.exp().sum()) == pytest.approx(1, abs=1e-12 if dtype == torch.float64 else 1e-4)


def test_tails_are_exact():
    """A level 60 deviations away has a log probability of about -1800, on either side, and not of -inf."""
    x_0 = torch.tensor([0.6, -0.6], dtype=torch.float64)
    found = discretized_gaussian(x_0, torch.zeros(2, dtype=torch.float64), torch.full((2,), -9.21034))
    edge = (0.6 - 1 / 255) / 0.01
    wanted = -edge**2 / 2 - math.log(edge * math.sqrt(2 * math.pi))
    assert found.tolist() == [pytest.approx(wanted, rel=1e-4)] * 2


@pytest.mark.parametrize("spread", [-40.0, 0.0, 40.0])
def test_gradients_are_finite(spread):
    """In float32, for means far away and for variances far too small or too large."""
    x_0 = ALL.float().repeat(3, 1)
    mean = torch.tensor([[-20.0], [0.0], [20.0]]).expand(3, 256).clone().requires_grad_()
    log_variance = torch.full((3, 256), spread, requires_grad=True)
    discretized_gaussian(x_0, mean, log_variance).sum().backward()
    assert mean.grad.isfinite().all() and log_variance.grad.isfinite().all()


@pytest.mark.parametrize("deviation", [0.5, 5e-3, 1e-4])
def test_gradients_hold_in_the_tail(deviation):
    """Of a mean two away from its level, up to 20,000 deviations: as in float64, the squared distance's."""
    found = []
    for dtype in (torch.float32, torch.float64):
        x_0 = torch.tensor([-0.9, -0.3, 0.3, 0.9], dtype=dtype)
        mean = (x_0 + torch.tensor([2, -2, 2, -2], dtype=dtype)).requires_grad_()
        discretized_gaussian(x_0, mean, torch.full_like(x_0, 2 * math.log(deviation))).sum().backward()
        found.append(mean.grad.double())
    assert torch.allclose(found[0], found[1], rtol=1e-3)
    assert torch.allclose(found[1].abs(), torch.full((4,), (2 - 1 / 255) / deviation**2).double(), rtol=0.02)


def test_softmax_is_bayes_over_levels():
    """q(x_1 | level), of all levels alike, normalized; 256 probabilities sum to 1."""
    schedule = LinearConfig().build()
    x_1 = torch.full((256, 1, 1, 1), 0.123, dtype=torch.float64)
    x_0 = ALL.view(256, 1, 1, 1)
    found = Softmax256().log_likelihood(schedule, x_0, x_1, None).flatten()
    assert float(found.exp().sum()) == pytest.approx(1, abs=1e-12)
    bar = float(schedule.alpha_bar[1])
    scores = -((0.123 - math.sqrt(bar) * ALL) ** 2) / (2 * (1 - bar))
    assert torch.allclose(found, scores.log_softmax(0))


def test_density_is_the_normal_one():
    """As torch has it."""
    mean, log_variance, x_0 = torch.randn(3, 2, 1, 3, 3, dtype=torch.float64)
    wanted = torch.distributions.Normal(mean, (log_variance / 2).exp()).log_prob(x_0)
    estimate = Estimate(mean, mean, mean, log_variance)
    assert torch.allclose(GaussianDensity().log_likelihood(None, x_0, mean, estimate), wanted)


@pytest.mark.parametrize("decoder", [DiscretizedGaussian(), Softmax256()])
def test_only_levels_have_a_probability(decoder):
    """Pictures of 8 bits are read exactly; what lies between levels is refused, with the way out."""
    images = torch.arange(256).view(1, 1, 16, 16).float() / 255
    assert torch.equal(levels(decoder.read(images)).flatten(), torch.arange(256))
    with pytest.raises(ValueError, match=r"0\.50 of a step away from 256 levels.*round them"):
        decoder.read(images.clamp(max=0.9) + 0.5 / 255)
    assert torch.equal(GaussianDensity().read(images * 7), images * 7)
