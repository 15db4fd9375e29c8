"""`vqtok compare speed diffusion`: training steps and drawn pictures of small UNets, ours and our peers'.

All have about nine million learned numbers, weights as they are initialized, and pictures of 32x32 pixels; in
float32 unless the row says otherwise. diffusers' UNet has our shape exactly; denoising-diffusion-pytorch's is
of another design, as wide as makes it as large. A step is noise, forward, mean squared error, backward,
clipping and Adam, each package's process around its own network. Drawing is DDIM, by each package's own
pipeline.

Letters: b pictures, c h w picture.
"""

from collections.abc import Callable, Sequence
from contextlib import nullcontext
from dataclasses import dataclass, replace
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from diffusion.denoiser import Denoiser
from diffusion.drawing import DDIM
from diffusion.model import DDPM, DDPMConfig
from diffusion.networks import UNetConfig
from diffusion.objectives import Simple, losses
from diffusion.process import ProcessConfig
from diffusion.published.diffusers import unet2d_settings
from diffusion.times import UniformConfig
from workbench.compare.speed import Call, Comparison, Contestant

STEPS = 1000  # of every process, on the linear schedule
OBJECTIVE, TIMES = Simple(), UniformConfig().build(STEPS)
Loss = Callable[[Tensor], Tensor]  # of pictures (b, 3, h, w) in [0, 1]


@dataclass(frozen=True, kw_only=True)
class Case:
    """So many pictures for a UNet of this size."""

    batch: int
    channels: int = 64
    multipliers: tuple[int, ...] = (1, 2, 2, 2)
    size: int = 32

    @property
    def unet(self) -> UNetConfig:
        """Ours, and diffusers'."""
        groups = min(32, self.channels)
        return UNetConfig(channels=self.channels, multipliers=self.multipliers, groups=groups)

    @property
    def dim(self) -> int:
        """Of denoising-diffusion-pytorch's UNet: 72 is as large as 64 of ours; it wants multiples of 8."""
        return 8 * round(self.channels * 9 / 64)

    @property
    def weights(self) -> int:
        """Learned numbers of ours."""
        with torch.device("meta"):
            return sum(weight.numel() for weight in self.unet.build().parameters())

    @property
    def shape(self) -> tuple[int, int, int, int]:
        """Of the pictures."""
        return (self.batch, 3, self.size, self.size)


class Training(Case):
    """One step."""


@dataclass(frozen=True, kw_only=True)
class Drawing(Case):
    """All pictures at once, in so many steps."""

    steps: int


def _training(model: nn.Module, loss: Loss, case: Training, device: torch.device, bf16: bool) -> Call:
    """A step of Adam by the loss of pictures."""
    images = torch.rand(case.shape, generator=torch.Generator().manual_seed(0)).to(device)
    weights = [*model.train().parameters()]
    optimizer = torch.optim.Adam(weights, lr=2e-4, fused=True)

    def call() -> None:
        optimizer.zero_grad()
        with _precision(device, bf16):
            found = loss(images)
        found.backward()
        nn.utils.clip_grad_norm_(weights, 1.0)
        optimizer.step()

    return call


def _ours(bf16: bool = False, channels_first: bool = False, compiled: bool = False) -> Contestant:
    """Our UNet and process."""

    def prepare(case: Case, device: torch.device) -> Call | None:
        if compiled and device.type != "cuda":
            return None
        model = _ddpm(case, device)
        if channels_first:
            _put_channels_first(model.network)
        if compiled:
            model.network.compile()
        if isinstance(case, Drawing):

            def draw() -> Tensor:
                with _precision(device, bf16):
                    return model.sample(case.batch, DDIM(steps=case.steps))

            return draw
        denoiser, generator = Denoiser(model.network), torch.Generator().manual_seed(0)

        def loss(images: Tensor) -> Tensor:
            return losses(OBJECTIVE, model.process, denoiser, images, TIMES, generator).mean

        return _training(denoiser, loss, case, device, bf16)

    return Contestant(prepare=prepare, package="vqtok")


def _ddpm(case: Case, device: torch.device) -> DDPM:
    torch.manual_seed(0)
    return DDPM(DDPMConfig(network=case.unet, process=ProcessConfig(), size=case.size)).to(device)


def _put_channels_first(unet: nn.Module) -> None:
    """Memory in the order that torch has unless told; what comes in is put there, and all else follows."""
    unet.to(memory_format=torch.contiguous_format)
    unet.conv_in.register_forward_pre_hook(lambda _, inputs: inputs[0].contiguous())


def _diffusers(channels_last: bool, bf16: bool = False) -> Contestant:
    """diffusers' UNet2DModel in our shape, its scheduler and its pipeline."""

    def prepare(case: Case, device: torch.device) -> Call:
        import diffusers

        torch.manual_seed(0)
        model = diffusers.UNet2DModel.from_config(unet2d_settings(case.unet, case.size)).to(device)
        if channels_last:
            model.to(memory_format=torch.channels_last)
        order = torch.channels_last if channels_last else torch.contiguous_format
        if isinstance(case, Drawing):
            scheduler = diffusers.DDIMScheduler(num_train_timesteps=STEPS)
            pipeline = diffusers.DDIMPipeline(unet=model.eval(), scheduler=scheduler)
            pipeline.set_progress_bar_config(disable=True)

            def draw() -> Any:
                generator = torch.Generator().manual_seed(0)
                with _precision(device, bf16):
                    return pipeline(
                        batch_size=case.batch,
                        generator=generator,
                        num_inference_steps=case.steps,
                        output_type="np",
                    ).images

            return draw
        scheduler = diffusers.DDPMScheduler(num_train_timesteps=STEPS)

        def loss(images: Tensor) -> Tensor:
            x_0 = (2 * images - 1).contiguous(memory_format=order)
            noise = torch.randn(images.shape, device=device).contiguous(memory_format=order)
            t = torch.randint(0, STEPS, (len(images),), device=device)
            output = model(scheduler.add_noise(x_0, noise, t), t).sample
            return F.mse_loss(output.float(), noise)

        return _training(model, loss, case, device, bf16)

    return Contestant(prepare=prepare, package="diffusers")


def _denoising_diffusion(flash: bool, channels_last: bool = False) -> Contestant:
    """denoising-diffusion-pytorch's Unet within its GaussianDiffusion."""

    def prepare(case: Case, device: torch.device) -> Call:
        from denoising_diffusion_pytorch import GaussianDiffusion, Unet

        torch.manual_seed(0)
        unet = Unet(dim=case.dim, dim_mults=case.multipliers, flash_attn=flash)
        if channels_last:
            unet.to(memory_format=torch.channels_last)
        steps = {"sampling_timesteps": case.steps} if isinstance(case, Drawing) else {}
        process = GaussianDiffusion(
            unet,
            image_size=case.size,
            timesteps=STEPS,
            objective="pred_noise",
            beta_schedule="linear",
            **steps,
        ).to(device)
        if isinstance(case, Drawing):
            process.eval()
            return lambda: process.sample(batch_size=case.batch)
        order = torch.channels_last if channels_last else torch.contiguous_format
        return _training(
            process, lambda images: process(images.contiguous(memory_format=order)), case, device, False
        )

    return Contestant(prepare=prepare, package="denoising-diffusion-pytorch")


def _ceiling(case: Case, device: torch.device) -> Call:
    """In drawing, our network as often as it is asked; in training, its convolutions and linear layers."""
    network = _ddpm(case, device).network
    x = torch.randn(case.shape, device=device)
    t = torch.zeros(case.batch, dtype=torch.int64, device=device)
    if isinstance(case, Drawing):
        network.eval()

        @torch.no_grad()
        def ask() -> None:
            for _ in range(case.steps):
                network(x, t)

        return ask
    layers = _layers(network, x, t)

    def call() -> None:
        for layer, inputs, grad in layers:
            layer(inputs).backward(grad)

    return call


def _layers(network: nn.Module, x: Tensor, t: Tensor) -> Sequence[tuple[nn.Module, Tensor, Tensor]]:
    """Every convolution and linear layer, with an input and a gradient as they have them in one pass."""
    met: list[tuple[nn.Module, Tensor, Tensor]] = []

    def keep(layer: nn.Module, inputs: tuple[Tensor], output: Tensor) -> None:
        met.append((layer, inputs[0].detach().clone().requires_grad_(), torch.ones_like(output)))

    kinds = (nn.Conv2d, nn.Linear)
    hooks = [layer.register_forward_hook(keep) for layer in network.modules() if isinstance(layer, kinds)]
    network(x, t)
    for hook in hooks:
        hook.remove()
    return met


def _precision(device: torch.device, bf16: bool) -> Any:
    return torch.autocast(device.type, torch.bfloat16) if bf16 else nullcontext()


def _toy(case: Case) -> Case:
    tiny = {"batch": 2, "channels": 8, "multipliers": (1, 2), "size": 8}
    return replace(case, **tiny | ({"steps": 2} if isinstance(case, Drawing) else {}))


COMPARISON = Comparison(
    about=(
        "A step is noise, forward, backward, clipping and Adam; else one call draws the pictures by DDIM. "
        "The ceiling of a step is our network's convolutions and linear layers alone, forward and backward; "
        "that of drawing is our network alone, asked as often, so that `to the ceiling` of ours is what "
        "sampling costs beside it. bfloat16 is by autocast."
    ),
    cases={
        "A training step, batch 16": Training(batch=16),
        "Eight pictures in 10 steps of DDIM": Drawing(batch=8, steps=10),
    },
    contestants={
        "vqtok": _ours(),
        "vqtok, bfloat16": _ours(bf16=True),
        "vqtok, bfloat16, compiled": _ours(bf16=True, compiled=True),
        "vqtok, channels first": _ours(channels_first=True),
        "diffusers, channels last": _diffusers(channels_last=True),
        "diffusers, channels last, bfloat16": _diffusers(channels_last=True, bf16=True),
        "diffusers": _diffusers(channels_last=False),
        "denoising-diffusion-pytorch": _denoising_diffusion(flash=False),
        "denoising-diffusion-pytorch, flash attention": _denoising_diffusion(flash=True),
        "denoising-diffusion-pytorch, flash attention, channels last": _denoising_diffusion(True, True),
        "ceiling": Contestant(prepare=_ceiling),
    },
    ours="vqtok",
    ceiling="ceiling",
    unit=lambda case: 4 * case.weights,
    unit_name="the float32 weights",
    rate=lambda case: case.batch,
    rate_name="pictures/s",
    toy=_toy,
)
