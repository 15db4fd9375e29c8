"""The lecture's formulas in their right form, and its slips, each shown to be one: see docs/lecture/slips.md.

Pictures here are N(0, 1/4), pixel by pixel, so that the best network is known: `noise_known` below.

Letters: a alpha_bar, alpha and beta of one step; t from 1 to T = 1000.
"""

import math

import pytest
import torch
from torch import Tensor

from diffusion.conditioning import conditioned
from diffusion.decoders import DiscretizedGaussian, GaussianDensity
from diffusion.gaussians import diffuse, posterior_log_variance, posterior_mean, posterior_variance
from diffusion.gaussians import posterior_weights as weights
from diffusion.likelihood import Measuring, elbo, term
from diffusion.noise import Noise
from diffusion.normals import Normal
from diffusion.objectives import Simple
from diffusion.objectives import losses as losses_of
from diffusion.process import Estimate, Process
from diffusion.samplers import ancestral
from diffusion.schedules import LinearConfig
from diffusion.spacing import pairs
from diffusion.targets import NoiseTarget
from diffusion.times import UniformTimes
from diffusion.variances import LargeVariance, LearnedRange, SmallVariance

SCHEDULE = LinearConfig().build()
STEPS, POWER = SCHEDULE.steps, 0.25
A, BETAS = SCHEDULE.alpha_bar, SCHEDULE.betas
ALPHAS = 1 - BETAS


def gaussian(seed: int, count: int = 5) -> Tensor:
    """(count, 1, 2, 2) float64, standard normal."""
    return torch.randn(count, 1, 2, 2, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def noise_known(x_t: Tensor, t: Tensor, labels: Tensor | None = None) -> Tensor:
    """E[noise | x_t]: sqrt(1 - a) x_t / (a / 4 + 1 - a)."""
    a = A[torch.as_tensor(t).cpu()].reshape(-1, 1, 1, 1)
    return (1 - a).sqrt() / (POWER * a + 1 - a) * x_t


def test_a_draw_is_the_mean_and_scaled_noise():
    """mu + sigma eps, so that mean and variance get gradients; draws have that mean and variance."""
    mean, log_variance = (torch.full((100_000,), value, requires_grad=True) for value in (0.5, -1.0))
    z = Normal(mean, log_variance).draw(torch.Generator().manual_seed(0))
    z.sum().backward()
    assert (mean.grad == 1).all() and torch.allclose(log_variance.grad, (z - mean).detach() / 2, atol=1e-6)
    assert z.mean().item() == pytest.approx(0.5, abs=0.01)
    assert z.var().item() == pytest.approx(math.exp(-1), abs=0.01)


@pytest.mark.parametrize("t", [2, 501, 1000])
def test_steps_add_up_to_a_jump(t: int):
    """One step after the other keeps the product of alphas, sqrt(a_t) x_0 and not sqrt(alpha_t) x_0, and adds
    the variance 1 - a_t. (Slips 2 and 3.)"""
    kept, added = 1.0, 0.0
    for step in range(1, t + 1):
        kept, added = kept * float(ALPHAS[step].sqrt()), added * float(ALPHAS[step]) + float(BETAS[step])
    x_0, noise = gaussian(0), gaussian(1)
    jump = diffuse(SCHEDULE, x_0, t, noise)
    assert torch.allclose(jump, kept * x_0 + math.sqrt(added) * noise, rtol=1e-9)
    assert kept < float(ALPHAS[t].sqrt()) and (t == 2 or float(ALPHAS[t].sqrt()) > 1.1 * kept)


def test_two_steps_of_noise_are_counted_once():
    """x_2 has variance (1 - beta_2) beta_1 + beta_2 = 1 - (1 - beta_2)(1 - beta_1) of noise; a slide adds the
    first part twice. (Slip 8.)"""
    first, second = float(BETAS[1]), float(BETAS[2])
    once = (1 - second) * first + second
    assert once == pytest.approx(float(SCHEDULE.added(2)), rel=1e-9)
    assert once + (1 - second) * first > 1.4 * once


@pytest.mark.parametrize("t", [2, 501, 1000])
def test_bayes_gives_the_posterior(t: int):
    """q(x_{t-1} | x_t, x_0) = q(x_t | x_{t-1}) q(x_{t-1} | x_0) / q(x_t | x_0), at any x_{t-1}."""
    x_0, below, above = gaussian(0) / 2, gaussian(1), gaussian(2)

    def log_noised(x_t: Tensor, x_s: Tensor, t: int, s: int) -> Tensor:
        kept, added = SCHEDULE.kept(t, s), SCHEDULE.added(t, s)
        return Normal(kept.sqrt() * x_s, added.log().expand_as(x_s)).log_density(x_t)

    bayes = log_noised(above, below, t, t - 1) + log_noised(below, x_0, t - 1, 0)
    bayes = bayes - log_noised(above, x_0, t, 0)
    mean = posterior_mean(SCHEDULE, above, x_0, t, t - 1)
    variance = posterior_variance(SCHEDULE, t, t - 1)
    assert torch.allclose(Normal(mean, variance.log().expand_as(mean)).log_density(below), bayes, rtol=1e-6)
    assert float(variance) == pytest.approx(float((1 - A[t - 1]) / (1 - A[t]) * BETAS[t]), rel=1e-9)


def test_the_printed_weight_of_x_0_is_wrong_at_large_t():
    """sqrt(a_{t-1}) beta_t / (1 - a_t), not sqrt(alpha_{t-1}) ...: the same at t = 2, 3.5 times too much at
    501, where x_t = sqrt(a_t) x_0 must give sqrt(a_{t-1}) x_0. (Slip 4.)"""
    for t in (2, 501):
        image, noisy = (float(weight) for weight in weights(SCHEDULE, t, t - 1))
        printed = float(ALPHAS[t - 1].sqrt() * BETAS[t] / (1 - A[t]))
        goal, start = float(A[t - 1].sqrt()), float(A[t].sqrt())
        assert image + noisy * start == pytest.approx(goal, rel=1e-9)
        if t == 2:
            assert printed == pytest.approx(image, rel=1e-9)
        else:
            assert (image, printed) == (pytest.approx(0.00306, abs=5e-6), pytest.approx(0.01085, abs=5e-6))
            assert printed + noisy * start > goal + 0.007


@pytest.mark.parametrize("t", [1, 2, 501, 1000])
def test_the_mean_from_the_noise(t: int):
    """(x_t - (1 - alpha_t) / sqrt(1 - a_t) eps) / sqrt(alpha_t) is the posterior mean at the picture that
    this noise leaves, x_0 = (x_t - sqrt(1 - a_t) eps) / sqrt(a_t)."""
    x_t, noise = gaussian(0), gaussian(1)
    found = Process(SCHEDULE, NoiseTarget(), SmallVariance()).split(noise, x_t, t)
    assert torch.allclose(found.image, (x_t - (1 - A[t]).sqrt() * noise) / A[t].sqrt(), rtol=1e-9)
    mean = (x_t - (1 - ALPHAS[t]) / (1 - A[t]).sqrt() * noise) / ALPHAS[t].sqrt()
    assert torch.allclose(found.mean, mean, rtol=1e-6, atol=1e-9)


def spread(factor: Tensor, variance: Tensor) -> float:
    """Deviation of x_0 where x_{t-1} = (x_t - factor_t eps_hat) / sqrt(alpha_t) + sqrt(variance_t) z."""
    now = 1.0
    for t in range(STEPS, 0, -1):
        noise = (1 - A[t]).sqrt() / (POWER * A[t] + 1 - A[t])
        now = float(((1 - factor[t] * noise) / ALPHAS[t].sqrt()) ** 2 * now + (variance[t] if t > 1 else 0))
    return math.sqrt(now)


def test_algorithm_2_with_the_printed_factor_fails():
    """With (1 - alpha_t) / sqrt(1 - a_t) samples have the pictures' 0.5; with the first box's
    (1 - alpha_t) / sqrt(1 - alpha_t) they have 0.17, whichever sigma. (Slip 1.)"""
    large, small = BETAS, torch.zeros_like(BETAS)
    small[1:] = (1 - A[:-1]) / (1 - A[1:]) * BETAS[1:]
    right = torch.where(A < 1, (1 - ALPHAS) / (1 - A).sqrt(), 0)
    printed = (1 - ALPHAS).sqrt()
    assert spread(right, large) == pytest.approx(0.501, abs=1e-3)
    assert spread(right, small) == pytest.approx(0.496, abs=1e-3)
    assert spread(printed, large) == pytest.approx(0.175, abs=1e-3)
    assert spread(printed, small) == pytest.approx(0.169, abs=1e-3)


def test_algorithm_2_is_the_ancestral_sampler():
    """Written out with z and sigma_t, from the same noise, it ends in the same pictures."""
    process = Process(SCHEDULE, NoiseTarget(), LargeVariance())
    noise = Noise((3, 1, 2, 2), torch.Generator().manual_seed(0), dtype=torch.float64)
    found = ancestral(process, noise_known, noise, pairs(range(STEPS, 0, -1)))
    noise = Noise((3, 1, 2, 2), torch.Generator().manual_seed(0), dtype=torch.float64)
    x = noise.draw()
    for t in range(STEPS, 0, -1):
        mean = (x - BETAS[t] / (1 - A[t]).sqrt() * noise_known(x, torch.tensor(t))) / ALPHAS[t].sqrt()
        x = mean + BETAS[t].sqrt() * noise.draw() if t > 1 else mean
    assert torch.allclose(found, x, rtol=1e-6, atol=1e-9)


def test_sigma_has_two_values_and_a_limit():
    """beta_t, or (1 - a_{t-1}) / (1 - a_t) beta_t, which is 0 at t = 1: its log there is that of t = 2.
    (Slip 7.)"""
    learned = torch.zeros(1, 1, 1, 1, dtype=torch.float64)
    assert LargeVariance().log(SCHEDULE, 501, 500, learned).exp().item() == pytest.approx(float(BETAS[501]))
    small = float((1 - A[500]) / (1 - A[501]) * BETAS[501])
    assert SmallVariance().log(SCHEDULE, 501, 500, learned).exp().item() == pytest.approx(small)
    assert float(posterior_variance(SCHEDULE, 1, 0)) == 0
    assert posterior_log_variance(SCHEDULE, 1, 0) == posterior_log_variance(SCHEDULE, 2, 1)


def step_known(x_t: Tensor, t: Tensor, labels: Tensor | None = None) -> Tensor:
    """The best noise, and the true variance of x_{t-1} given x_t, as a place in the learned range."""
    t = torch.as_tensor(t).cpu()
    below = POWER * A[t - 1] + 1 - A[t - 1]
    true = (below * BETAS[t] / (ALPHAS[t] * below + BETAS[t])).log()
    small, large = posterior_log_variance(SCHEDULE, t, t - 1), BETAS[t].log()
    place = (2 * (true - small) / (large - small) - 1).reshape(-1, 1, 1, 1)
    return torch.cat((noise_known(x_t, t), place.expand_as(x_t)), 1)


def test_three_terms_are_the_likelihood():
    """Reconstruction + prior + denoising, with the best mean and variance, is -log2 p(x) of the same
    pictures, within four standard errors; with the fixed small variance it is half a bit more."""
    x_0 = gaussian(3, 900) / 2
    measuring = Measuring(decoder=GaussianDensity(), times=100)
    exact = -Normal(torch.zeros_like(x_0), torch.full_like(x_0, math.log(POWER))).log_density(x_0)
    gaps = []
    for variance, network in ((LearnedRange(), step_known), (SmallVariance(), noise_known)):
        process = Process(SCHEDULE, NoiseTarget(), variance)
        found = elbo(process, network, x_0, torch.Generator().manual_seed(0), measuring=measuring)
        gaps.append(found.total - exact / (4 * math.log(2)))
        assert found.prior.mean() < 1e-4 < found.denoising.mean()
    assert abs(gaps[0].mean()) < 4 * gaps[0].std() / 30
    assert gaps[1].mean() > 0.5


def test_the_prior_has_no_parameters():
    """Prior matching is the same whatever the network says. (Slip 5.)"""
    x_0 = gaussian(0)
    process = Process(SCHEDULE, NoiseTarget(), SmallVariance())
    measuring = Measuring(decoder=GaussianDensity(), times=2)
    one, other = (
        elbo(process, network, x_0, torch.Generator().manual_seed(0), measuring=measuring)
        for network in (noise_known, lambda x_t, t, labels: torch.sin(9 * x_t))
    )
    assert torch.equal(one.prior, other.prior) and not torch.equal(one.denoising, other.denoising)


def test_simple_is_not_the_bound():
    """A term of the bound is beta_t^2 / (2 sigma_t^2 alpha_t (1 - a_t)) times the squared error of the noise;
    algorithm 1 leaves that weight out, which is over 40 times as large at 2 as at 501 or 1000. (Slip 6.)"""
    process, x_0, noise = Process(SCHEDULE, NoiseTarget(), SmallVariance()), gaussian(0), gaussian(1)
    ask, found = conditioned(noise_known, None, None, 5), {}
    for t in (2, 501, 1000):
        error = noise - noise_known(diffuse(SCHEDULE, x_0, t, noise), torch.tensor(t))
        sigma = (1 - A[t - 1]) / (1 - A[t]) * BETAS[t]
        found[t] = float(BETAS[t] ** 2 / (2 * sigma * ALPHAS[t] * (1 - A[t])))
        bits = found[t] * error.square().flatten(1).mean(1) / math.log(2)
        assert torch.allclose(term(process, ask, x_0, t, noise), bits, rtol=1e-6)
    assert found[2] > 40 * found[501] and found[2] > 40 * found[1000]


def test_algorithm_1_draws_a_time_and_noise_for_every_picture():
    """The loss of each picture is the mean square of eps - eps_hat(sqrt(a_t) x_0 + sqrt(1 - a_t) eps, t)."""
    process, seen = Process(SCHEDULE, NoiseTarget(), LargeVariance()), {}

    def network(x_t: Tensor, t: Tensor, labels: Tensor | None) -> Tensor:
        seen.update(x_t=x_t, t=t)
        return noise_known(x_t, t)

    images = torch.rand(64, 1, 2, 2, dtype=torch.float64)
    found = losses_of(
        Simple(), process, network, images, UniformTimes(STEPS), torch.Generator().manual_seed(0)
    )
    t, x_0 = seen["t"], images * 2 - 1
    assert torch.equal(t, found.t) and t.min() >= 1 and t.max() <= STEPS and len(t.unique()) > 32
    a = A[t].view(-1, 1, 1, 1)
    noise = (seen["x_t"] - a.sqrt() * x_0) / (1 - a).sqrt()
    assert noise.std().item() == pytest.approx(1, abs=0.15)
    squares = (noise - noise_known(seen["x_t"], t)).square().flatten(1).mean(1)
    assert torch.allclose(found.values.double(), squares, rtol=1e-5)


def test_equal_means_are_enough_only_if_variances_are_fixed():
    """Two Gaussians of one mean and different variances diverge, and a learned variance has to learn that.
    (Slip 9.)"""
    mean = gaussian(0)
    one, other = Normal(mean, torch.zeros_like(mean)), Normal(mean, torch.ones_like(mean))
    assert (one.divergence(other) > 0).all()
    x_t, said = gaussian(1), torch.cat((gaussian(2), torch.zeros_like(mean)), 1)
    learned = Process(SCHEDULE, NoiseTarget(), LearnedRange()).split(said, x_t, 501)
    fixed = Process(SCHEDULE, NoiseTarget(), SmallVariance()).split(said[:, :1], x_t, 501)
    assert torch.equal(learned.mean, fixed.mean) and (learned.log_variance > fixed.log_variance).all()


def test_divergence_is_no_distance():
    """KL(q, p) and KL(p, q) are two numbers. (Slip 10.)"""
    one = Normal(torch.zeros(1, 1), torch.zeros(1, 1))
    other = Normal(torch.ones(1, 1), torch.full((1, 1), 2.0))
    assert abs(one.divergence(other) - other.divergence(one)) > 0.5


def test_bits_of_pictures_need_a_discrete_decoder():
    """A density may be above 1, and its bits below 0; of 256 levels they are never. (Slip 11.)"""
    x = torch.full((1, 1, 1, 1), 1 / 255, dtype=torch.float64)
    narrow = Estimate(image=x, noise=x, mean=x, log_variance=torch.full_like(x, -12.0))
    assert GaussianDensity().log_likelihood(SCHEDULE, x, x, narrow) > 4
    assert -0.5 < DiscretizedGaussian().log_likelihood(SCHEDULE, x, x, narrow) <= 0
