"""The variational diffusion model: diffusion trained by its bound alone, in discrete or continuous time.

    T steps, s = t - 1/T    T/2 E[expm1(gamma_t - gamma_s) |eps - eps_hat|^2]      t from 1/T, 2/T, ..., 1
    continuous              1/2 E[gamma'(t) |eps - eps_hat|^2]                     t from [0, 1]

and the reconstruction p(x | z_0), a softmax over 256 levels, and the prior matching of z_1. With T steps it
is a diffusion process like any other, which `VDM.process` makes of it; its bound is measured, and its
pictures drawn, by the same code as DDPM's. Noise levels may be learned (`diffusion.gamma`) by gradient of
the bound, which in continuous time depends on the two ends alone. (The paper's second aim for what lies
between, less spread of the loss, is not built.)

Letters: b pictures, c h w a picture, z a noisy one, t time in [0, 1], T steps, v levels.

Source: Kingma et al. 2021, VDM, eq. 11 to 18, section 3.3 and appendix C; antithetic times: appendix I.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Literal

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from diffusion.conditioning import Network
from diffusion.decoders import HALF, Softmax256
from diffusion.gamma import GammaConfig, LinearGammaConfig, gammas, schedule_of
from diffusion.gaussians import shaped
from diffusion.likelihood import Measuring, elbo
from diffusion.networks.fourier import FourierFeatures
from diffusion.networks.unet import UNet, UNetConfig
from diffusion.noise import Noise
from diffusion.pixels import LEVELS, levels, unsigned
from diffusion.process import Process
from diffusion.samplers import ancestral
from diffusion.spacing import pairs
from diffusion.targets import NoiseTarget
from diffusion.terms import Terms
from diffusion.vae import Pictures, device_of
from diffusion.variances import SmallVariance
from vqtok.storage.pretrained import Pretrained
from vqtok.training.batches import seed_of

TOLD = 1000.0  # what the network's waves are told at the last gamma; 0 at the first, as of 1000 steps


@dataclass(frozen=True, kw_only=True)
class VDMConfig(Pictures):
    """Shape of one VDM.

    Args:
        kind: Names this model in recipes.
        gamma: How noisy each time is.
        network: A UNet that never halves, as in the paper, has one multiplier.
        fourier: First and last power of two of the Fourier features.
        steps: T of its bound; None is continuous time.
    """

    kind: Literal["vdm"] = "vdm"
    gamma: GammaConfig = field(default_factory=LinearGammaConfig)
    network: UNetConfig = field(
        default_factory=lambda: UNetConfig(
            channels=32, groups=8, multipliers=(1,), attention_levels=(), in_channels=15
        )
    )
    fourier: tuple[int, int] = (7, 8)
    steps: int | None = None

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.steps is not None and self.steps < 1:
            raise ValueError(f"steps {self.steps} is below 1: give T, or None for continuous time")
        wanted = FourierFeatures(*self.fourier).channels(self.channels)
        if (self.network.in_channels, self.network.out_channels) != (wanted, self.channels):
            raise ValueError(
                f"network.in_channels {self.network.in_channels} and out_channels "
                f"{self.network.out_channels} do not fit: with these Fourier features it is given {wanted} "
                f"channels, and says the noise of {self.channels}"
            )
        if self.network.classes is not None:
            raise ValueError("network.classes: this model draws no classes, leave them out")
        if self.size % self.network.factor:
            raise ValueError(f"size {self.size} does not divide by {self.network.factor}: halve less often")

    def build(self) -> "VDM":
        """The model, drawn from torch's global random numbers."""
        return VDM(self)


class VDM(nn.Module, Pretrained):
    """gamma, Fourier features and a UNet that says the noise."""

    def __init__(self, config: VDMConfig) -> None:
        super().__init__()
        self.config = config
        self.gamma = config.gamma.build()
        self.features = FourierFeatures(*config.fourier)
        self.unet = UNet(config.network)

    def noise(self, z: Tensor, gamma: Tensor) -> Tensor:
        """eps_hat (b, c, h, w) of z at noise levels gamma (b,), in float32 or better.

        The network adds to sigma z, the best answer if pictures were white noise: a new network, which says
        0, begins there.
        """
        first, last = self.config.gamma.first, self.config.gamma.last
        told = (gamma - first) / (last - first) * TOLD
        output = self.unet(self.features(z), told.to(z.dtype))
        sigma = shaped(gamma.sigmoid().sqrt(), z)
        return sigma * z + output.to(torch.promote_types(output.dtype, torch.float32))

    def forward(self, images: Tensor, generator: torch.Generator) -> Terms:
        """The bound of images (b, c, h, w) in [0, 1], one antithetic time each, with gradients."""
        x = self.config.read(images)
        return self._terms(x, antithetic(len(x), generator), generator, self.config.steps)

    def process(self, steps: int) -> Process:
        """T steps as a process of T + 1 times: the first is what VDM adds before its time 0."""
        return Process(schedule_of(self.gamma, steps), NoiseTarget(), SmallVariance())

    def network(self, steps: int) -> Network:
        """What that process asks: (x_t, t, labels) -> the noise, t from 1 to T + 1."""
        table = gammas(self.gamma, steps).float()

        def ask(x_t: Tensor, t: Tensor, labels: Tensor | None = None) -> Tensor:
            return self.noise(x_t, table[t.cpu() - 1].to(x_t.device))

        return ask

    @torch.no_grad()
    def elbo(self, images: Tensor, seed: int = 0, steps: int | None = None, draws: int = 32) -> Terms:
        """The bound on -log2 p(images) per dimension, on the CPU.

        Args:
            images: (b, c, h, w) in [0, 1] on 256 levels.
            seed: Of times and noise.
            steps: T, all of which are summed; None is the model's own, continuous time if it has none.
            draws: In continuous time, times of each picture, one from each of so many equal parts of [0, 1].

        Raises:
            ValueError: if the images are not the model's, or there are no steps or draws.
        """
        if draws < 1:
            raise ValueError(f"draws {draws} are none: 32 are usual")
        images, generator = images.to(device_of(self)), torch.Generator().manual_seed(seed)
        x, steps = self.config.read(images), self.config.steps if steps is None else steps
        if steps is not None:
            measuring = Measuring(decoder=Softmax256())
            found = elbo(self.process(steps), self.network(steps), images, generator, measuring=measuring)
            return Terms(found.reconstruction, found.prior, found.denoising)
        parts = []
        for part in range(draws):
            t = (torch.rand(len(x), generator=generator) + part) / draws
            parts.append(self._terms(x, t, generator, None))
        return Terms(*(torch.stack(terms).mean(0).cpu() for terms in zip(*parts, strict=True)))

    @torch.no_grad()
    def sample(self, count: int, steps: int | None = None, seed: int = 0) -> Tensor:
        """Pictures (count, c, h, w) in [0, 1], drawn by the ancestral sampler.

        Args:
            count: How many; of one seed, the first are the same whatever the count, but for rounding.
            steps: T; None is the model's own, or 250.
            seed: Of the noise.

        Raises:
            ValueError: if there are none to draw, or no steps.
        """
        if count < 1:
            raise ValueError(f"{count} pictures are none: ask for at least 1")
        steps = (self.config.steps or 250) if steps is None else steps
        side, process = self.config.size, self.process(steps)
        seeds: Sequence[int] = [seed_of(seed, number) for number in range(count)]
        noise = Noise((count, self.config.channels, side, side), seeds, device_of(self))
        return unsigned(ancestral(process, self.network(steps), noise, pairs(range(process.steps, 0, -1))))

    def _terms(self, x: Tensor, t: Tensor, generator: torch.Generator, steps: int | None) -> Terms:
        """The bound at times t (b,) in [0, 1), rounded up to one of T steps if there are any."""
        t = t.to(x.device)
        first, last = self.gamma(t.new_tensor([0.0, 1.0]))
        if steps is None:
            gamma, weight = self.gamma.with_slope(t)
        else:
            step = (t * steps).floor().clamp(max=steps - 1)
            gamma = self.gamma((step + 1) / steps)
            weight = steps * torch.expm1(gamma - self.gamma(step / steps))
        start, noise = (
            torch.randn(x.shape, generator=generator, device=generator.device).to(x) for _ in range(2)
        )
        z = shaped((-gamma).sigmoid().sqrt(), x) * x + shaped(gamma.sigmoid().sqrt(), x) * noise
        squares = (noise - self.noise(z, gamma)).square().flatten(1).mean(1)
        prior = (last.sigmoid() + (-last).sigmoid() * x.square() - 1 - F.logsigmoid(last)) / 2
        return Terms(
            reconstruction=_bits(-softmax_log_likelihood(x, start, first)),
            prior=_bits(prior),
            denoising=weight * squares / (2 * math.log(2)),
        )


def softmax_log_likelihood(x: Tensor, noise: Tensor, gamma: Tensor) -> Tensor:
    """log p(x | z_0), (b, c, h, w) in nats, z_0 being x with this noise at the level gamma ().

    As `diffusion.decoders.Softmax256`, but with a gradient for gamma, and of levels around the right one
    only: those left out are less likely than the best by exp(-50), so that float32 does not see them.

    Args:
        x: (b, c, h, w) within [-1, 1], on levels.
        noise: Of the shape of x.
        gamma: ().
    """
    spread = math.exp(float(gamma.detach()) / 2) / (2 * HALF)  # of the noise, in levels
    reach = min(LEVELS - 1, math.ceil((10 + float(noise.abs().amax())) * spread) + 1)
    away = torch.arange(-reach, reach + 1, device=x.device)
    level = levels(x)[..., None] + away
    # Beside the right level, z_0 over the root of a is exp(gamma / 2) noise away from it.
    scores = ((gamma / 2).exp() * noise[..., None] - away * (2 * HALF)).square() * (-(-gamma).exp() / 2)
    return scores.masked_fill((level < 0) | (level >= LEVELS), -math.inf).log_softmax(-1)[..., reach]


def antithetic(count: int, generator: torch.Generator) -> Tensor:
    """Times (b,) in [0, 1), evenly spaced from one random place on, so that each alone is uniform."""
    place = torch.rand((), generator=generator, device=generator.device)
    return (place + torch.arange(count, device=generator.device) / count) % 1


def _bits(nats: Tensor) -> Tensor:
    """Nats of each pixel as bits per dimension: (b,)."""
    return nats.flatten(1).mean(1) / math.log(2)
