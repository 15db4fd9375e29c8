"""The forward process and its posterior: the right forms, and slides' wrong ones beside them."""

import math

import pytest
import torch

from diffusion.gaussians import (
    diffuse,
    posterior_log_variance,
    posterior_mean,
    posterior_variance,
    posterior_weights,
)
from diffusion.schedules import LinearConfig

SCHEDULE = LinearConfig().build()
BETAS, ALPHA_BAR = SCHEDULE.betas.tolist(), SCHEDULE.alpha_bar.tolist()


def normal(*shape: int, seed: int = 0) -> torch.Tensor:
    """Standard normal, float64."""
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def test_noise_step_by_step_is_noise_at_once():
    """Two steps have the mean and the variance of one: (1 - b2) b1 + b2 = 1 - (1 - b2)(1 - b1)."""
    for s, u, t in [(0, 1, 2), (10, 400, 990)]:
        assert float(SCHEDULE.kept(t, s)) == pytest.approx(float(SCHEDULE.kept(t, u) * SCHEDULE.kept(u, s)))
        two = SCHEDULE.kept(t, u) * SCHEDULE.added(u, s) + SCHEDULE.added(t, u)
        assert float(SCHEDULE.added(t, s)) == pytest.approx(float(two), rel=1e-12)


def test_diffuse_is_ddpms_equations():
    """One step is eq. 2 of DDPM, all at once eq. 4; each picture has a time of its own."""
    x, noise = normal(3, 1, 2, 2), normal(3, 1, 2, 2, seed=1)
    t = torch.tensor([1, 500, 1000])
    one, whole = diffuse(SCHEDULE, x, t, noise, t - 1), diffuse(SCHEDULE, x, t, noise)
    for row, time in enumerate(t.tolist()):
        beta, bar = BETAS[time], ALPHA_BAR[time]
        assert torch.allclose(one[row], math.sqrt(1 - beta) * x[row] + math.sqrt(beta) * noise[row])
        assert torch.allclose(whole[row], math.sqrt(bar) * x[row] + math.sqrt(1 - bar) * noise[row])


@pytest.mark.parametrize("t", [2, 501, 1000])
def test_posterior_is_ddpms_equation_7(t):
    """Weights sqrt(bar_{t-1}) beta / (1 - bar_t) and sqrt(alpha)(1 - bar_{t-1}) / (1 - bar_t); variance."""
    bar, before, beta = ALPHA_BAR[t], ALPHA_BAR[t - 1], BETAS[t]
    image, noisy = posterior_weights(SCHEDULE, t, t - 1)
    assert float(image) == pytest.approx(math.sqrt(before) * beta / (1 - bar), abs=1e-12)
    assert float(noisy) == pytest.approx(math.sqrt(1 - beta) * (1 - before) / (1 - bar), abs=1e-12)
    variance = float(posterior_variance(SCHEDULE, t, t - 1))
    assert variance == pytest.approx(beta * (1 - before) / (1 - bar), abs=1e-12)


@pytest.mark.parametrize(("t", "s"), [(2, 1), (501, 500), (1000, 999), (1000, 10), (600, 0)])
def test_a_picture_without_noise_stays_without(t, s):
    """From x_t = sqrt(bar_t) x_0 the mean at s is sqrt(bar_s) x_0, exactly."""
    x_0 = normal(4, 1, 2, 2)
    found = posterior_mean(SCHEDULE, math.sqrt(ALPHA_BAR[t]) * x_0, x_0, t, s)
    assert torch.allclose(found, math.sqrt(ALPHA_BAR[s]) * x_0, rtol=1e-12, atol=1e-14)


def test_the_slides_weight_of_x_0_fails_where_there_is_noise():
    """Slides print sqrt(alpha_{t-1}), and sqrt(bar_{t-1}) is right: equal at t = 2, 3.5 times as much at 501.

    Without noise, x_t = sqrt(bar_t) x_0 must give sqrt(bar_{t-1}) x_0. Ours does; theirs is off by
    0.8 % of x_0.
    """
    for t, ours, theirs in [(2, None, None), (501, 0.00306, 0.01085)]:
        image, noisy = (float(weight) for weight in posterior_weights(SCHEDULE, t, t - 1))
        printed = math.sqrt(1 - BETAS[t - 1]) * BETAS[t] / (1 - ALPHA_BAR[t])
        if t == 2:
            assert printed == pytest.approx(image, rel=1e-12)  # a test at small t would see nothing
            continue
        assert (image, printed) == (pytest.approx(ours, abs=5e-6), pytest.approx(theirs, abs=5e-6))
        start, goal = math.sqrt(ALPHA_BAR[t]), math.sqrt(ALPHA_BAR[t - 1])
        assert image + noisy * start == pytest.approx(goal, abs=1e-12)
        assert printed + noisy * start - goal == pytest.approx(0.0078, abs=1e-4)


@pytest.mark.parametrize(("t", "s"), [(500, 499), (800, 300)])
def test_posterior_is_the_regression_of_x_s(t, s):
    """Least squares of drawn x_s on x_t and x_0 finds the weights, and what it leaves over is the variance.

    Coefficients within 5 standard errors of 200,000 draws.
    """
    x_0 = 0.5 * normal(200_000)
    x_s = diffuse(SCHEDULE, x_0[:, None], s, normal(200_000, 1, seed=1))
    x_t = diffuse(SCHEDULE, x_s, t, normal(200_000, 1, seed=2), s)
    design = torch.stack((x_0, x_t[:, 0]), 1)
    found = torch.linalg.lstsq(design, x_s).solution[:, 0]
    variance = posterior_variance(SCHEDULE, t, s)
    errors = (torch.linalg.inv(design.T @ design).diagonal() * variance).sqrt()
    wanted = torch.stack(posterior_weights(SCHEDULE, t, s))
    assert ((found - wanted).abs() < 5 * errors).all()
    rest = (x_s[:, 0] - design @ found).square().mean()
    assert float(rest / variance) == pytest.approx(1, abs=5 * math.sqrt(2 / 200_000))


def test_the_last_step_has_no_variance_but_a_log_of_one():
    """The variance of a step to 0 is 0; its log is that of the step from 2 to 1."""
    assert float(posterior_variance(SCHEDULE, 1, 0)) == 0
    second = posterior_log_variance(SCHEDULE, 2, 1)
    assert float(posterior_log_variance(SCHEDULE, 1, 0)) == float(second) == pytest.approx(-9.8, abs=0.1)
    both = posterior_log_variance(SCHEDULE, torch.tensor([1, 2]), torch.tensor([0, 1]))
    assert both.tolist() == [float(second)] * 2


def test_noise_of_another_shape():
    """Broadcasting would share noise among pictures."""
    with pytest.raises(ValueError, match="is not shaped as x_s"):
        diffuse(SCHEDULE, normal(2, 1, 2, 2), 5, normal(1, 1, 2, 2))
