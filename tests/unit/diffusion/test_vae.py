"""The VAE: its bound against a model that is solved, and that it learns."""

import math

import pytest
import torch
from torch import Tensor

from diffusion.chains import climb, consistency, importance_weighted, log_ratio
from diffusion.levels import LevelConfig
from diffusion.normals import Normal
from diffusion.terms import bits
from diffusion.vae import VAE, VAEConfig, levels_log_likelihood

LEVEL = LevelConfig(channels=8, groups=4, latent=4)
TINY = VAEConfig(size=8, level=LEVEL)


class LinearVAE:
    """x = w z + noise of variance 0.09, z from N(0, 1): log p(x) is known, and the posterior of z.

    Args:
        shift: Of the encoder's mean, from the posterior's.
        stretch: Of its standard deviation.
    """

    levels, weight, variance = 1, 0.8, 0.09

    def __init__(self, shift: float = 0.0, stretch: float = 1.0) -> None:
        self.shift, self.stretch = shift, stretch

    def up(self, below: Tensor, level: int) -> Normal:
        """The posterior, shifted and stretched."""
        whole = self.weight**2 + self.variance
        variance = torch.full_like(below, self.variance / whole * self.stretch**2)
        return Normal(self.weight / whole * below + self.shift, variance.log())

    def log_likelihood(self, x: Tensor, latents: Tensor) -> Tensor:
        """Of a Gaussian around w z."""
        return Normal(self.weight * latents, torch.full_like(x, math.log(self.variance))).log_density(x)

    def bits(self, x: Tensor) -> Tensor:
        """-log2 p(x) per dimension, (b,)."""
        whole = torch.full_like(x, self.weight**2 + self.variance)
        return bits(-Normal(torch.zeros_like(x), whole.log()).log_density(x), x)


@pytest.fixture
def x() -> Tensor:
    """(6, 2, 1, 1) float64."""
    return torch.randn(6, 2, 1, 1, generator=torch.Generator().manual_seed(3), dtype=torch.float64)


@pytest.fixture
def images() -> Tensor:
    """(3, 3, 8, 8) on 256 levels."""
    return torch.randint(256, (3, 3, 8, 8), generator=torch.Generator().manual_seed(1)) / 255


def mean_of(chain: LinearVAE, x: Tensor, count: int = 20_000) -> tuple[Tensor, Tensor]:
    """The bound of each x, a mean over draws, and its standard error."""
    many = x.repeat_interleave(count, 0)
    totals = consistency(chain, many, climb(chain, many, torch.Generator().manual_seed(0))).total
    totals = totals.view(len(x), count)
    return totals.mean(1), totals.std(1) / math.sqrt(count)


def test_with_the_exact_posterior_every_draw_tells_the_likelihood(x: Tensor):
    """log p(x, z) - log q(z | x) is log p(x), whatever z is."""
    chain = LinearVAE()
    for seed in range(3):
        latents = climb(chain, x, torch.Generator().manual_seed(seed))
        assert torch.allclose(bits(-log_ratio(chain, x, latents), x), chain.bits(x), rtol=1e-9)


def test_with_the_exact_posterior_the_bound_is_the_likelihood(x: Tensor):
    """Reconstruction and KL together, within four standard errors."""
    mean, error = mean_of(LinearVAE(), x)
    assert ((mean - LinearVAE().bits(x)).abs() < 4 * error).all()


@pytest.mark.parametrize(("shift", "stretch"), [(0.5, 1.0), (0.0, 2.0), (-0.3, 0.5)])
def test_the_gap_is_the_divergence_from_the_posterior(x: Tensor, shift: float, stretch: float):
    """-ELBO + log p(x) = KL(q(z | x), p(z | x)), which is above 0: the bound is a bound."""
    chain = LinearVAE(shift, stretch)
    mean, error = mean_of(chain, x)
    gap = bits(chain.up(x, 1).divergence(LinearVAE().up(x, 1)), x)
    assert (gap > 0).all() and (mean > chain.bits(x)).all()
    assert ((mean - chain.bits(x) - gap).abs() < 4 * error).all()


def test_importance_weights_lie_between(x: Tensor):
    """-log p(x) <= k = 100 <= k = 5 <= the bound, in the mean over 400 repetitions."""
    chain = LinearVAE(0.3, 1.5)
    many = x.repeat_interleave(400, 0)
    means = [
        importance_weighted(chain, many, torch.Generator().manual_seed(0), count).mean()
        for count in (100, 5, 1)
    ]
    assert chain.bits(x).mean() - 0.01 < means[0] < means[1] < means[2]
    assert means[0] == pytest.approx(float(chain.bits(x).mean()), abs=0.02)


def test_divergence_is_what_its_definition_says():
    """Against a mean of log ratios of draws; 0 of itself; and another number the other way around."""
    one = Normal(torch.full((1, 1), 0.5).double(), torch.full((1, 1), -1.0).double())
    other = Normal(torch.zeros(1, 1).double(), torch.full((1, 1), 0.5).double())
    z = Normal(*(part.expand(200_000, 1) for part in one)).draw(torch.Generator().manual_seed(0))
    ratios = one.log_density(z) - other.log_density(z)
    assert abs(ratios.mean() - one.divergence(other)) < 4 * ratios.std() / math.sqrt(len(z))
    assert one.divergence(one) == 0 and one.divergence(other) != other.divergence(one)


def test_terms(images: Tensor):
    """One of each a picture; there is no denoising; the same seed is the same bound."""
    model = TINY.build()
    terms = model.elbo(images, seed=1)
    assert all(part.shape == (3,) for part in terms) and (terms.denoising == 0).all()
    assert (terms.prior >= 0).all() and (terms.reconstruction >= 0).all()
    assert torch.equal(terms.total, model.elbo(images, seed=1).total)
    assert not torch.equal(terms.total, model.elbo(images, seed=2).total)
    assert terms.standard_error == pytest.approx(float(terms.total.std()) / 3**0.5, rel=1e-5)


def test_levels_of_a_pixel_are_all_there_is():
    """p(x | z) summed over the 256 levels of a pixel is 1."""
    model = VAEConfig(size=8, channels=1, level=LEVEL).build()
    z = torch.randn(1, 4, 4, 4)
    said = model.decoder(z)
    level = torch.arange(256).view(256, 1, 1, 1) / 127.5 - 1
    one = Normal(*(part[:, :, :1, :1].expand(256, 1, 1, 1) for part in said))
    assert levels_log_likelihood(level, one).exp().sum().item() == pytest.approx(1, abs=1e-4)


def test_learning():
    """Forty steps on four black and white pictures take more than a third off the bound."""
    coarse = torch.randint(2, (4, 3, 4, 4), generator=torch.Generator().manual_seed(6)).float()
    blocks = coarse.repeat_interleave(2, 2).repeat_interleave(2, 3)
    model, generator = TINY.build(), torch.Generator().manual_seed(0)
    optimizer = torch.optim.Adam(model.parameters(), lr=1e-2)
    before = model.elbo(blocks).mean
    for _ in range(40):
        optimizer.zero_grad()
        model(blocks, generator).total.mean().backward()
        optimizer.step()
    assert model.elbo(blocks).mean < before * 2 / 3
    assert model.importance_weighted(blocks, count=20).mean() < model.elbo(blocks).mean


def test_saved_and_loaded(images: Tensor, tmp_path):
    """The same bound comes back."""
    model = TINY.build()
    model.save_pretrained(tmp_path / "model")
    again = VAE.from_pretrained(tmp_path / "model")
    assert torch.equal(again.elbo(images).total, model.elbo(images).total) and again.config == TINY


def test_samples():
    """Pictures in [0, 1]; the first of several draws does not depend on their number."""
    model = TINY.build()
    drawn = model.sample(3, seed=1)
    assert drawn.shape == (3, 3, 8, 8) and drawn.min() >= 0 and drawn.max() <= 1
    assert torch.allclose(drawn[:1], model.sample(1, seed=1), atol=1e-6)


def test_mistakes(images: Tensor):
    """Each is told with the way out."""
    model = TINY.build()
    with pytest.raises(ValueError, match="0 pictures are none"):
        model.sample(0)
    with pytest.raises(ValueError, match=r"the model's \(b, 3, 8, 8\): resize them"):
        model.elbo(images[:, :1])
    with pytest.raises(ValueError, match=r"not within \[0, 1\]"):
        model.elbo(images * 255)
    with pytest.raises(ValueError, match="away from 256 levels"):
        model.elbo(images * 0.9971)
    with pytest.raises(ValueError, match="not a number"):
        model.elbo(images * float("nan"))
    with pytest.raises(ValueError, match="0 samples are none"):
        model.importance_weighted(images, count=0)
    with pytest.raises(ValueError, match="size 7 does not divide by 2"):
        VAEConfig(size=7, level=LEVEL)
    with pytest.raises(ValueError, match="latent 0 is below 1"):
        LevelConfig(latent=0)
    with pytest.raises(ValueError, match="channels is 0"):
        VAEConfig(channels=0)
    with pytest.raises(ValueError, match="level 2 of a VAE"):
        model.down(images, 2)
