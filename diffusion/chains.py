"""A Markov chain of latents above a picture: VAE, hierarchical VAE and diffusion are all of them one.

    q(z_1 | x) q(z_2 | z_1) ... q(z_L | z_{L-1})               upwards, the encoder
    N(z_L; 0, 1) p(z_{L-1} | z_L) ... p(z_1 | z_2) p(x | z_1)  downwards, the decoder

With z_0 = x the bound on -log p(x) is E[log q(z_1, ... | x) - log p(x, z_1, ...)] (`log_ratio`). Two ways to
sort it into terms have the same mean:

    consistency    log q(z_l | z_{l-1}) - log p(z_l | z_{l+1}), a level as seen from below and from above:
                   always possible
    denoising      KL(q(z_{l-1} | z_l, x), p(z_{l-1} | z_l)): a divergence that is computed, not drawn, so
                   its spread is less; but the encoder's posterior must be known, as it is where the encoder
                   only adds noise: that is a diffusion model

The first is no E[KL(q(z_l | z_{l-1}), p(z_l | z_{l+1}))] over z_{l-1} and z_{l+1}, however alike it looks.
That is another number: it draws z_l anew, as if z_{l+1} had not been drawn from it.

Letters: b batch, x picture, z_l latents of level l from 1 to L, k samples.

Sources: Luo 2022, "Understanding Diffusion Models"; Burda et al. 2016 (importance-weighted bound).
"""

import math
from typing import Protocol

import torch
from torch import Tensor

from diffusion.conditioning import Asked
from diffusion.decoders import Decoder
from diffusion.gaussians import posterior_log_variance, posterior_mean, shaped
from diffusion.normals import Normal
from diffusion.process import Process
from diffusion.terms import Terms, bits


class Chain(Protocol):
    """Encoder and decoder of L levels; z_0 is x."""

    levels: int

    def up(self, below: Tensor, level: int) -> Normal:
        """q(z_level | z_{level-1})."""

    def down(self, above: Tensor, level: int) -> Normal:
        """p(z_{level-1} | z_level), of levels from 2."""

    def log_likelihood(self, x: Tensor, latents: Tensor) -> Tensor:
        """log p(x | z_1) in nats: (b,)."""


class KnownChain(Chain, Protocol):
    """A chain whose encoder's posteriors are known."""

    def marginal(self, x: Tensor, level: int) -> Normal:
        """q(z_level | x)."""

    def posterior(self, above: Tensor, x: Tensor, level: int) -> Normal:
        """q(z_{level-1} | z_level, x), of levels from 2."""


class DiffusionChain:
    """A diffusion process as a hierarchical VAE: T levels, all of the picture's shape, nothing to encode.

    Args:
        process: Its q(x_t | x_{t-1}) are the encoder, its steps backwards the decoder.
        ask: The network: output of x_t and t.
        decoder: Of the reconstruction.
    """

    def __init__(self, process: Process, ask: Asked, decoder: Decoder) -> None:
        self.process, self.ask, self.decoder = process, ask, decoder
        self.levels = process.steps

    def up(self, below: Tensor, level: int) -> Normal:
        """q(x_t | x_{t-1}) = N(sqrt(1 - beta_t) x_{t-1}, beta_t)."""
        return self._noised(below, level, level - 1)

    def down(self, above: Tensor, level: int) -> Normal:
        """p(x_{t-1} | x_t)."""
        estimate = self.process.split(self.ask(above, level), above, level)
        return Normal(estimate.mean, estimate.log_variance)

    def log_likelihood(self, x: Tensor, latents: Tensor) -> Tensor:
        """log p(x_0 | x_1) in nats: (b,)."""
        estimate = self.process.split(self.ask(latents, 1), latents, 1)
        return self.decoder.log_likelihood(self.process.schedule, x, latents, estimate).flatten(1).sum(1)

    def marginal(self, x: Tensor, level: int) -> Normal:
        """q(x_t | x_0)."""
        return self._noised(x, level, 0)

    def posterior(self, above: Tensor, x: Tensor, level: int) -> Normal:
        """q(x_{t-1} | x_t, x_0)."""
        schedule = self.process.schedule
        mean = posterior_mean(schedule, above, x, level, level - 1)
        log_variance = shaped(posterior_log_variance(schedule, level, level - 1), mean)
        return Normal(mean, log_variance.expand_as(mean))

    def _noised(self, x_s: Tensor, t: int, s: int) -> Normal:
        schedule = self.process.schedule
        log_variance = shaped(schedule.added(t, s).log(), x_s).expand_as(x_s)
        return Normal(shaped(schedule.kept(t, s).sqrt(), x_s) * x_s, log_variance)


def climb(chain: Chain, x: Tensor, generator: torch.Generator) -> list[Tensor]:
    """Draws of z_1, ..., z_L above x (b, ...)."""
    path = [x]
    for level in range(1, chain.levels + 1):
        path.append(chain.up(path[-1], level).draw(generator))
    return path[1:]


def log_ratio(chain: Chain, x: Tensor, latents: list[Tensor]) -> Tensor:
    """log p(x, z_1, ..., z_L) - log q(z_1, ..., z_L | x) in nats: (b,). Its mean is the bound, from below."""
    path = [x, *latents]
    ratio = chain.log_likelihood(x, path[1]) + Normal.standard(path[-1]).log_density(path[-1])
    for level in range(1, chain.levels + 1):
        ratio = ratio - chain.up(path[level - 1], level).log_density(path[level])
        if level > 1:
            ratio = ratio + chain.down(path[level], level).log_density(path[level - 1])
    return ratio


def consistency(chain: Chain, x: Tensor, latents: list[Tensor]) -> Terms:
    """The terms of any chain: each level as seen from below against the same level as seen from above.

    Those between are log ratios of what was drawn, so that one of them may be below 0; their mean is not.
    """
    path = [x, *latents]
    top = chain.up(path[-2], chain.levels)
    between = x.new_zeros(len(x))
    for level in range(1, chain.levels):
        here = path[level]
        between = between + chain.up(path[level - 1], level).log_density(here)
        between = between - chain.down(path[level + 1], level + 1).log_density(here)
    return Terms(
        reconstruction=bits(-chain.log_likelihood(x, path[1]), x),
        prior=bits(top.divergence(Normal.standard(top.mean)), x),
        denoising=bits(between, x),
    )


def denoising(chain: KnownChain, x: Tensor, latents: list[Tensor]) -> Terms:
    """The terms of a chain whose posteriors are known: of a diffusion process, those of its likelihood."""
    top = chain.marginal(x, chain.levels)
    between = x.new_zeros(len(x))
    for level in range(2, chain.levels + 1):
        above = latents[level - 1]
        between = between + chain.posterior(above, x, level).divergence(chain.down(above, level))
    return Terms(
        reconstruction=bits(-chain.log_likelihood(x, latents[0]), x),
        prior=bits(top.divergence(Normal.standard(top.mean)), x),
        denoising=bits(between, x),
    )


def importance_weighted(chain: Chain, x: Tensor, generator: torch.Generator, count: int) -> Tensor:
    """A tighter bound on -log2 p(x), (b,) in bits per dimension: -log of a mean of k ratios.

    With k = 1 it is the bound, with infinitely many -log2 p(x) itself; it falls with k, in the mean.

    Args:
        chain: Encoder and decoder.
        x: (b, ...).
        generator: Of the draws.
        count: k.

    Raises:
        ValueError: if k is below 1.
    """
    if count < 1:
        raise ValueError(f"{count} samples are none: 1 is the bound itself, 100 are usual")
    ratios = torch.stack([log_ratio(chain, x, climb(chain, x, generator)) for _ in range(count)])
    return bits(math.log(count) - ratios.logsumexp(0), x)
