"""The hierarchical VAE: its bound on a chain that is solved, and that diffusion is one of it."""

import math
from collections.abc import Callable
from dataclasses import replace

import pytest
import torch
from torch import Tensor

from diffusion.chains import (
    DiffusionChain,
    climb,
    consistency,
    denoising,
    importance_weighted,
    log_ratio,
)
from diffusion.decoders import DiscretizedGaussian, GaussianDensity
from diffusion.hvae import HVAE, HVAEConfig
from diffusion.levels import LevelConfig
from diffusion.likelihood import Measuring, prior_matching, term
from diffusion.normals import Normal
from diffusion.process import Process
from diffusion.schedules import CosineConfig, Schedule
from diffusion.targets import NoiseTarget, noise_in
from diffusion.terms import bits
from diffusion.vae import VAEConfig
from diffusion.variances import SmallVariance

LEVEL = LevelConfig(channels=8, groups=4, latent=4)
TINY = HVAEConfig(size=8, chain=(LEVEL, replace(LEVEL, latent=6)))
DENSITY = Measuring(decoder=GaussianDensity())


@pytest.fixture
def images() -> Tensor:
    """(3, 3, 8, 8) on 256 levels."""
    return torch.randint(256, (3, 3, 8, 8), generator=torch.Generator().manual_seed(1)) / 255


def random_network(x_t: Tensor, t: Tensor, labels: Tensor | None = None) -> Tensor:
    """A network that says something, and something else at every time."""
    return (1.3 * x_t + torch.as_tensor(t).to(x_t).reshape(-1, 1, 1, 1)).sin()


def diffusion_chain(network: Callable = random_network, steps: int = 6) -> tuple[Process, DiffusionChain]:
    """A process of few steps in float64, and the hierarchical VAE that it is."""
    process = Process(CosineConfig(steps=steps).build(), NoiseTarget(), SmallVariance())
    return process, DiffusionChain(process, network, GaussianDensity())


def pictures(count: int) -> Tensor:
    """(count, 1, 2, 2) float64, of standard deviation 0.5."""
    drawn = torch.randn(count, 1, 2, 2, generator=torch.Generator().manual_seed(2), dtype=torch.float64)
    return drawn / 2


def test_diffusion_is_a_hierarchical_vae_term_by_term():
    """With the encoder fixed to q(x_t | x_{t-1}), each term of the bound is `likelihood.term` of the same
    noise: a path of single steps is the same as a jump with the noise that leads there."""
    process, chain = diffusion_chain()
    x = pictures(5)
    latents = climb(chain, x, torch.Generator().manual_seed(0))
    found = denoising(chain, x, latents)
    jumps = [
        term(process, random_network, x, t, noise_in(process.schedule, x, latents[t - 1], t), DENSITY)
        for t in range(1, process.steps + 1)
    ]
    assert torch.allclose(found.reconstruction, jumps[0], rtol=1e-9)
    assert torch.allclose(found.denoising, torch.stack(jumps[1:]).sum(0), rtol=1e-9)


def test_diffusions_prior_term_is_the_hierarchical_vaes():
    """KL(q(x_T | x_0), N(0, 1)), by the chain and by the likelihood's own formula."""
    process, chain = diffusion_chain()
    x = pictures(5)
    latents = climb(chain, x, torch.Generator().manual_seed(0))
    assert torch.allclose(denoising(chain, x, latents).prior, prior_matching(process.schedule, x), rtol=1e-9)


def test_bayes_turns_one_form_of_the_bound_into_the_other():
    """The log ratio of a path, with q(x_t | x_{t-1}) replaced by q(x_{t-1} | x_t, x_0) q(x_t | x_0) /
    q(x_{t-1} | x_0), is the same number: everything in between cancels."""
    process, chain = diffusion_chain()
    x = pictures(5)
    latents = climb(chain, x, torch.Generator().manual_seed(0))
    ratio = chain.log_likelihood(x, latents[0])
    ratio = ratio + Normal.standard(latents[-1]).log_density(latents[-1])
    ratio = ratio - chain.marginal(x, process.steps).log_density(latents[-1])
    for t in range(2, process.steps + 1):
        above, below = latents[t - 1], latents[t - 2]
        ratio = ratio + chain.down(above, t).log_density(below)
        ratio = ratio - chain.posterior(above, x, t).log_density(below)
    assert torch.allclose(log_ratio(chain, x, latents), ratio, rtol=1e-9)


def test_both_ways_to_sort_the_terms_have_one_mean():
    """Consistency and denoising agree within four standard errors of 40,000 paths."""
    _, chain = diffusion_chain(steps=4)
    x = pictures(1).expand(40_000, 1, 2, 2)
    latents = climb(chain, x, torch.Generator().manual_seed(0))
    one, other = consistency(chain, x, latents).total, denoising(chain, x, latents).total
    plain = bits(-log_ratio(chain, x, latents), x)
    for pair in ((one, other), (one, plain)):
        gap = pair[0] - pair[1]
        assert abs(gap.mean()) < 4 * gap.std() / math.sqrt(len(gap))
    assert other.std() < one.std()  # what is computed need not be drawn


def test_neighbors_held_fixed_are_another_number():
    """E[KL(q(z_l | z_{l-1}), p(z_l | z_{l+1}))], as it is often printed, is not the term between: z_{l+1} was
    drawn from the z_l that this KL draws anew. It is far too large, by more than 50 standard errors."""
    _, chain = diffusion_chain(steps=4)
    x = pictures(1).expand(40_000, 1, 2, 2)
    path = [x, *climb(chain, x, torch.Generator().manual_seed(0))]
    printed = sum(
        chain.up(path[level - 1], level).divergence(chain.down(path[level + 1], level + 1))
        for level in range(1, chain.levels)
    )
    gap = bits(printed, x) - denoising(chain, x, path[1:]).denoising
    assert gap.mean() > 50 * gap.std() / math.sqrt(len(gap))


def test_an_exact_reverse_chain_has_no_gap():
    """With the oracle's mean and variance for Gaussian pictures, every path's log ratio is log p(x), but for
    what the prior does not match: the bound is tight."""
    process = Process(CosineConfig(steps=200).build(), NoiseTarget(), SmallVariance())
    chain = OracleChain(process.schedule)
    x = pictures(64)
    latents = climb(chain, x, torch.Generator().manual_seed(0))
    exact = -Normal(torch.zeros_like(x), torch.full_like(x, math.log(0.25))).log_density(x)
    gap = -log_ratio(chain, x, latents) - exact
    assert gap.abs().max() < 1e-3  # nats; alpha_bar_T is not quite 0


class OracleChain(DiffusionChain):
    """Pictures N(0, 1/4): p(x_{t-1} | x_t) is then known, mean and variance."""

    def __init__(self, schedule: Schedule) -> None:
        super().__init__(Process(schedule, NoiseTarget(), SmallVariance()), random_network, GaussianDensity())

    def down(self, above: Tensor, level: int) -> Normal:
        """By conditioning one Gaussian on another."""
        schedule = self.process.schedule
        kept, added = schedule.kept(level, level - 1), schedule.added(level, level - 1)
        below = 0.25 * schedule.kept(level - 1) + schedule.added(level - 1)
        whole = kept * below + added
        mean = kept.sqrt() * below / whole * above
        return Normal(mean, (below * added / whole).log().expand_as(mean))

    def log_likelihood(self, x: Tensor, latents: Tensor) -> Tensor:
        """p(x_0 | x_1), the same once more."""
        return self.down(latents, 1).log_density(x)


def test_one_level_is_the_vae(images: Tensor):
    """With the same weights it gives the same terms, the same tighter bound and the same pictures."""
    vae = VAEConfig(size=8, level=LEVEL).build()
    hvae = HVAEConfig(size=8, chain=(LEVEL,)).build()
    hvae.encoders[0].load_state_dict(vae.encoder.state_dict())
    hvae.decoders[0].load_state_dict(vae.decoder.state_dict())
    for one, other in zip(vae.elbo(images), hvae.elbo(images), strict=True):
        assert torch.allclose(one, other, rtol=1e-5)
    assert torch.allclose(
        vae.importance_weighted(images, count=3), hvae.importance_weighted(images, count=3), rtol=1e-5
    )
    assert torch.allclose(vae.sample(2, seed=3), hvae.sample(2, seed=3), atol=1e-6)
    assert torch.allclose(vae.reconstruct(images), hvae.reconstruct(images), atol=1e-6)


def test_terms_of_pictures(images: Tensor):
    """One number a picture; prior matching is a divergence, and levels have probabilities."""
    terms = TINY.build().elbo(images)
    assert all(part.shape == (3,) and part.isfinite().all() for part in terms)
    assert (terms.prior >= 0).all() and (terms.reconstruction >= 0).all()
    assert terms.mean == pytest.approx(float(terms.total.mean()), rel=1e-5)


def test_more_samples_are_tighter(images: Tensor):
    """64 paths together say a smaller bound than one, in the mean over pictures."""
    model = TINY.build()
    assert model.importance_weighted(images, count=64).mean() < model.importance_weighted(images, 1).mean()


def test_learning():
    """25 steps on four black and white pictures take more than a bit off the bound."""
    coarse = torch.randint(2, (4, 3, 4, 4), generator=torch.Generator().manual_seed(6)).float()
    blocks = coarse.repeat_interleave(2, 2).repeat_interleave(2, 3)
    model, generator = TINY.build(), torch.Generator().manual_seed(0)
    before = model.elbo(blocks).mean
    optimizer = torch.optim.Adam(model.parameters(), lr=1e-2)
    for _ in range(25):
        optimizer.zero_grad()
        model(blocks, generator).total.mean().backward()
        optimizer.step()
    assert model.elbo(blocks).mean < before - 1


def test_saved_and_loaded(images: Tensor, tmp_path):
    """The same bound comes back."""
    model = TINY.build()
    model.save_pretrained(tmp_path / "model")
    again = HVAE.from_pretrained(tmp_path / "model")
    assert torch.equal(again.elbo(images, seed=4).total, model.elbo(images, seed=4).total)
    assert again.config == TINY


def test_reconstructions_of_every_level(images: Tensor):
    """Pictures in [0, 1]; the first of several draws does not depend on their number."""
    model = TINY.build()
    for level in (1, 2):
        back = model.reconstruct(images, level)
        assert back.shape == images.shape and back.min() >= 0 and back.max() <= 1
    assert torch.allclose(model.sample(3, seed=1)[:1], model.sample(1, seed=1), atol=1e-6)


def test_mistakes(images: Tensor):
    """Each is told with the way out."""
    model = TINY.build()
    with pytest.raises(ValueError, match=r"level 3 is outside \[1, 2\]"):
        model.reconstruct(images, level=3)
    with pytest.raises(ValueError, match="0 pictures are none"):
        model.sample(0)
    with pytest.raises(ValueError, match="resize them"):
        model.elbo(images[:, :, :4])
    with pytest.raises(ValueError, match="away from 256 levels"):
        model.elbo(images * 0.9971)
    with pytest.raises(ValueError, match="chain is empty"):
        HVAEConfig(chain=())
    with pytest.raises(ValueError, match="size 6 does not divide by 4"):
        HVAEConfig(size=6, chain=(LEVEL, LEVEL))
    with pytest.raises(ValueError, match="0 samples are none"):
        importance_weighted(model, images, torch.Generator(), 0)


def test_discretized_decoder_of_the_chain():
    """The chain takes the decoder that the likelihood takes, so bits of pictures agree too."""
    process = Process(CosineConfig(steps=6).build(), NoiseTarget(), SmallVariance())
    chain = DiffusionChain(process, random_network, DiscretizedGaussian())
    x = torch.randint(256, (2, 1, 4, 4), generator=torch.Generator().manual_seed(5)).double() / 127.5 - 1
    (z, *_) = climb(chain, x, torch.Generator().manual_seed(0))
    noise = noise_in(process.schedule, x, z, 1)
    assert torch.allclose(bits(-chain.log_likelihood(x, z), x), term(process, random_network, x, 1, noise))
