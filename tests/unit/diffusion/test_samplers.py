"""Samplers against what they must give for Gaussian pictures and an exact network.

For such a network every sampler is linear in its noise, so its output can be computed exactly by other means:
here from each method's other textbook form, in numpy.
"""

import math

import numpy as np
import pytest
import torch

from diffusion.corrections import Clip, DynamicThreshold
from diffusion.noise import Noise
from diffusion.oracle import GaussianOracle
from diffusion.process import Process
from diffusion.samplers import Options, ancestral, ddim, dpm_solver_pp_2m, heun
from diffusion.schedules import LinearConfig
from diffusion.spacing import spaced
from diffusion.targets import ImageTarget, MeanTarget, NoiseTarget, VelocityTarget
from diffusion.variances import LargeVariance, LearnedRange, SmallVariance

DETERMINISTIC = {"ddim": ddim, "dpm_solver_pp_2m": dpm_solver_pp_2m, "heun": heun}
MANY = 3000  # pictures; their standard deviation is within 1.3 % = 1 / sqrt(2 MANY) of the sampler's


class Line:
    """What a linear sampler makes of its first noise z, for one Gaussian pixel: x = x[0] z + x[1]."""

    def __init__(self, schedule, mean: float, variance: float) -> None:
        self.bars, self.mean, self.variance = schedule.alpha_bar.numpy(), mean, variance

    def sigma(self, t: int) -> float:
        """Standard deviation of noise beside a picture of scale 1."""
        return math.sqrt((1 - self.bars[t]) / self.bars[t])

    def best(self, x: np.ndarray, t: int) -> np.ndarray:
        """E[x_0 | x_t]."""
        here = np.array([0, self.mean])
        scale = math.sqrt(self.bars[t])
        weight = scale * self.variance / (self.bars[t] * self.variance + 1 - self.bars[t])
        return here + weight * (x - scale * here)

    def slope(self, y: np.ndarray, t: int) -> np.ndarray:
        """dy / d sigma = (y - D) / sigma."""
        return (y - self.best(math.sqrt(self.bars[t]) * y, t)) / self.sigma(t)

    def ddim(self, pairs) -> np.ndarray:
        """Euler's method in sigma."""
        y = np.array([1, 0]) / math.sqrt(self.bars[pairs[0][0]])
        for t, s in pairs:
            y = y + (self.sigma(s) - self.sigma(t)) * self.slope(y, t)
        return y

    def heun(self, pairs) -> np.ndarray:
        """The trapezoid rule in sigma, Euler at last."""
        y = np.array([1, 0]) / math.sqrt(self.bars[pairs[0][0]])
        for t, s in pairs:
            first = self.slope(y, t)
            ahead = y + (self.sigma(s) - self.sigma(t)) * first
            second = self.slope(ahead, s) if s else first
            y = y + (self.sigma(s) - self.sigma(t)) * (first + second) / 2
        return y

    def dpm_solver_pp_2m(self, pairs) -> np.ndarray:
        """As the paper's algorithm 2 prints it: lambda = log(sqrt(a) / sqrt(1 - a)), r = h before / h."""
        x, before, h_before = np.array([1.0, 0]), None, None
        for t, s in pairs:
            best = self.best(x, t)
            if s == 0:
                return best
            h = math.log(self.sigma(t)) - math.log(self.sigma(s))
            d = best
            if before is not None:
                r = h_before / h
                d = (1 + 1 / (2 * r)) * best - 1 / (2 * r) * before
            x = math.sqrt((1 - self.bars[s]) / (1 - self.bars[t])) * x
            x = x - math.sqrt(self.bars[s]) * (math.exp(-h) - 1) * d
            before, h_before = best, h
        raise AssertionError

    def ancestral(self, pairs, large: bool) -> tuple[float, float]:
        """Mean and variance, by the noise form of the mean: (x - beta / sqrt(1 - bar) eps) / sqrt(alpha)."""
        x, variance = np.array([1.0, 0]), 0.0
        for t, s in pairs:
            alpha = self.bars[t] / self.bars[s]

            def mean(x, t=t, alpha=alpha):
                eps = (x - math.sqrt(self.bars[t]) * self.best(x, t)) / math.sqrt(1 - self.bars[t])
                return (x - (1 - alpha) / math.sqrt(1 - self.bars[t]) * eps) / math.sqrt(alpha)

            shrink = mean(np.array([1.0, 0]))[0]
            new = 1 - alpha if large else (1 - alpha) * (1 - self.bars[s]) / (1 - self.bars[t])
            x, variance = mean(x), shrink**2 * variance + (new if s else 0)
        return x[1], x[0] ** 2 + variance


def noise(count: int = MANY, seed: int = 0) -> Noise:
    """Of pictures (1, 2, 2) in float64."""
    return Noise((count, 1, 2, 2), torch.Generator().manual_seed(seed), dtype=torch.float64)


def lines(process, data) -> list[Line]:
    """One for each pixel."""
    pixels = zip(*(part.flatten().tolist() for part in data), strict=True)
    return [Line(process.schedule, mean, variance) for mean, variance in pixels]


@pytest.mark.parametrize("spacing", ["trailing", "quadratic"])
@pytest.mark.parametrize("steps", [1, 2, 10, 50])
@pytest.mark.parametrize("name", DETERMINISTIC)
def test_deterministic_samplers_are_their_textbook_forms(make, oracle, data, name, steps, spacing):
    """Picture by picture, at any number of steps, to 1e-8."""
    process = make()
    pairs = spaced(1000, steps, spacing)
    found = DETERMINISTIC[name](process, oracle(process), noise(8), pairs).flatten(1)
    first = noise(8).draw().flatten(1)
    for pixel, line in enumerate(lines(process, data)):
        scale, shift = getattr(line, name)(pairs)
        assert torch.allclose(found[:, pixel], scale * first[:, pixel] + shift, atol=1e-8)


@pytest.mark.parametrize("name", DETERMINISTIC)
def test_all_steps_are_the_textbook_forms_too(make, oracle, data, name):
    """As before, with T steps."""
    test_deterministic_samplers_are_their_textbook_forms(make, oracle, data, name, 1000, "trailing")


@pytest.mark.parametrize("steps", [10, 50, 1000])
@pytest.mark.parametrize("variance", [SmallVariance(), LargeVariance()], ids=lambda variance: variance.kind)
def test_ancestral_has_its_mean_and_variance(make, oracle, data, variance, steps):
    """Of many pictures, within 5 standard errors of what the steps add up to."""
    process = make(variance=variance)
    pairs = spaced(1000, steps)
    found = ancestral(process, oracle(process), noise(), pairs).flatten(1)
    for pixel, line in enumerate(lines(process, data)):
        mean, spread = line.ancestral(pairs, variance.kind == "large")
        assert float(found[:, pixel].mean()) == pytest.approx(mean, abs=5 * math.sqrt(spread / MANY))
        assert float(found[:, pixel].var()) == pytest.approx(spread, rel=5 * math.sqrt(2 / MANY))


def test_samplers_come_to_the_truth(make, data):
    """What each gives comes nearer to the data as steps grow; with 1000, deviations are within 1.5 %."""
    for line in lines(make(), data):
        truth = math.sqrt(line.variance)
        for name in ("ddim", "heun", "dpm_solver_pp_2m", "small", "large"):
            errors = []
            for steps in (10, 50, 250, 1000):
                pairs = spaced(1000, steps)
                if name in DETERMINISTIC:
                    found = abs(getattr(line, name)(pairs)[0])
                else:
                    found = math.sqrt(line.ancestral(pairs, name == "large")[1])
                errors.append(abs(found / truth - 1))
            # A deviation of 0.1 is that of noise at time 57: its curve is steeper than 10 steps can see.
            assert errors[-1] < 0.05 if truth < 0.2 else errors[-1] < 0.015, (name, truth, errors)
            assert errors[-1] <= errors[0], (name, truth, errors)


def test_second_order_is_better(make, data):
    """With 50 steps Heun and DPM-Solver++ are nearer to a deviation of 0.5 than DDIM."""
    line = Line(make().schedule, 0.0, 0.25)
    pairs = spaced(1000, 50)
    errors = {name: abs(abs(getattr(line, name)(pairs)[0]) - 0.5) for name in DETERMINISTIC}
    assert errors["dpm_solver_pp_2m"] < errors["heun"] < errors["ddim"] and errors["ddim"] > 0.02


def test_the_slides_first_algorithm_2_gives_grey(make):
    """Slides first print (1 - alpha) / sqrt(1 - alpha), not / sqrt(1 - bar): deviation 0.175, not 0.5."""
    bars = make().schedule.alpha_bar.numpy()
    found = {"right": 1.0, "printed": 1.0}
    for t in range(1000, 0, -1):
        alpha = bars[t] / bars[t - 1]
        eps = math.sqrt(1 - bars[t]) / (0.25 * bars[t] + 1 - bars[t])  # the exact network, times x
        for form, root in (("right", 1 - bars[t]), ("printed", 1 - alpha)):
            shrink = (1 - (1 - alpha) / math.sqrt(root) * eps) / math.sqrt(alpha)
            found[form] = shrink**2 * found[form] + (1 - alpha if t > 1 else 0)
    assert math.sqrt(found["right"]) == pytest.approx(0.501, abs=5e-4)
    assert math.sqrt(found["printed"]) == pytest.approx(0.1746, abs=5e-4)
    mean, variance = Line(make().schedule, 0.0, 0.25).ancestral(spaced(1000, 1000), large=True)
    assert math.sqrt(variance) == pytest.approx(math.sqrt(found["right"]), rel=1e-9) and mean == 0


def test_learned_variances_give_the_data_exactly(make, oracle, data):
    """With the true variance of each step, T steps of ancestral sampling draw from the data's Gaussian."""
    process = make(variance=LearnedRange(), schedule=LinearConfig(steps=100))
    found = ancestral(process, oracle(process), noise(8000), spaced(100, 100)).flatten(1)
    assert torch.allclose(found.mean(0), data[0].flatten(), atol=0.03)
    # The last step draws nothing, so its variance, at most beta_1 = 0.001, is missing.
    assert torch.allclose(found.var(0), data[1].flatten(), rtol=0.05, atol=1.1e-3)


@pytest.mark.parametrize("steps", [10, 200])
def test_ddim_at_1_is_ancestral(make, oracle, steps):
    """With eta = 1, the small variance and the same noise both give the same pictures, to 1e-9."""
    process = make(variance=SmallVariance(), schedule=LinearConfig(steps=200))
    pairs = spaced(200, steps)
    one = ddim(process, oracle(process), noise(8), pairs, eta=1.0)
    assert torch.allclose(one, ancestral(process, oracle(process), noise(8), pairs), atol=1e-9)


def test_ddim_at_0_draws_once(make, oracle):
    """Only the first noise is drawn, and the same noise gives the same picture; at 0.5 every step draws."""
    process = make()
    for eta, draws in ((0.0, 1), (0.5, 10)):
        source, twin = noise(4), noise(4)
        found = ddim(process, oracle(process), source, spaced(1000, 10), eta=eta)
        for _ in range(draws):
            twin.draw()
        assert torch.equal(source.draw(), twin.draw())
        assert torch.equal(found, ddim(process, oracle(process), noise(4), spaced(1000, 10), eta=eta))


@pytest.mark.parametrize("sampler", [ancestral, ddim, dpm_solver_pp_2m, heun])
def test_it_does_not_matter_what_is_predicted(make, oracle, sampler):
    """Networks of all four targets give the same pictures."""
    found = []
    for target in (NoiseTarget(), ImageTarget(), VelocityTarget(), MeanTarget()):
        process = make(target=target)
        found.append(sampler(process, oracle(process), noise(4), spaced(1000, 20)))
    assert all(torch.allclose(found[0], other, atol=1e-8) for other in found[1:])


@pytest.mark.parametrize("sampler", [ancestral, ddim])
def test_respaced_is_a_process_of_its_own(make, oracle, sampler):
    """Twenty of 1000 steps are all steps of the process respaced to those times."""
    process = make()
    pairs = spaced(1000, 20)
    times = [t for t, _ in reversed(pairs)]
    part = Process(process.schedule.respaced(times), process.target, process.variance)
    one = sampler(process, oracle(process), noise(4), pairs)
    assert torch.allclose(one, sampler(part, oracle(part), noise(4), spaced(20, 20)), atol=1e-10)


@pytest.mark.parametrize("sampler", [ancestral, ddim, dpm_solver_pp_2m, heun])
def test_a_picture_of_a_seed_is_the_same_in_any_batch(make, oracle, sampler):
    """Alone or among others, in float32, but for rounding."""
    process = make()
    network = oracle(process)
    network.mean, network.variance = network.mean.float(), network.variance.float()
    pairs = spaced(1000, 10)
    three = sampler(process, network, Noise((3, 1, 2, 2), [5, 6, 7]), pairs)
    one = sampler(process, network, Noise((1, 1, 2, 2), [6]), pairs)
    assert three.dtype == torch.float32 and torch.allclose(three[1:2], one, atol=1e-5)


@pytest.mark.parametrize("correction", [Clip(), DynamicThreshold()])
@pytest.mark.parametrize("sampler", [ancestral, ddim, dpm_solver_pp_2m, heun])
def test_corrections_keep_pictures_in_range(make, sampler, correction):
    """A network that exaggerates gives pictures within [-1, 1], if that is asked for."""
    process = make(target=ImageTarget())
    plain = sampler(process, lambda x, t, labels: 3 * x, noise(4), spaced(1000, 10))
    options = Options(correction=correction)
    found = sampler(process, lambda x, t, labels: 3 * x, noise(4), spaced(1000, 10), options)
    assert float(plain.abs().max()) > 1.5 and float(found.abs().max()) <= 1 + 1e-9


def test_calls_of_the_network(make):
    """One a step, Heun's two but for the last; times are int64 (b,) and progress sees every step."""
    process, seen, shown = make(), [], []

    def network(x, t, labels):
        assert t.dtype == torch.int64 and t.shape == (len(x),) and labels is None
        seen.append(int(t[0]))
        return x

    def progress(pairs):
        for pair in pairs:
            yield pair
            shown.append(pair)

    pairs = spaced(1000, 4)
    for sampler, wanted in ((ancestral, [1000, 750, 500, 250]), (heun, [1000, 750, 750, 500, 500, 250, 250])):
        seen.clear(), shown.clear()
        sampler(process, network, noise(2), pairs, Options(progress=progress))
        assert seen == wanted and shown[:3] == pairs[:3]


@pytest.mark.parametrize("eta", [-0.1, 1.5])
def test_eta_outside(make, oracle, eta):
    """Variance cannot be negative, nor more than all."""
    with pytest.raises(ValueError, match=rf"eta {eta} is outside \[0, 1\]"):
        ddim(make(), oracle(make()), noise(1), spaced(1000, 10), eta=eta)


@pytest.mark.parametrize("pairs", [[], [(10, 5)], [(10, 5), (4, 0)], [(2000, 0)]])
def test_pairs_that_cannot_be_walked(make, oracle, pairs):
    """Gaps, ends above 0 and times beyond T are refused before the network is asked."""
    with pytest.raises(ValueError, match=r"must follow one another|t 2000 is outside \[1, 1000\]"):
        ancestral(make(), oracle(make()), noise(1), pairs)


@pytest.mark.gpu
@pytest.mark.parametrize("sampler", [ancestral, ddim, dpm_solver_pp_2m, heun])
def test_a_gpu_draws_the_same_pictures(make, sampler):
    """From a CPU generator, in float64 to 1e-9."""
    process = make(target=VelocityTarget())
    found = []
    for device in ("cpu", "cuda"):
        numbers = torch.tensor([0.2, 0.3], dtype=torch.float64, device=device).view(2, 1, 1, 1)
        source = Noise((4, 1, 2, 2), torch.Generator().manual_seed(0), device, torch.float64)
        found.append(sampler(process, GaussianOracle(process, *numbers), source, spaced(1000, 10)).cpu())
    assert torch.allclose(*found, atol=1e-9)
