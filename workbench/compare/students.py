"""Who `vqtok compare learning diffusion` trains: our UNet and diffusers', each as its package has it.

Letters: n pictures, b of a batch, c h w picture.
"""

from collections.abc import Callable
from dataclasses import dataclass, field, replace
from tempfile import TemporaryDirectory
from typing import Protocol

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from diffusion.denoiser import Denoiser
from diffusion.drawing import DPMSolver
from diffusion.model import DDPM, DDPMConfig
from diffusion.networks import UNetConfig
from diffusion.objectives import Objective, losses
from diffusion.pictures import Pictures
from diffusion.process import ProcessConfig
from diffusion.published.diffusers import load_diffusers, unet2d_settings
from diffusion.schedules import LinearConfig
from diffusion.times import Times
from vqtok.data.galleries import open_gallery
from vqtok.training.ema import EMA
from vqtok.training.optim import OptimConfig, optimizer_for
from vqtok.training.schedule import LRConfig


@dataclass(frozen=True, kw_only=True)
class Task:
    """Pictures to learn from, and others to be compared with.

    Args:
        train: Gallery.
        test: Gallery of others, all of which the distance is to.
        measured: How many of these the bound is measured on.
        drawn: Pictures that are drawn.
        gray: Whether they have one channel.
        mirror: Whether half of them are shown mirrored.
        size: Pixels a side.
        network: All but its channels.
        sampler: How pictures are drawn.
        times: Of the bound, for each picture.
    """

    train: str
    test: str
    measured: int = 200
    drawn: int = 2000
    gray: bool = False
    mirror: bool = False
    size: int = 32
    network: UNetConfig = field(
        default_factory=lambda: UNetConfig(
            channels=32, multipliers=(1, 2, 2), blocks=1, attention_levels=(2,), groups=8
        )
    )
    sampler: DPMSolver = field(default_factory=lambda: DPMSolver(steps=20))
    times: int = 50

    def ddpm(self, process: ProcessConfig) -> DDPMConfig:
        """A model of such pictures."""
        channels = 1 if self.gray else 3
        outputs = channels * (1 + process.variance.learned)
        network = replace(self.network, in_channels=channels, out_channels=outputs)
        return DDPMConfig(network=network, process=process, size=self.size)

    def pictures(self, gallery: str) -> Pictures:
        """All of a gallery."""
        return Pictures(open_gallery(gallery, self.size), gray=self.gray)


class Student(Protocol):
    """What is trained.

    Attributes:
        module: Whose weights learn.
    """

    module: nn.Module

    def loss(self, images: Tensor, generator: torch.Generator) -> Tensor:
        """() of pictures (b, c, h, w) in [0, 1]."""

    def ddpm(self, average: nn.Module) -> DDPM:
        """What was learned, with the weights of `average`, which is like `module`."""


class Ours:
    """Our UNet and process."""

    def __init__(self, task: Task, process: ProcessConfig, objective: Objective, times: Times) -> None:
        self.config, self.objective = task.ddpm(process), objective
        self.process = process.build()
        self.times = times.build(self.process.steps)
        self.module: nn.Module = Denoiser(self.config.network.build())

    def loss(self, images: Tensor, generator: torch.Generator) -> Tensor:
        """Of the objective; times that follow losses are told them."""
        found = losses(self.objective, self.process, self.module, images, self.times, generator)
        self.times.learn(found.t, found.values.detach())
        return found.mean

    def ddpm(self, average: nn.Module) -> DDPM:
        """As it is."""
        model = DDPM(self.config)
        model.network = average.network
        return model.eval()


class Theirs:
    """diffusers' UNet2DModel and DDPMScheduler, as their example calls them."""

    def __init__(self, task: Task) -> None:
        import diffusers

        self.config = task.ddpm(ProcessConfig(schedule=LinearConfig()))
        self.scheduler = diffusers.DDPMScheduler(num_train_timesteps=1000)
        settings = unet2d_settings(self.config.network, task.size)
        model = diffusers.UNet2DModel.from_config(settings)
        self.module: nn.Module = model.to(memory_format=torch.channels_last)

    def loss(self, images: Tensor, generator: torch.Generator) -> Tensor:
        """Mean squared error of the noise."""
        x_0 = (2 * images - 1).contiguous(memory_format=torch.channels_last)
        noise = torch.randn(images.shape, generator=generator).to(x_0)
        t = torch.randint(0, 1000, (len(images),), generator=generator).to(images.device)
        output = self.module(self.scheduler.add_noise(x_0, noise, t), t).sample
        return F.mse_loss(output.float(), noise)

    def ddpm(self, average: nn.Module) -> DDPM:
        """Its weights in ours, by way of a file of theirs."""
        model = DDPM(self.config)
        with TemporaryDirectory() as folder:
            average.save_pretrained(folder)
            model.network = load_diffusers(folder).unet
        return model.eval().to(next(average.parameters()).device)


class PowerEMA(EMA):
    """The moving average of diffusers' example: its decay is 1 - (1 + step)^(-3/4), but at most 0.9999."""

    def __init__(self, source: nn.Module) -> None:
        super().__init__(source, 0.9999)

    def share(self, step: int) -> float:
        """How far it moves."""
        return max(1 - self.decay, (1 + step) ** -0.75)


@dataclass(frozen=True, kw_only=True)
class Learner:
    """A network with its process, and how it is trained; unless told as in our recipes.

    Args:
        build: Makes it.
        optim: Weight decay, betas, clipping.
        peak: Of the learning rate.
        warmup: Steps of its rise, or their share of all steps.
        floor: Share of the rate that is left at the end.
        average: Makes the moving average.
    """

    build: Callable[[Task], Student]
    optim: OptimConfig = OptimConfig(decay=0.0, betas=(0.9, 0.99), muon=True)
    peak: float = 6e-3
    warmup: float = 0.05
    floor: float = 0.05
    average: Callable[[nn.Module], EMA] = lambda module: EMA(module, 0.999)

    def optimizer(self, module: nn.Module) -> torch.optim.Optimizer:
        """For what `build` made."""
        return optimizer_for(module, self.optim, module.inside if self.optim.muon else ())

    def rate(self, steps: int) -> LRConfig:
        """Over a training of so many steps."""
        warmup = int(self.warmup if self.warmup >= 1 else self.warmup * steps)
        return LRConfig(peak=self.peak, warmup_steps=min(warmup, steps - 1), steps=steps, floor=self.floor)
