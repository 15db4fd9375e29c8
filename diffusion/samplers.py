"""From noise to pictures: one function for each sampler, all with one signature.

    process     schedule, target and variance
    network     (x_t, t, labels) -> output
    noise       where randomness comes from; it has the pictures' shape, type and device
    pairs       the steps (t, s), of `diffusion.spacing`
    options     labels, guidance, correction, progress

All give x_0 (b, c, h, w), around [-1, 1]; `diffusion.pixels.unsigned` makes images of it.

Letters: b batch, c h w picture; t, s times with s < t; a = alpha_bar, and sigma as each sampler says.

Sources: Ho et al. 2020, DDPM, algorithm 2; Song et al. 2021, DDIM, eq. 12 and 16; Lu et al. 2022,
DPM-Solver++, algorithm 2; Karras et al. 2022, EDM, algorithm 1.
"""

import math
from collections.abc import Callable, Iterable
from dataclasses import dataclass

import torch
from torch import Tensor

from diffusion.conditioning import Asked, Network, conditioned
from diffusion.corrections import Correction
from diffusion.noise import Noise
from diffusion.process import Estimate, Process
from diffusion.spacing import Pairs


@dataclass(frozen=True, kw_only=True, eq=False)
class Options:
    """What all samplers may be told; the defaults are the process and nothing else.

    Args:
        labels: (b,) int64, for a network that knows classes; None draws from all.
        guidance: Scale of classifier-free guidance; None or 1 is none.
        correction: Of every estimate of x_0. `Clip()` is usual with pictures.
        progress: Goes around the list of steps, such as `rich.progress.track`.
    """

    labels: Tensor | None = None
    guidance: float | None = None
    correction: Correction | None = None
    progress: Callable[[Pairs], Iterable[tuple[int, int]]] = iter


PLAIN = Options()


@torch.no_grad()
def ancestral(
    process: Process, network: Network, noise: Noise, pairs: Pairs, options: Options = PLAIN
) -> Tensor:
    """DDPM's: every step is a draw of p(x_s | x_t), the last one its mean.

    With fewer steps than T it is the sampler of the respaced process.
    """
    ask, x = _begin(process, network, noise, pairs, options)
    for t, s in options.progress(pairs):
        estimate = process.split(ask(x, t), x, t, s, options.correction)
        x = step_back(estimate, s, noise)
    return x


@torch.no_grad()
def ddim(
    process: Process,
    network: Network,
    noise: Noise,
    pairs: Pairs,
    options: Options = PLAIN,
    eta: float = 0.0,
) -> Tensor:
    """DDIM: x_s = sqrt(a_s) x_0 + sqrt(1 - a_s - sigma^2) noise in x_t + sigma new noise.

    sigma is eta times the root of the posterior variance: 0 is deterministic, 1 is ancestral with the small
    variance.

    Raises:
        ValueError: if eta is outside [0, 1].
    """
    if not 0 <= eta <= 1:
        raise ValueError(f"eta {eta} is outside [0, 1]: 0 is deterministic, 1 is ancestral")
    schedule = process.schedule
    ask, x = _begin(process, network, noise, pairs, options)
    for t, s in options.progress(pairs):
        estimate = process.split(ask(x, t), x, t, s, options.correction)
        added = float(schedule.added(s))
        variance = eta**2 * added / float(schedule.added(t)) * float(schedule.added(t, s))
        x = math.sqrt(schedule.kept(s)) * estimate.image
        if s:
            x = x + math.sqrt(max(added - variance, 0.0)) * estimate.noise
        if s and eta:
            x = x + math.sqrt(variance) * noise.draw()
    return x


@torch.no_grad()
def dpm_solver_pp_2m(
    process: Process, network: Network, noise: Noise, pairs: Pairs, options: Options = PLAIN
) -> Tensor:
    """DPM-Solver++(2M): the probability-flow equation in steps of half the log of a / (1 - a), second order.

    x_s = sigma_s / sigma_t x_t + sqrt(a_s) (1 - exp(-h)) D, where sigma^2 = 1 - a, h is the length of the
    step, and D the estimate of x_0, extrapolated through that of the step before. The first step has none
    before it; the last, to s = 0, is infinitely long, and gives the estimate itself.
    """
    schedule = process.schedule
    ask, x = _begin(process, network, noise, pairs, options)
    before, length_before = None, math.nan
    for t, s in options.progress(pairs):
        image = process.split(ask(x, t), x, t, s, options.correction).image
        if s == 0:
            return image
        length = (math.log(schedule.snr(s)) - math.log(schedule.snr(t))) / 2
        ahead = image
        if before is not None:
            ahead = image + length / (2 * length_before) * (image - before)
        shrink = math.sqrt(schedule.added(s) / schedule.added(t))
        x = shrink * x - math.sqrt(schedule.kept(s)) * math.expm1(-length) * ahead
        before, length_before = image, length
    raise AssertionError("pairs end at 0")


@torch.no_grad()
def heun(process: Process, network: Network, noise: Noise, pairs: Pairs, options: Options = PLAIN) -> Tensor:
    """Heun's method for the probability-flow equation, deterministic; two calls of the network a step.

    In y = x / sqrt(a) the equation is dy / d sigma = noise in x, sigma^2 = (1 - a) / a. A step goes along the
    slope at its start, then again along the mean of that and the slope where it came to; the last, to
    sigma = 0, where there is no slope, goes once.
    """
    schedule = process.schedule
    ask, x = _begin(process, network, noise, pairs, options)

    def slope(y: Tensor, t: int) -> Tensor:
        x = math.sqrt(schedule.kept(t)) * y
        return process.split(ask(x, t), x, t, correction=options.correction).noise

    y = x / math.sqrt(schedule.kept(pairs[0][0]))
    for t, s in options.progress(pairs):
        step = math.sqrt(schedule.added(s) / schedule.kept(s)) - math.sqrt(1 / schedule.snr(t))
        start = slope(y, t)
        ahead = y + step * start
        y = y + step * (start + slope(ahead, s)) / 2 if s else ahead
    return y


def step_back(estimate: Estimate, s: int, noise: Noise) -> Tensor:
    """A draw of p(x_s | x_t), its mean if s is 0: (b, c, h, w)."""
    if s == 0:
        return estimate.mean
    return estimate.mean + (estimate.log_variance / 2).exp() * noise.draw()


def _begin(
    process: Process, network: Network, noise: Noise, pairs: Pairs, options: Options
) -> tuple[Asked, Tensor]:
    """The network with its labels, and pure noise; raises ValueError for pairs the process cannot walk."""
    check_pairs(process, pairs)
    return conditioned(network, options.labels, options.guidance, noise.shape[0]), noise.draw()


def check_pairs(process: Process, pairs: Pairs) -> None:
    """Raise a ValueError unless the pairs are steps of this process that follow one another down to 0."""
    if not pairs or pairs[-1][1] != 0 or any(a[1] != b[0] for a, b in zip(pairs, pairs[1:], strict=False)):
        raise ValueError("pairs (t, s) must follow one another and end at 0: diffusion.spacing makes them")
    for t, s in pairs:
        process.schedule.check_pair(t, s)
