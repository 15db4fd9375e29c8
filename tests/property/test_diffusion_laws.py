"""Laws of diffusion, over schedules, times, targets and seeds."""

import math

import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from diffusion.decoders import GaussianDensity, discretized_gaussian
from diffusion.gaussians import diffuse, posterior_mean, posterior_variance
from diffusion.inpainting import jumps
from diffusion.likelihood import Measuring, elbo
from diffusion.noise import Noise
from diffusion.oracle import GaussianOracle
from diffusion.process import Process
from diffusion.samplers import ancestral, ddim, dpm_solver_pp_2m, heun
from diffusion.schedules import CosineConfig, LinearConfig, ScaledLinearConfig, Schedule, SigmoidConfig
from diffusion.spacing import spaced
from diffusion.targets import ImageTarget, MeanTarget, NoiseTarget, VelocityTarget, convert
from diffusion.variances import LargeVariance, LearnedRange, SmallVariance

TARGETS = (NoiseTarget(), ImageTarget(), VelocityTarget(), MeanTarget())
SPACINGS = ("trailing", "linspace", "leading", "quadratic")

configs = st.one_of(
    st.builds(LinearConfig, steps=st.integers(21, 300)),
    st.builds(CosineConfig, steps=st.integers(2, 300)),
    st.builds(SigmoidConfig, steps=st.integers(2, 300)),
    st.builds(ScaledLinearConfig, steps=st.integers(2, 300)),
)


@st.composite
def times(draw, count: int) -> tuple[Schedule, list[int]]:
    """A schedule and so many of its times, 0 among the possible ones, rising."""
    schedule = draw(configs.filter(lambda config: config.steps >= count)).build()
    chosen = draw(st.sets(st.integers(0, schedule.steps), min_size=count, max_size=count))
    return schedule, sorted(chosen)


def pictures(seed: int, count: int = 2) -> list[torch.Tensor]:
    """Standard normal, (count, 1, 2, 2) float64."""
    generator = torch.Generator().manual_seed(seed)
    return list(torch.randn(2, count, 1, 2, 2, generator=generator, dtype=torch.float64))


@given(times(3))
def test_noise_adds_up(chosen):
    """From s to u to t is from s to t, whichever u."""
    schedule, (s, u, t) = chosen
    assert math.isclose(schedule.kept(t, s), schedule.kept(t, u) * schedule.kept(u, s), rel_tol=1e-9)
    two = schedule.kept(t, u) * schedule.added(u, s) + schedule.added(t, u)
    assert math.isclose(schedule.added(t, s), two, rel_tol=1e-9)


@given(times(2), st.integers(0, 99))
def test_bayes(chosen, seed):
    """q(x_s | x_t, x_0) q(x_t | x_0) = q(x_t | x_s) q(x_s | x_0), wherever 0 < s < t."""
    schedule, (s, t) = chosen
    if s == 0:
        s, t = (1, t) if t > 1 else (1, 2)
    x_0, x_s = pictures(seed)
    x_t = x_s + 0.1

    def log_density(x: torch.Tensor, mean: torch.Tensor, variance: torch.Tensor) -> torch.Tensor:
        return -((x - mean) ** 2 / variance + variance.log()) / 2

    def forward(x: torch.Tensor, start: torch.Tensor, late: int, early: int) -> torch.Tensor:
        zero = torch.zeros_like(start)
        return log_density(x, diffuse(schedule, start, late, zero, early), schedule.added(late, early))

    posterior = posterior_mean(schedule, x_t, x_0, t, s), posterior_variance(schedule, t, s)
    left = log_density(x_s, *posterior) + forward(x_t, x_0, t, 0)
    right = forward(x_t, x_s, t, s) + forward(x_s, x_0, s, 0)
    assert torch.allclose(left, right, rtol=1e-6, atol=1e-6)


@given(times(1), st.sampled_from(TARGETS), st.sampled_from(TARGETS), st.integers(0, 99))
def test_conversions_turn_back(chosen, source, goal, seed):
    """There and back in float64 is at most 1e-6 off, for any two targets at any time of any schedule."""
    schedule, (t,) = chosen
    t = max(t, 1)
    x_0, noise = pictures(seed)
    x_t = diffuse(schedule, x_0, t, noise)
    said = source.of(schedule, x_0, noise, t)
    there = convert(schedule, said, x_t, t, source, goal)
    assert torch.allclose(there, goal.of(schedule, x_0, noise, t), atol=1e-6)
    assert torch.allclose(convert(schedule, there, x_t, t, goal, source), said, atol=1e-6)


@given(st.integers(1, 400), st.data())
def test_times_lead_down(total, data):
    """However many of however many, pairs follow one another from at most T to 0, and reach it once."""
    steps = data.draw(st.integers(1, total))
    spacing = data.draw(st.sampled_from(SPACINGS))
    found = spaced(total, steps, spacing)
    assert len(found) == steps and all(total >= t > s >= 0 for t, s in found)
    assert [s for _, s in found] == [t for t, _ in found[1:]] + [0]
    moves = jumps(found, data.draw(st.integers(1, 12)), data.draw(st.integers(1, 4)))
    assert moves[0][0] == found[0][0] and [s for _, s in moves].count(0) == 1 and moves[-1][1] == 0
    assert all(end == start for (_, end), (start, _) in zip(moves, moves[1:], strict=False))
    assert {(t, s) for t, s in moves if t > s} == set(found)


@given(configs.filter(lambda config: config.steps >= 5), st.sampled_from(SPACINGS), st.data())
@settings(max_examples=30, deadline=None)
def test_samplers_of_a_respaced_process(config, spacing, data):
    """Some steps of a process are all steps of the respaced one, for every sampler."""
    steps = data.draw(st.integers(2, min(12, config.steps)))
    sampler = data.draw(st.sampled_from([ancestral, ddim, dpm_solver_pp_2m, heun]))
    process = Process(config.build(), VelocityTarget(), SmallVariance())
    pairs = spaced(process.steps, steps, spacing)
    times = [t for t, _ in reversed(pairs)]
    part = Process(process.schedule.respaced(times), process.target, process.variance)
    found = []
    for one, walked in ((process, pairs), (part, spaced(steps, steps))):
        oracle = GaussianOracle(one, torch.full((1, 2, 2), 0.3).double(), torch.full((1, 2, 2), 0.2).double())
        found.append(sampler(one, oracle, Noise((2, 1, 2, 2), [1, 2], dtype=torch.float64), walked))
    assert torch.allclose(*found, rtol=1e-6, atol=1e-6)


@given(st.floats(-4, 4), st.floats(-14, 4))
def test_levels_have_all_probability(mean, log_variance):
    """Whatever the Gaussian, its 256 levels sum to 1."""
    x_0 = torch.arange(256, dtype=torch.float64) / 127.5 - 1
    found = discretized_gaussian(x_0, torch.full_like(x_0, mean), torch.full_like(x_0, log_variance))
    assert math.isclose(float(found.exp().sum()), 1, abs_tol=1e-9) and not found.isnan().any()


@given(st.sampled_from(TARGETS), st.floats(0.05, 1), st.floats(-0.5, 0.5), st.integers(0, 99))
@settings(max_examples=8, deadline=None)
def test_the_bound_is_minus_log_p_or_more(target, variance, mean, seed):
    """With the true variances it is -log p within 5 standard errors; with fixed ones it is not below that."""
    schedule = LinearConfig(steps=40).build()
    for kind in (LearnedRange(), LargeVariance()):
        process = Process(schedule, target, kind)
        oracle = GaussianOracle(process, *torch.tensor([mean, variance]).double().view(2, 1, 1, 1))
        x_0 = oracle.sample(2000, torch.Generator().manual_seed(seed))
        bound = elbo(process, oracle, x_0, torch.Generator().manual_seed(seed + 1),
                     measuring=Measuring(decoder=GaussianDensity()))  # fmt: skip
        gap = bound.total + oracle.log_likelihood(x_0) / math.log(2)
        error = float(gap.std()) / math.sqrt(len(gap))
        assert float(gap.mean()) > -5 * error
        assert not kind.learned or float(gap.mean()) < 5 * error
