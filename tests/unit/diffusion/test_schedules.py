"""Schedules: the published formulas, one index, and settings that cannot be."""

import math

import numpy as np
import pytest
import torch

from diffusion.schedules import CosineConfig, LinearConfig, ScaledLinearConfig, Schedule, SigmoidConfig

CONFIGS = (LinearConfig(), CosineConfig(), SigmoidConfig(), ScaledLinearConfig())


def linear(steps: int) -> np.ndarray:
    """improved-diffusion's formula: betas, scaled by 1000 / T."""
    scale = 1000 / steps
    return np.linspace(scale * 0.0001, scale * 0.02, steps, dtype=np.float64)


def cosine(steps: int) -> np.ndarray:
    """improved-diffusion's formula: betas of a squared cosine, at most 0.999."""

    def alpha_bar(t: float) -> float:
        return math.cos((t + 0.008) / 1.008 * math.pi / 2) ** 2

    ratios = [alpha_bar((i + 1) / steps) / alpha_bar(i / steps) for i in range(steps)]
    return np.array([min(1 - ratio, 0.999) for ratio in ratios])


@pytest.mark.parametrize("steps", [50, 1000, 4000])
@pytest.mark.parametrize(("config", "formula"), [(LinearConfig, linear), (CosineConfig, cosine)])
def test_tables_are_improved_diffusions(config, formula, steps):
    """Betas, alpha_bar and 1 - alpha_bar are those of the published formulas to 1e-12."""
    schedule, betas = config(steps=steps).build(), formula(steps)
    alpha_bar = np.cumprod(1 - betas)
    assert np.abs(schedule.betas[1:].numpy() - betas).max() <= 1e-12
    assert np.abs(schedule.alpha_bar[1:].numpy() - alpha_bar).max() <= 1e-12
    assert np.abs(schedule.added(torch.arange(1, steps + 1)).numpy() - (1 - alpha_bar)).max() <= 1e-12


def test_scaled_linear_is_latent_diffusions():
    """Squares of a straight line of roots: alpha_bar of the last time is 4.66e-3."""
    betas = np.linspace(0.00085**0.5, 0.012**0.5, 1000) ** 2
    schedule = ScaledLinearConfig().build()
    assert np.abs(schedule.betas[1:].numpy() - betas).max() <= 1e-12
    assert float(schedule.alpha_bar[-1]) == pytest.approx(4.66e-3, rel=1e-3)


def test_sigmoid_runs_from_start_to_end():
    """alpha_bar is the sigmoid's, stretched; half of it is left at half of the time."""
    schedule = SigmoidConfig(steps=100).build()
    ends = 1 / (1 + math.exp(-3)), 1 / (1 + math.exp(3))
    for t in (1, 25, 50, 90):
        here = 1 / (1 + math.exp(-(-3 + 6 * t / 100)))
        wanted = (ends[0] - here) / (ends[0] - ends[1])
        assert float(schedule.alpha_bar[t]) == pytest.approx(wanted, abs=1e-12)
    assert float(schedule.alpha_bar[50]) == pytest.approx(0.5)


@pytest.mark.parametrize("config", CONFIGS, ids=lambda config: config.kind)
def test_entry_t_is_time_t(config):
    """Tables have T + 1 entries, entry 0 is the clean picture, alpha_bar falls, betas are what it loses."""
    schedule = config.build()
    assert schedule.steps == 1000 and schedule.alpha_bar.dtype == torch.float64
    assert {len(schedule.betas), len(schedule.alpha_bar)} == {1001}
    assert schedule.alpha_bar[0] == 1 and schedule.betas[0] == 0
    assert (schedule.alpha_bar.diff() < 0).all()
    assert torch.allclose(schedule.alpha_bar, (1 - schedule.betas).cumprod(0), rtol=1e-10)


def test_one_time_or_many():
    """A whole number gives a number, (b,) times give (b,) numbers, the same ones."""
    schedule = LinearConfig().build()
    times = torch.tensor([3, 500, 1000])
    for name in ("kept", "added", "snr"):
        many = getattr(schedule, name)(times)
        assert many.tolist() == [float(getattr(schedule, name)(int(t))) for t in times]
    ratio = schedule.alpha_bar[500] / schedule.alpha_bar[400]
    assert float(schedule.kept(500, 400)) == pytest.approx(float(ratio))


def test_respaced_to_all_times_is_the_same():
    """The process of all times is the process."""
    schedule = CosineConfig(steps=40).build()
    assert torch.equal(schedule.respaced(range(1, 41)).alpha_bar, schedule.alpha_bar)
    part = schedule.respaced([1, 10, 40])
    assert part.steps == 3 and torch.equal(part.alpha_bar, schedule.alpha_bar[[0, 1, 10, 40]])


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: LinearConfig(steps=0), "steps 0 is no whole number from 2"),
        (lambda: LinearConfig(steps=20), "last beta 1, which must be below 1: take at least 21"),
        (lambda: LinearConfig(first=0.1), "betas from 0.1 to 0.02 do not rise"),
        (lambda: CosineConfig(offset=-1), r"offset -1 is outside \[0, inf\)"),
        (lambda: SigmoidConfig(start=1, end=1), "does not fall"),
        (lambda: Schedule(torch.zeros(5)), r"give \(T \+ 1,\) float64"),
        (lambda: Schedule(torch.zeros(5, dtype=torch.float64)), "fall at every step"),
        (lambda: Schedule.of_betas(torch.tensor([0.1, 1.0])), r"not within \(0, 1\)"),
    ],
)
def test_settings_that_cannot_be(make, message):
    """Each says what is wrong and what to do."""
    with pytest.raises(ValueError, match=message):
        make()


def test_the_fewest_linear_steps():
    """What the message promises can be built."""
    assert LinearConfig(steps=21).build().steps == 21


@pytest.mark.parametrize("t", [0, 1001, -1, torch.tensor([5, 0]), torch.tensor([1001, 4])])
def test_times_outside(t):
    """Time 0 and T + 1 are named, with the range."""
    with pytest.raises(ValueError, match=r"t (0|1001|-1) is outside \[1, 1000\]"):
        LinearConfig().build().check(t)


def test_times_that_are_not_whole():
    """A float is no time."""
    with pytest.raises(ValueError, match="give whole numbers"):
        LinearConfig().build().check(torch.tensor([0.5]))


@pytest.mark.parametrize(("t", "s"), [(5, 5), (5, 6), (torch.tensor([5, 9]), torch.tensor([4, 9]))])
def test_steps_go_from_noise_to_picture(t, s):
    """s must be before t."""
    with pytest.raises(ValueError, match="is not before"):
        LinearConfig().build().check_pair(t, s)
