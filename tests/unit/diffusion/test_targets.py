"""Noise, image, velocity and mean say the same."""

from itertools import permutations

import pytest
import torch

from diffusion.gaussians import diffuse, posterior_mean
from diffusion.schedules import CosineConfig, LinearConfig
from diffusion.targets import ImageTarget, MeanTarget, NoiseTarget, VelocityTarget, convert, noise_in

TARGETS = (NoiseTarget(), ImageTarget(), VelocityTarget(), MeanTarget())
SCHEDULES = {"linear": LinearConfig().build(), "cosine": CosineConfig().build()}
TIMES = torch.tensor([1, 2, 10, 250, 500, 750, 999, 1000])


def pictures(dtype: torch.dtype) -> tuple[torch.Tensor, torch.Tensor]:
    """x_0 and noise, one for each time."""
    generator = torch.Generator().manual_seed(0)
    x_0 = torch.rand(len(TIMES), 1, 4, 4, generator=generator, dtype=dtype) * 2 - 1
    return x_0, torch.randn(x_0.shape, generator=generator, dtype=dtype)


@pytest.fixture(params=SCHEDULES.values(), ids=SCHEDULES)
def schedule(request):
    """Linear and cosine."""
    return request.param


@pytest.mark.parametrize("target", TARGETS, ids=lambda target: target.kind)
def test_the_picture_comes_back(schedule, target):
    """x_0 of what should be said is x_0, at every time, but for what 1 / sqrt(alpha_bar_T) magnifies."""
    x_0, noise = pictures(torch.float64)
    x_t = diffuse(schedule, x_0, TIMES, noise)
    found = target.image(schedule, target.of(schedule, x_0, noise, TIMES), x_t, TIMES)
    assert torch.allclose(found, x_0, atol=1e-9)
    assert torch.allclose(noise_in(schedule, x_0, x_t, TIMES), noise, atol=1e-9)


@pytest.mark.parametrize(("source", "goal"), [*permutations(TARGETS, 2)], ids=lambda target: target.kind)
def test_round_trips(schedule, source, goal):
    """There and back changes nothing: at most 1e-6 in float32 where neither magnifies, and 1e-9 in float64.

    An error of one is an error of the other times the ratio of their gains, whoever computes it; so float32
    is held to 1e-6 times the largest such ratio on the way.
    """
    for dtype, limit in ((torch.float32, 1e-6), (torch.float64, 1e-9)):
        x_0, noise = pictures(dtype)
        x_t = diffuse(schedule, x_0, TIMES, noise)
        said = source.of(schedule, x_0, noise, TIMES)
        there = convert(schedule, said, x_t, TIMES, source, goal)
        back = convert(schedule, there, x_t, TIMES, goal, source)
        sizes = torch.stack([target.gain(schedule, TIMES) for target in (*TARGETS, source)])
        magnified = (sizes.amax(0) / sizes.amin(0)) if dtype == torch.float32 else torch.ones(len(TIMES))
        error = (back - said).abs().amax((1, 2, 3))
        assert (error <= limit * magnified.clamp(min=1)).all(), (error, magnified)


def test_round_trips_in_the_middle_of_time():
    """At time 250 of 1000, noise, image and velocity survive float32 to 1e-6."""
    schedule = SCHEDULES["linear"]
    generator = torch.Generator().manual_seed(0)
    x_0 = torch.rand(8, 3, 8, 8, generator=generator) * 2 - 1
    noise = torch.randn(x_0.shape, generator=generator)
    x_t = diffuse(schedule, x_0, 250, noise)
    for source, goal in permutations(TARGETS[:3], 2):
        said = source.of(schedule, x_0, noise, 250)
        back = convert(schedule, convert(schedule, said, x_t, 250, source, goal), x_t, 250, goal, source)
        assert float((back - said).abs().max()) <= 1e-6


@pytest.mark.parametrize("target", TARGETS, ids=lambda target: target.kind)
def test_gain_is_the_derivative(schedule, target):
    """An output moved by 1 moves x_0 by the gain."""
    x_0, noise = pictures(torch.float64)
    x_t = diffuse(schedule, x_0, TIMES, noise)
    said = target.of(schedule, x_0, noise, TIMES)
    moved = target.image(schedule, said + 1, x_t, TIMES) - target.image(schedule, said, x_t, TIMES)
    assert torch.allclose(moved.abs()[:, 0, 0, 0], target.gain(schedule, TIMES), rtol=1e-6)


def test_mean_is_the_posteriors(schedule):
    """What a network of the target `mean` should say is the mean of q(x_{t-1} | x_t, x_0)."""
    x_0, noise = pictures(torch.float64)
    x_t = diffuse(schedule, x_0, TIMES, noise)
    wanted = posterior_mean(schedule, x_t, x_0, TIMES, TIMES - 1)
    assert torch.allclose(MeanTarget().of(schedule, x_0, noise, TIMES), wanted, rtol=1e-9, atol=1e-12)


def test_velocity_is_neither_at_the_ends():
    """Almost the noise at first, almost minus the picture at last."""
    schedule = SCHEDULES["cosine"]
    x_0, noise = pictures(torch.float64)
    velocity = VelocityTarget().of(schedule, x_0, noise, TIMES)
    assert torch.allclose(velocity[0], noise[0], atol=0.05)
    assert torch.allclose(velocity[-1], -x_0[-1], atol=0.01)


def test_no_time_0():
    """There is no noise in x_0 to convert."""
    x = torch.zeros(1, 1, 2, 2)
    with pytest.raises(ValueError, match="t 0 is outside"):
        convert(SCHEDULES["linear"], x, x, 0, TARGETS[0], TARGETS[1])
