"""Objectives: their weights, what each teaches, and that their means are what they say."""

import math

import pytest
import torch

from diffusion.likelihood import Measuring, elbo
from diffusion.objectives import Hybrid, MinSNR, Simple, Variational, losses
from diffusion.schedules import LinearConfig
from diffusion.targets import ImageTarget, MeanTarget, NoiseTarget, VelocityTarget, noise_in
from diffusion.times import LossAwareTimes, UniformTimes
from diffusion.variances import LearnedRange, SmallVariance

TIMES = torch.tensor([1, 2, 100, 500, 1000])
TARGETS = (NoiseTarget(), ImageTarget(), VelocityTarget(), MeanTarget())


def generator(seed: int = 0) -> torch.Generator:
    """On the CPU."""
    return torch.Generator().manual_seed(seed)


def pictures(count: int) -> torch.Tensor:
    """(count, 3, 4, 4) of 256 levels."""
    return torch.randint(256, (count, 3, 4, 4), generator=generator()).float() / 255


class Linear(torch.nn.Module):
    """Scales its input, and says a number for every variance; both are learned."""

    def __init__(self, variances: bool = False) -> None:
        super().__init__()
        self.scale = torch.nn.Parameter(torch.tensor(0.9))
        self.variance = torch.nn.Parameter(torch.tensor(0.1)) if variances else None

    def forward(self, x, t, labels):
        """(b, o, h, w)."""
        if self.variance is None:
            return self.scale * x
        return torch.cat((self.scale * x, self.variance.expand_as(x)), 1)


def test_simple_is_the_mean_square(make):
    """Of the noise, from the generator's own times and noise."""
    process, images = make(), pictures(5)
    found = losses(Simple(), process, Linear(), images, UniformTimes(1000), generator())
    twin = generator()
    t = torch.randint(1, 1001, (5,), generator=twin)
    noise = torch.randn(images.shape, generator=twin)
    x_t = process.diffuse(images * 2 - 1, t, noise)
    assert torch.equal(found.t, t)
    assert torch.allclose(found.values, (0.9 * x_t - noise).square().mean((1, 2, 3)))
    assert torch.allclose(found.mean, found.values.mean())


@pytest.mark.parametrize("target", TARGETS[:3], ids=lambda target: target.kind)
def test_weights_of_min_snr(make, target):
    """Noise min(SNR, 5) / SNR, image min(SNR, 5), velocity min(SNR, 5) / (SNR + 1)."""
    process = make(target=target)
    snr = process.schedule.snr(TIMES)
    cut = snr.clamp(max=5)
    wanted = {"noise": cut / snr, "image": cut, "velocity": cut / (snr + 1)}[target.kind]
    assert torch.allclose(MinSNR(gamma=5).weight(process, TIMES), wanted, rtol=1e-9)


def test_min_snr_is_the_same_whatever_is_predicted(make):
    """The same estimate of x_0 costs the same, said as noise, image, velocity or mean."""
    x_0 = pictures(5).double() * 2 - 1
    noise = torch.randn(x_0.shape, generator=generator(), dtype=torch.float64)
    wrong = x_0 + 0.1
    found = []
    for target in TARGETS:
        process = make(target=target)
        x_t = process.diffuse(x_0, TIMES, noise)
        implied = noise_in(process.schedule, wrong, x_t, TIMES)
        output = target.of(process.schedule, wrong, implied, TIMES)
        found.append(MinSNR()(process, output, x_0, x_t, TIMES, noise))
    assert all(torch.allclose(found[0], other, rtol=1e-6) for other in found[1:])
    assert torch.allclose(found[1], process.schedule.snr(TIMES).clamp(max=5) * 0.01, rtol=1e-6)


def test_hybrid_teaches_variances_by_the_bound_only(make):
    """The prediction's gradient is that of simple, the variance's that of 0.001 x the bound."""
    learned, fixed = make(variance=LearnedRange()), make()
    grads = {}
    for name, objective, process in [
        ("hybrid", Hybrid(), learned),
        ("simple", Simple(), fixed),
        ("bound", Variational(), learned),
    ]:
        network = Linear(variances=process is learned)
        losses(objective, process, network, pictures(16), UniformTimes(1000), generator()).mean.backward()
        grads[name] = network
    assert torch.allclose(grads["hybrid"].scale.grad, grads["simple"].scale.grad)
    assert torch.allclose(grads["hybrid"].variance.grad, 0.001 * grads["bound"].variance.grad, rtol=1e-4)
    assert not torch.allclose(grads["bound"].scale.grad, grads["simple"].scale.grad)


def test_the_variational_loss_is_the_bound(make):
    """Its mean over all times is reconstruction and denoising matching of `elbo`, within 4 errors."""
    process = make(schedule=LinearConfig(steps=25), variance=SmallVariance())
    images = pictures(4).repeat(2000, 1, 1, 1)
    network = Linear().requires_grad_(False)
    bound = elbo(process, network, images[:400], generator(1))
    wanted = float((bound.reconstruction + bound.denoising).mean())
    found = losses(Variational(), process, network, images, UniformTimes(25), generator())
    error = math.hypot(bound.standard_error, float(found.values.std()) / math.sqrt(8000))
    assert float(found.mean) == pytest.approx(wanted, abs=4 * error)
    aware = LossAwareTimes(25)
    aware.learn(found.t, found.values)
    again = losses(Variational(), process, network, images, aware, generator(2))
    weighted = again.values * again.weights
    error = math.hypot(bound.standard_error, float(weighted.std()) / math.sqrt(8000))
    assert float(again.mean) == pytest.approx(wanted, abs=4 * error)
    assert float(weighted.std()) < float(found.values.std()) / 2  # what importance sampling is for


@pytest.mark.parametrize("objective", [Simple(), MinSNR(), Hybrid(), Variational()], ids=lambda one: one.kind)
def test_losses_are_float32_under_autocast(make, objective):
    """A network in bfloat16 has losses in float32, near to those of float32, and finite gradients."""
    learned = objective.kind in ("hybrid", "variational")
    process = make(variance=LearnedRange() if learned else SmallVariance())
    convolution = torch.nn.Conv2d(3, 6 if learned else 3, 3, padding=1)
    found = {}
    for half in (False, True):
        with torch.autocast("cpu", torch.bfloat16, enabled=half):
            times = UniformTimes(1000)
            network = lambda x, t, labels: convolution(x)  # noqa: E731
            found[half] = losses(objective, process, network, pictures(8), times, generator())
    assert found[True].values.dtype == torch.float32 and found[True].values.shape == (8,)
    assert torch.allclose(found[True].values, found[False].values, rtol=0.05)
    found[True].mean.backward()
    assert all(weight.grad.isfinite().all() for weight in convolution.parameters())


@pytest.mark.parametrize(
    ("objective", "variance", "message"),
    [
        (Hybrid(), SmallVariance(), "'small' learns none: take variance 'learned_range'"),
        (Simple(), LearnedRange(), "teaches no variances"),
        (MinSNR(), LearnedRange(), "take objective 'hybrid' or 'variational'"),
    ],
)
def test_objectives_that_do_not_fit(make, objective, variance, message):
    """A variance nobody learns, and one nobody teaches."""
    with pytest.raises(ValueError, match=message):
        losses(objective, make(variance=variance), Linear(), pictures(2), UniformTimes(1000), generator())


def test_inputs_that_cannot_be(make):
    """Times of another process, pictures out of range, labels without classes, settings."""
    with pytest.raises(ValueError, match="times up to 10 for a process of 1000 steps"):
        losses(Simple(), make(), Linear(), pictures(2), UniformTimes(10), generator())
    with pytest.raises(ValueError, match="not within"):
        losses(Simple(), make(), Linear(), pictures(2) * 255, UniformTimes(1000), generator())
    with pytest.raises(ValueError, match="knows no classes"):
        losses(Simple(), make(), Linear(), pictures(1), UniformTimes(1000), generator(), torch.tensor([0]))
    with pytest.raises(ValueError, match="gamma 0 is not above 0"):
        MinSNR(gamma=0)
    with pytest.raises(ValueError, match=r"weight 0 is outside \(0, inf\)"):
        Hybrid(weight=0)


@pytest.mark.gpu
@pytest.mark.parametrize("objective", [Hybrid(), Variational()], ids=lambda one: one.kind)
def test_a_gpu_has_the_same_losses(make, objective):
    """And the same bound, from a CPU generator, to 1e-3."""
    process, images = make(variance=LearnedRange(), schedule=LinearConfig(steps=30)), pictures(4)
    found = {}
    for device in ("cpu", "cuda"):
        network = Linear(variances=True).to(device)
        values = losses(objective, process, network, images.to(device), UniformTimes(30), generator()).values
        bound = elbo(process, network, images.to(device), generator(), measuring=Measuring(times=5))
        found[device] = torch.cat((values.detach().cpu().double(), bound.total))
    assert torch.allclose(found["cpu"], found["cuda"], rtol=1e-3)
