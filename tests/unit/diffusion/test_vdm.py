"""The variational diffusion model: discrete time is a diffusion process, continuous time its limit."""

import math
from dataclasses import replace

import pytest
import torch
from torch import Tensor, nn

from diffusion.decoders import Softmax256
from diffusion.gamma import LearnedLinearGammaConfig, MonotoneGammaConfig, gammas
from diffusion.likelihood import Measuring, prior_matching, term
from diffusion.likelihood import elbo as likelihood_elbo
from diffusion.networks.unet import UNetConfig
from diffusion.pixels import signed
from diffusion.vdm import VDM, VDMConfig, antithetic, softmax_log_likelihood

UNET = UNetConfig(
    channels=8, groups=4, multipliers=(1,), blocks=1, attention_levels=(), in_channels=15, out_channels=3
)
TINY = VDMConfig(size=8, network=UNET)


@pytest.fixture
def images() -> Tensor:
    """(4, 3, 8, 8) on 256 levels."""
    return torch.randint(256, (4, 3, 8, 8), generator=torch.Generator().manual_seed(1)) / 255


def lively(config: VDMConfig = TINY) -> VDM:
    """A model whose last layer says something, as a trained one's does."""
    model = config.build()
    nn.init.normal_(model.unet.conv_out.weight, std=0.1)
    return model.eval()


GRAY = replace(UNET, in_channels=5, out_channels=1)


class Cheap(VDM):
    """A model whose network is a formula, for tests that ask it very often."""

    def noise(self, z: Tensor, gamma: Tensor) -> Tensor:
        """Something that depends on both."""
        return (1.3 * z + gamma.to(z).view(-1, 1, 1, 1) / 5).sin()


def noisy(model: VDM, x: Tensor, gamma: Tensor, noise: Tensor) -> Tensor:
    """z of x at a noise level."""
    return (-gamma).sigmoid().sqrt() * x + gamma.sigmoid().sqrt() * noise


@pytest.mark.parametrize("kind", [TINY.gamma, MonotoneGammaConfig(width=16)], ids=lambda kind: kind.kind)
@torch.no_grad()
def test_discrete_time_is_a_diffusion_process_with_small_variance(images: Tensor, kind):
    """1/2 expm1(gamma_t - gamma_s) |eps - eps_hat|^2 is the term that `diffusion.likelihood` gives the same
    network and noise, at each of T = 8 steps."""
    model, steps, x = lively(VDMConfig(size=8, network=UNET, gamma=kind)), 8, signed(images)
    values = gammas(model.gamma, steps)
    for t in range(1, steps + 1):
        noise = torch.randn(x.shape, generator=torch.Generator().manual_seed(t))
        gamma = values[t].float()
        error = noise - model.noise(noisy(model, x, gamma, noise), gamma.expand(len(x)))
        step = torch.expm1(values[t] - values[t - 1]).float()
        ours = step * error.square().flatten(1).mean(1) / (2 * math.log(2))
        theirs = term(
            model.process(steps),
            lambda z, t: model.network(steps)(z, torch.tensor(t).expand(len(z))),
            x,
            t + 1,
            noise,
        )
        assert torch.allclose(ours, theirs, rtol=2e-3)


@torch.no_grad()
def test_the_whole_discrete_bound_is_that_of_the_likelihood(images: Tensor):
    """Of the same seed, `elbo` is `diffusion.likelihood.elbo` of `process` and `network`; and what training
    minimizes has the same mean."""
    model = lively(VDMConfig(size=8, network=UNET, steps=4))
    generator = torch.Generator().manual_seed(5)
    bound = likelihood_elbo(
        model.process(4), model.network(4), images, generator, measuring=Measuring(decoder=Softmax256())
    )
    assert torch.equal(model.elbo(images, seed=5).total, bound.total)
    many = images[:1].expand(300, 3, 8, 8)
    trained = model(many, torch.Generator().manual_seed(0))
    exact = model.elbo(many, seed=1)
    for one, other in zip(trained, exact, strict=True):
        error = math.hypot(float(one.std()), float(other.std())) / math.sqrt(300)
        assert abs(one.double().mean() - other.double().mean()) < 4 * error + 1e-6


@torch.no_grad()
def test_continuous_time_is_the_limit_of_many_steps(images: Tensor):
    """The gap to the bound of T steps falls as 1 / T: ten times the steps, about a tenth of the gap."""
    model = Cheap(VDMConfig(size=4, channels=1, network=GRAY))
    many = images[:1, :1, :4, :4].expand(64, 1, 4, 4)
    limit = model.elbo(many, draws=200).mean
    gaps = [model.elbo(many, steps=steps).mean - limit for steps in (20, 200)]
    assert gaps[0] > gaps[1] > 0 and gaps[0] / gaps[1] > 6


@torch.no_grad()
def test_the_continuous_bound_knows_only_the_ends_of_gamma(images: Tensor):
    """With the same ends, a bent gamma has the same mean as a straight one; in discrete time it has not."""
    config = VDMConfig(size=4, channels=1, network=GRAY)
    straight, bent = Cheap(config), Cheap(replace(config, gamma=MonotoneGammaConfig(width=4)))
    bent.gamma.inner.fill_(12)
    bent.gamma.bias.fill_(-6)
    bent.gamma.outer.fill_(1)
    many = images[:1, :1, :4, :4].expand(64, 1, 4, 4)
    one, other = straight.elbo(many, draws=128), bent.elbo(many, draws=128)
    assert abs(one.mean - other.mean) < 4 * math.hypot(one.standard_error, other.standard_error)
    gap = straight.elbo(many, steps=5).mean - bent.elbo(many, steps=5).mean
    assert abs(gap) > 0.1


@pytest.mark.parametrize("first", [-13.3, -8.0, -1.0])
def test_the_softmax_decoder_is_the_likelihoods(images: Tensor, first: float):
    """With the noise in z_0 the same, as `Softmax256` of the process, which looks at all levels; and gamma(0)
    gets a gradient."""
    images[0, 0, 0, :4] = torch.tensor([0.0, 0.0, 1.0, 1.0])
    model = lively(VDMConfig(size=8, network=UNET, gamma=LearnedLinearGammaConfig(first=first)))
    x, noise = signed(images), torch.randn(images.shape)
    gamma = model.gamma(torch.tensor([0.0]))[0]
    ours = softmax_log_likelihood(x, noise, gamma)
    z = noisy(model, x, gamma, noise).detach()
    theirs = Softmax256().log_likelihood(model.process(4).schedule, x, z, None)
    assert torch.allclose(ours, theirs, atol=1e-2)
    ours.mean().backward()
    assert model.gamma.first.grad.abs() > 0


def test_prior_term_is_the_likelihoods(images: Tensor):
    """KL(q(z_1 | x), N(0, 1)), as of the process at its last time."""
    model = lively()
    ours = model.elbo(images, draws=1).prior
    assert torch.allclose(ours.double(), prior_matching(model.process(7).schedule, signed(images)), rtol=1e-4)


def test_antithetic_times_are_even():
    """Each of b equal parts of [0, 1) gets one time; the place within is uniform."""
    times = torch.stack([antithetic(8, torch.Generator().manual_seed(seed)) for seed in range(400)])
    assert ((times >= 0) & (times < 1)).all()
    assert ((times.sort(1).values * 8).floor() == torch.arange(8)).all()
    assert times[:, 0].mean().item() == pytest.approx(0.5, abs=0.06)


def test_a_new_model_says_sigma_z(images: Tensor):
    """The best answer if pictures were white noise, so that learning does not begin by unlearning."""
    model, z = TINY.build(), torch.randn(4, 3, 8, 8)
    assert torch.allclose(model.noise(z, torch.full((4,), 2.0)), torch.tensor(2.0).sigmoid().sqrt() * z)


@pytest.mark.parametrize("steps", [None, 20])
def test_learning(steps: int | None):
    """Twenty steps on flat pictures take a quarter of a bit off the bound, and the ends of gamma move."""
    flat = torch.tensor([30, 60, 180, 220]).view(4, 1, 1, 1).expand(4, 3, 8, 8) / 255
    config = VDMConfig(size=8, network=UNET, gamma=LearnedLinearGammaConfig(), steps=steps)
    model, generator = config.build(), torch.Generator().manual_seed(0)
    before, first = model.elbo(flat, draws=16).mean, model.gamma.first.item()
    optimizer = torch.optim.Adam(model.parameters(), lr=1e-2)
    for _ in range(20):
        optimizer.zero_grad()
        model(flat.repeat(4, 1, 1, 1), generator).total.mean().backward()
        optimizer.step()
    assert model.elbo(flat, draws=16).mean < before - 0.25
    assert model.gamma.first.item() != first


def test_samples():
    """Pictures in [0, 1]; the first of several does not depend on their number."""
    model = lively()
    drawn = model.sample(3, steps=4, seed=1)
    assert drawn.shape == (3, 3, 8, 8) and drawn.min() >= 0 and drawn.max() <= 1
    assert torch.allclose(drawn[:1], model.sample(1, steps=4, seed=1), atol=0.02)
    assert not torch.allclose(drawn[0], drawn[1], atol=1e-2)


def test_saved_and_loaded(images: Tensor, tmp_path):
    """The same bound comes back, of a learned gamma too."""
    model = lively(VDMConfig(size=8, network=UNET, gamma=MonotoneGammaConfig(width=4)))
    model.save_pretrained(tmp_path / "model")
    again = VDM.from_pretrained(tmp_path / "model")
    assert torch.equal(again.elbo(images, draws=2).total, model.elbo(images, draws=2).total)
    assert again.config == model.config


def test_mistakes(images: Tensor):
    """Each is told with the way out."""
    model = TINY.build()
    with pytest.raises(ValueError, match="it is given 15 channels, and says the noise of 3"):
        VDMConfig(size=8, network=UNetConfig(channels=8, groups=4))
    with pytest.raises(ValueError, match="steps 0 is below 1: give T, or None"):
        VDMConfig(size=8, network=UNET, steps=0)
    with pytest.raises(ValueError, match="draws 0 are none"):
        model.elbo(images, draws=0)
    with pytest.raises(ValueError, match="steps 0 is no whole number from 1"):
        model.sample(1, steps=0)
    with pytest.raises(ValueError, match="0 pictures are none"):
        model.sample(0)
    with pytest.raises(ValueError, match="resize them"):
        model.elbo(images[..., :4])
    with pytest.raises(ValueError, match="away from 256 levels"):
        model.elbo(images * 0.9971)
