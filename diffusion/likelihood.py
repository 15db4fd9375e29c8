"""Bits per dimension of pictures, in the three terms of the variational bound.

    -log p(x_0) <=  E[-log p(x_0 | x_1)]                                     reconstruction
                  + KL(q(x_T | x_0), N(0, 1))                                prior matching
                  + sum over t = 2..T of E[KL(q(x_{t-1} | x_t, x_0), p(x_{t-1} | x_t))]    denoising matching

The sum is over all times, or estimated from n of them: times 2..T are cut into n stretches, short ones
where there is little noise and terms are large. Each picture draws one time of each stretch, and its term
counts as often as the stretch has times. That is unbiased, and because pictures draw times of their own, the
spread over pictures tells the error of all that is random.

Letters: b batch, c h w picture, T steps of the process, t time.

Sources: Sohl-Dickstein et al. 2015; Ho et al. 2020, DDPM, eq. 5; Kingma et al. 2021, VDM, eq. 11 (the names).
"""

import math
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field

import torch
from torch import Tensor

from diffusion.conditioning import Asked, Network, conditioned
from diffusion.corrections import Correction
from diffusion.decoders import Decoder, DiscretizedGaussian
from diffusion.gaussians import posterior_log_variance, posterior_mean, shaped
from diffusion.noise import Noise
from diffusion.process import Estimate, Process
from diffusion.schedules import Schedule, Times
from diffusion.spacing import spaced


@dataclass(frozen=True, kw_only=True)
class Measuring:
    """How a bound is measured; the defaults are exact.

    Args:
        decoder: Of the reconstruction.
        times: Stretches of the sampled estimator; None sums over all times.
        correction: Of every estimate of x_0. DDPM's code measures with `Clip()`, which is a better model.
        progress: Goes around the calls of the network, such as `rich.progress.track`.
    """

    decoder: Decoder = field(default_factory=DiscretizedGaussian)
    times: int | None = None
    correction: Correction | None = None
    progress: Callable[[list[tuple[Times, int]]], Iterable[tuple[Times, int]]] = iter


EXACT = Measuring()


@dataclass(frozen=True, kw_only=True, eq=False)
class Bound:
    """Terms of the bound, in bits per dimension, float64 on the CPU.

    Attributes:
        reconstruction: (b,).
        prior: (b,), prior matching.
        denoising: (b,), denoising matching.
        curve: (T + 1,), mean over pictures of time t's term: entry 0 is prior matching, entry 1
            reconstruction, and with prior matching at 0 they sum to the bound. Without all times, NaN where
            none was drawn.
        counts: (T + 1,) int64, pictures behind each entry of the curve.
    """

    reconstruction: Tensor
    prior: Tensor
    denoising: Tensor
    curve: Tensor
    counts: Tensor

    @property
    def total(self) -> Tensor:
        """(b,), the bound of each picture."""
        return self.reconstruction + self.prior + self.denoising

    @property
    def mean(self) -> float:
        """Of all pictures."""
        return float(self.total.mean())

    @property
    def standard_error(self) -> float:
        """Of the mean, for the spread of pictures, noise and times together; NaN of a single picture."""
        return float(self.total.std() / math.sqrt(len(self.total)))


@torch.no_grad()
def elbo(
    process: Process,
    network: Network,
    images: Tensor,
    generator: torch.Generator,
    labels: Tensor | None = None,
    measuring: Measuring = EXACT,
) -> Bound:
    """The bound on -log2 p(images), per dimension.

    Args:
        process: Schedule, target and variance.
        network: (x_t, t, labels) -> output; asked T times, or measuring.times + 1 times.
        images: (b, c, h, w) in [0, 1] on 256 levels, or what the decoder takes.
        generator: Of times and noise.
        labels: (b,) int64, for a network that knows classes.
        measuring: With which decoder, and how many times.

    Raises:
        ValueError: if images or labels are wrong, or there are more stretches than times.
    """
    x_0 = measuring.decoder.read(images)
    noise = Noise(x_0.shape, generator, x_0.device, x_0.dtype)
    ask = conditioned(network, labels, None, len(x_0))
    sums = torch.zeros(process.steps + 1, dtype=torch.float64)
    counts = torch.zeros(process.steps + 1, dtype=torch.int64)
    weighted = []
    for t, weight in measuring.progress(_stretches(process.steps, len(x_0), measuring.times, generator)):
        values = term(process, ask, x_0, t, noise.draw(), measuring).double().cpu()
        where = torch.as_tensor(t).expand(len(values))
        sums.index_add_(0, where, values)
        counts.index_add_(0, where, torch.ones_like(where))
        weighted.append(weight * values)
    reconstruction, *divergences = weighted
    prior = prior_matching(process.schedule, x_0).double().cpu()
    sums[0], counts[0] = prior.sum(), len(prior)
    return Bound(
        reconstruction=reconstruction,
        prior=prior,
        denoising=torch.stack(divergences).sum(0),
        curve=sums / counts,
        counts=counts,
    )


def term(
    process: Process, ask: Asked, x_0: Tensor, t: Times, noise: Tensor, measuring: Measuring = EXACT
) -> Tensor:
    """(b,), the bound's term of time t in bits per dimension: reconstruction where t is 1, else a divergence.

    Args:
        process: Schedule, target and variance.
        ask: Output of x_t and t.
        x_0: (b, c, h, w) within [-1, 1].
        t: One time, or (b,).
        noise: Of the shape of x_0.
        measuring: Decoder and correction.
    """
    x_t = process.diffuse(x_0, t, noise)
    return term_of(process, ask(x_t, t), x_0, x_t, t, measuring)


def term_of(
    process: Process, output: Tensor, x_0: Tensor, x_t: Tensor, t: Times, measuring: Measuring = EXACT
) -> Tensor:
    """As `term`, of an output (b, o, h, w) that is there already."""
    schedule = process.schedule
    estimate = process.split(output, x_t, t, correction=measuring.correction)
    x_0, x_t = x_0.to(estimate.mean.dtype), x_t.to(estimate.mean.dtype)
    mean = posterior_mean(schedule, x_t, x_0, t, t - 1)
    log_variance = shaped(posterior_log_variance(schedule, t, t - 1), mean)
    bits = _bits(_divergence(mean, log_variance, estimate.mean, estimate.log_variance))
    first = (torch.as_tensor(t).cpu() == 1).expand(len(bits))
    if first.any():
        first = first.to(bits.device)
        decoded = measuring.decoder.log_likelihood(
            schedule, x_0[first], x_t[first], Estimate(*(part[first] for part in estimate))
        )
        bits[first] = _bits(-decoded)
    return bits


def prior_matching(schedule: Schedule, x_0: Tensor) -> Tensor:
    """KL(q(x_T | x_0), N(0, 1)) in bits per dimension, (b,): what is still seen of the picture at time T."""
    kept, added = float(schedule.kept(schedule.steps)), float(schedule.added(schedule.steps))
    return _bits((kept * x_0.double().square() - kept - math.log(added)) / 2)


def _divergence(mean: Tensor, log_variance: Tensor, other: Tensor, other_log_variance: Tensor) -> Tensor:
    """KL of a Gaussian from another, in nats, pixel by pixel."""
    gap = log_variance - other_log_variance
    squares = (mean - other).square() * (-other_log_variance).exp()
    return (torch.expm1(gap) - gap + squares) / 2


def _bits(nats: Tensor) -> Tensor:
    """(b,), mean over a picture's dimensions; nats become bits."""
    return nats.flatten(1).mean(1) / math.log(2)


def _stretches(
    total: int, count: int, stretches: int | None, generator: torch.Generator
) -> list[tuple[Times, int]]:
    """Time 1, then one of each stretch of 2..T for each of `count` pictures; and for how many it stands."""
    stretches = total - 1 if stretches is None else stretches
    if not 1 <= stretches < total:
        raise ValueError(f"times {stretches} are outside [1, {total - 1}]: 2 to {total} are so many")
    found: list[tuple[Times, int]] = [(1, 1)]
    for top, below in reversed(spaced(total - 1, stretches, "quadratic")):
        low, high = below + 2, top + 1
        drawn: Times = low
        if high > low:
            drawn = torch.randint(low, high + 1, (count,), generator=generator, device=generator.device).cpu()
        found.append((drawn, high - low + 1))
    return found
