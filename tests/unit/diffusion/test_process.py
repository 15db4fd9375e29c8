"""An output becomes picture, noise, mean and variance."""

import math

import pytest
import torch

from diffusion.corrections import Clip, DynamicThreshold
from diffusion.gaussians import posterior_mean
from diffusion.process import ProcessConfig
from diffusion.schedules import CosineConfig
from diffusion.targets import ImageTarget, MeanTarget, NoiseTarget, VelocityTarget
from diffusion.variances import LargeVariance, LearnedRange, SmallVariance
from vqtok.training.config import parse

GENERATOR = torch.Generator().manual_seed(0)
X_0 = torch.rand(3, 2, 4, 4, generator=GENERATOR, dtype=torch.float64) * 2 - 1
NOISE = torch.randn(X_0.shape, generator=GENERATOR, dtype=torch.float64)


@pytest.mark.parametrize("t", [1, 2, 400, torch.tensor([1, 30, 1000])])
@pytest.mark.parametrize(
    "target", [NoiseTarget(), ImageTarget(), VelocityTarget(), MeanTarget()], ids=lambda target: target.kind
)
def test_a_right_output_says_what_is(make, target, t):
    """Of the right output, the image is x_0, the noise is the noise, the mean is the posterior's."""
    process = make(target=target)
    x_t = process.diffuse(X_0, t, NOISE)
    estimate = process.split(target.of(process.schedule, X_0, NOISE, t), x_t, t)
    assert torch.allclose(estimate.image, X_0, atol=1e-9) and torch.allclose(estimate.noise, NOISE, atol=1e-9)
    assert torch.allclose(estimate.mean, posterior_mean(process.schedule, x_t, X_0, t, t - 1), atol=1e-10)


def test_the_mean_of_ddpm(make):
    """(x_t - beta / sqrt(1 - bar) noise) / sqrt(alpha), eq. 11. Slides: sqrt(1 - alpha), 10 times that."""
    process, t = make(), 501
    x_t = process.diffuse(X_0, t, NOISE)
    beta, bar = float(process.schedule.betas[t]), float(process.schedule.alpha_bar[t])
    right = (x_t - beta / math.sqrt(1 - bar) * NOISE) / math.sqrt(1 - beta)
    assert torch.allclose(process.split(NOISE, x_t, t).mean, right, atol=1e-12)
    printed = (x_t - beta / math.sqrt(beta) * NOISE) / math.sqrt(1 - beta)
    assert float((printed - right).abs().max()) > 0.1


@pytest.mark.parametrize(("variance", "wanted"), [(SmallVariance(), "small"), (LargeVariance(), "large")])
def test_fixed_variances(make, variance, wanted):
    """Small is the posterior's, large is beta; at time 1 both are the posterior's of time 2."""
    process = make(variance=variance)
    betas, bars = process.schedule.betas, process.schedule.alpha_bar
    small = betas[2:] * (1 - bars[1:-1]) / (1 - bars[2:])
    for t in (1, 2, 3, 1000):
        found = process.split(NOISE, NOISE, t).log_variance
        number = small[max(t - 2, 0)] if wanted == "small" or t == 1 else betas[t]
        assert found.shape == NOISE.shape and torch.allclose(found.exp(), number.expand_as(found), rtol=1e-9)


def test_learned_range(make):
    """-1 is the small variance, 1 beta, 0 their geometric mean; at time 1 from that of time 2 to beta."""
    process = make(variance=LearnedRange())
    assert process.channels(3) == 6
    betas, bars = process.schedule.betas, process.schedule.alpha_bar
    for t in (1, 700):
        at = max(t, 2)
        small = float(betas[at] * (1 - bars[at - 1]) / (1 - bars[at]))
        for said, wanted in [(-1, small), (1, float(betas[t])), (0, math.sqrt(small * float(betas[t])))]:
            output = torch.cat((NOISE, torch.full_like(NOISE, said)), 1)
            found = process.split(output, NOISE, t).log_variance.exp()
            assert torch.allclose(found, torch.tensor(wanted, dtype=found.dtype), rtol=1e-9)


def test_longer_steps(make):
    """From 800 to 300 the mean is that posterior's, and the variances are those between the two times."""
    x_t = make().diffuse(X_0, 800, NOISE)
    bars = make().schedule.alpha_bar
    added = float(1 - bars[800] / bars[300])
    small = added * float((1 - bars[300]) / (1 - bars[800]))
    for variance, wanted in [(LargeVariance(), added), (SmallVariance(), small)]:
        estimate = make(variance=variance).split(NOISE, x_t, 800, 300)
        assert torch.allclose(estimate.mean, posterior_mean(make().schedule, x_t, X_0, 800, 300), atol=1e-9)
        assert float(estimate.log_variance[0, 0, 0, 0].exp()) == pytest.approx(wanted, rel=1e-9)


@pytest.mark.parametrize("correction", [Clip(), DynamicThreshold()])
def test_a_correction_reaches_everything(make, correction):
    """Image, noise and mean agree about the corrected picture, and nothing is corrected unasked."""
    process, t = make(), 900
    x_t = process.diffuse(3 * X_0, t, NOISE)
    plain, corrected = process.split(NOISE, x_t, t), process.split(NOISE, x_t, t, correction=correction)
    assert float(plain.image.abs().max()) > 2 and float(corrected.image.abs().max()) <= 1
    again = process.diffuse(corrected.image, t, corrected.noise)
    assert torch.allclose(again, x_t)
    assert torch.allclose(corrected.mean, posterior_mean(process.schedule, x_t, corrected.image, t, t - 1))


def test_half_precision_is_left_at_once(make):
    """An output in bfloat16 makes float32 estimates."""
    x_t = NOISE.float()
    estimate = make().split(NOISE.bfloat16(), x_t, 10)
    assert {part.dtype for part in estimate} == {torch.float32}


def test_wrong_channels(make):
    """Who forgets the variances' channels, or has too many, is told how many are wanted."""
    with pytest.raises(ValueError, match="variance 'learned_range' wants 4 channels for pictures of 2"):
        make(variance=LearnedRange()).split(NOISE, NOISE, 5)
    with pytest.raises(ValueError, match="variance 'large' wants 2 channels"):
        make().split(torch.cat((NOISE, NOISE), 1), NOISE, 5)


@pytest.mark.parametrize(
    ("t", "s", "message"), [(0, None, "t 0"), (1001, None, "t 1001"), (5, 5, "not before")]
)
def test_wrong_times(make, t, s, message):
    """Times outside, and steps that go nowhere, are refused."""
    with pytest.raises(ValueError, match=message):
        make().split(NOISE, NOISE, t, s)


def test_recipes_choose_by_kind():
    """Every part of a process is one word in a recipe, with its own settings beside it."""
    said = ["--schedule.kind=cosine", "--schedule.steps=50"]
    said += ["--target.kind=velocity", "--variance.kind=small"]
    wanted = {"schedule": CosineConfig(steps=50), "target": VelocityTarget(), "variance": SmallVariance()}
    assert parse(ProcessConfig, said) == ProcessConfig(**wanted)


def test_defaults_are_ddpms():
    """Linear, noise, large, 1000 steps."""
    config = ProcessConfig()
    assert (config.schedule.kind, config.target.kind, config.variance.kind) == ("linear", "noise", "large")
    assert config.build().steps == 1000
