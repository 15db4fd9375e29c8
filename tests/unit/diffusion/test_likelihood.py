"""The bound: three terms that add up to -log p where the network is exact, and an estimate beside the sum."""

import math

import pytest
import torch

from diffusion.corrections import Clip
from diffusion.decoders import GaussianDensity, Softmax256
from diffusion.likelihood import Measuring, elbo, prior_matching
from diffusion.oracle import GaussianOracle
from diffusion.schedules import CosineConfig, LinearConfig, ScaledLinearConfig
from diffusion.targets import MeanTarget, VelocityTarget
from diffusion.variances import LearnedRange, SmallVariance

DENSITY = Measuring(decoder=GaussianDensity())
HALF = torch.zeros(1, 4, 4, dtype=torch.float64), torch.full((1, 4, 4), 0.25, dtype=torch.float64)


def generator(seed: int = 0) -> torch.Generator:
    """On the CPU."""
    return torch.Generator().manual_seed(seed)


def pictures(count: int = 6) -> torch.Tensor:
    """(count, 3, 4, 4) of 256 levels."""
    return torch.randint(256, (count, 3, 4, 4), generator=generator()).float() / 255


def network(x, t, labels):
    """Wrong, but not absurd: noise is what x is."""
    return x


def test_three_terms_are_minus_log_p(make):
    """1000 linear steps, x_0 ~ N(0, 0.5^2): the sum is -log p of the very pictures, within 4 standard errors.

    Expected: reconstruction -4.60, prior 1e-5, denoising 5.65; entropy 1.0471 bits per dimension.
    """
    process = make(variance=LearnedRange())
    oracle = GaussianOracle(process, *HALF)
    x_0 = oracle.sample(600, generator())
    bound = elbo(process, oracle, x_0, generator(1), measuring=DENSITY)
    truth = -oracle.log_likelihood(x_0) / 16 / math.log(2)
    gap = bound.total - truth
    assert abs(float(gap.mean())) < 4 * float(gap.std()) / math.sqrt(600) < 0.06
    assert float(truth.mean()) == pytest.approx(1.0471, abs=0.03)
    assert float(bound.reconstruction.mean()) == pytest.approx(-4.595, abs=0.03)
    assert float(bound.prior.mean()) == pytest.approx(7e-6, rel=0.1)
    assert float(bound.denoising.mean()) == pytest.approx(5.650, abs=0.06)


@pytest.mark.parametrize("target", [VelocityTarget(), MeanTarget()], ids=lambda target: target.kind)
def test_three_terms_of_pixels_of_their_own(make, oracle, data, target):
    """Means and variances of pixels differ, a hundred cosine steps: -log p too, within 4 standard errors."""
    process = make(variance=LearnedRange(), target=target, schedule=CosineConfig(steps=100))
    exact = oracle(process)
    x_0 = exact.sample(4000, generator())
    bound = elbo(process, exact, x_0, generator(1), measuring=DENSITY)
    gap = bound.total + exact.log_likelihood(x_0) / 4 / math.log(2)
    assert abs(float(gap.mean())) < 4 * float(gap.std()) / math.sqrt(4000) < 0.08


@pytest.mark.parametrize(
    ("config", "bits"),
    [(LinearConfig(), 7.3e-6), (CosineConfig(), 4.4e-10), (ScaledLinearConfig(), 8.5e-4)],
    ids=["linear", "cosine", "scaled_linear"],
)
def test_prior_matching_of_schedules(config, bits):
    """Of pictures of mean square 0.25: latent diffusion's schedule does not end in pure noise."""
    x_0 = torch.full((2, 1, 3, 3), 0.5)
    schedule = config.build()
    bar = float(schedule.alpha_bar[-1])
    exact = (bar * 0.25 - bar - math.log1p(-bar)) / 2 / math.log(2)
    assert prior_matching(schedule, x_0).tolist() == [pytest.approx(exact, rel=1e-6)] * 2
    assert exact == pytest.approx(bits, rel=0.03)


def test_a_worse_variance_costs_bits(make):
    """A fixed variance, which is not the true one, makes the bound larger; a wrong network much larger."""
    found = {}
    for name, variance in (("learned", LearnedRange()), ("small", SmallVariance())):
        process = make(variance=variance, schedule=LinearConfig(steps=100))
        oracle = GaussianOracle(process, *HALF)
        x_0 = oracle.sample(300, generator())
        found[name] = elbo(process, oracle, x_0, generator(1), measuring=DENSITY).mean
    wrong = elbo(process, network, x_0, generator(1), measuring=DENSITY).mean
    assert found["learned"] < found["small"] < wrong


@pytest.mark.parametrize("times", [1, 7, 40])
def test_the_estimate_is_unbiased(make, times):
    """From a few stretches of times, within 4 of its own standard errors of the sum over all."""
    process = make(schedule=LinearConfig(steps=100))
    oracle = GaussianOracle(process, *HALF)
    x_0 = oracle.sample(2000, generator())
    exact = elbo(process, oracle, x_0, generator(1), measuring=DENSITY)
    measuring = Measuring(decoder=GaussianDensity(), times=times)
    sampled = elbo(process, oracle, x_0, generator(2), measuring=measuring)
    error = float((sampled.total - exact.total).std()) / math.sqrt(2000)
    assert abs(sampled.mean - exact.mean) < 4 * error
    assert torch.equal(sampled.prior, exact.prior)
    assert sampled.standard_error >= 0.8 * exact.standard_error


def test_short_stretches_where_terms_are_large(make):
    """Thirty stretches of a thousand times miss little: an error at most thrice that of the sum over all."""
    process = make()
    oracle = GaussianOracle(process, *HALF)
    x_0 = oracle.sample(400, generator())
    measuring = Measuring(decoder=GaussianDensity(), times=30)
    sampled = elbo(process, oracle, x_0, generator(1), measuring=measuring)
    truth = -oracle.log_likelihood(x_0) / 16 / math.log(2)
    assert float((sampled.total - truth).std()) / math.sqrt(400) < 0.06


def test_all_stretches_are_the_sum(make):
    """With T - 1 stretches every time is asked once, whoever asks for it."""
    process = make(schedule=LinearConfig(steps=30))
    one = elbo(process, network, pictures(), generator())
    other = elbo(process, network, pictures(), generator(), measuring=Measuring(times=29))
    assert torch.equal(one.total, other.total) and torch.equal(one.curve, other.curve)


def test_the_curve_adds_up(make):
    """Entry 0 is prior matching, entry 1 reconstruction, and all together are the bound."""
    process = make(schedule=LinearConfig(steps=40))
    bound = elbo(process, network, pictures(), generator())
    assert bound.curve.shape == bound.counts.shape == (41,) and (bound.counts == 6).all()
    assert float(bound.curve.sum()) == pytest.approx(bound.mean)
    assert float(bound.curve[0]) == pytest.approx(float(bound.prior.mean()))
    assert float(bound.curve[1]) == pytest.approx(float(bound.reconstruction.mean()))
    assert bound.standard_error == pytest.approx(float(bound.total.std()) / math.sqrt(6))
    few = elbo(process, network, pictures(), generator(), measuring=Measuring(times=3))
    assert int(few.counts.sum()) == 6 * 5 and torch.equal(few.curve.isnan(), few.counts == 0)


def test_decoders_differ_in_the_reconstruction_only(make):
    """With the same noise; and the softmax, which knows the levels, needs no network to be good."""
    process = make(schedule=LinearConfig(steps=30))
    gauss = elbo(process, network, pictures(), generator())
    softmax = elbo(process, network, pictures(), generator(), measuring=Measuring(decoder=Softmax256()))
    assert torch.equal(gauss.denoising, softmax.denoising) and torch.equal(gauss.prior, softmax.prior)
    assert (softmax.reconstruction > 0).all() and (softmax.reconstruction < 8).all()


def test_discrete_bits_are_above_0(make):
    """Probabilities are below 1: every picture's reconstruction is positive, as no density's need be."""
    bound = elbo(make(schedule=LinearConfig(steps=30)), network, pictures(), generator())
    assert (bound.reconstruction > 0).all()


def test_the_same_generator_the_same_bound(make):
    """Times and noise come from it alone; a correction changes the model, and the bound with it."""
    process = make(schedule=LinearConfig(steps=30))
    one, two = (elbo(process, network, pictures(), generator(5)) for _ in range(2))
    assert torch.equal(one.total, two.total)
    clipped = elbo(process, network, pictures(), generator(5), measuring=Measuring(correction=Clip()))
    assert not torch.equal(one.denoising, clipped.denoising)


@pytest.mark.parametrize(
    ("images", "message"),
    [
        (torch.rand(2, 3, 4, 4) * 255, "not within"),
        (torch.zeros(2, 3, 4), r"must be \(b, c, h, w\) floats"),
        (torch.zeros(2, 3, 4, 4, dtype=torch.uint8), "uint8"),
        (torch.full((2, 3, 4, 4), float("nan")), "not a number"),
        (torch.full((2, 3, 4, 4), 0.334), "away from 256 levels"),
    ],
)
def test_images_that_have_no_bits(make, images, message):
    """Range, shape, type, NaN and levels are looked at before the network is asked."""
    with pytest.raises(ValueError, match=message):
        elbo(make(), network, images, generator())


def test_labels_and_times_that_cannot_be(make):
    """Labels for a network without classes, and more stretches than times."""
    with pytest.raises(ValueError, match="knows no classes"):
        elbo(make(), network, pictures(2), generator(), torch.tensor([0, 1]))
    with pytest.raises(ValueError, match=r"times 1000 are outside \[1, 999\]"):
        elbo(make(), network, pictures(2), generator(), measuring=Measuring(times=1000))
