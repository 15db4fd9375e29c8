"""Trains a network to take noise away.

    accelerate launch -m diffusion.train --config recipes/diffusion/emoji32.yaml

Letters: b pictures, c h w picture, n held-out pictures; t time from 1 to T.
"""

from dataclasses import dataclass, field

import torch
from einops import rearrange
from torch import Tensor

from diffusion.denoiser import Denoiser
from diffusion.drawing import DDIM
from diffusion.inpainting import RePaint
from diffusion.likelihood import Measuring
from diffusion.model import CLIP, DDPM, DDPMConfig
from diffusion.networks import NetworkConfig
from diffusion.objectives import Objective, Simple, losses
from diffusion.pictures import PicturesConfig, open_pictures
from diffusion.process import ProcessConfig
from diffusion.times import LossLog, Times, UniformConfig
from vqtok.training.config import launch
from vqtok.training.optim import OptimConfig, optimizer_for
from vqtok.training.run import Run, RunConfig
from vqtok.training.schedule import LRConfig, cosine


@dataclass(frozen=True, kw_only=True)
class TrainConfig:
    """The training of a DDPM.

    Args:
        run: Folder, seed, precision.
        data: Pictures.
        size: Pixels a side.
        network: Its classes, if it has any, are those of the data.
        process: Schedule, what the network predicts, and variances.
        objective: What is minimized.
        times: How a step's times are drawn.
        optim: Weight decay, betas, clipping.
        lr: Learning rate by the step; its `steps` are the length of the run.
        average: Decay of the moving average of the weights, which is what is evaluated and saved.
        bound_times: Times of the bound that is measured on held-out pictures; all of them would take long.
        eval_steps: Steps between two evaluations.
        save_steps: Steps between two checkpoints.
    """

    run: RunConfig
    data: PicturesConfig
    network: NetworkConfig
    optim: OptimConfig
    lr: LRConfig
    size: int = 32
    process: ProcessConfig = field(default_factory=ProcessConfig)
    objective: Objective = field(default_factory=Simple)
    times: Times = field(default_factory=UniformConfig)
    average: float = 0.9999
    bound_times: int = 20
    eval_steps: int = 1000
    save_steps: int = 500


def train(config: TrainConfig) -> None:
    """Train a network; `config.run.folder` receives checkpoints, pictures, metrics and `model/`.

    Raises:
        ValueError: if network, process, objective and pictures do not belong together.
    """
    run = Run(config.run)
    known = config.network.classes.count if config.network.classes else 0
    source, kept, names = open_pictures(config.data, config.size, config.run.seed, known)
    settings = DDPMConfig(network=config.network, process=config.process, size=config.size, classes=names)
    model = DDPM(settings).train()
    config.objective.check(model.process)
    process, denoiser = model.process, Denoiser(model.network)
    network, optimizer = run.prepare(denoiser, optimizer_for(denoiser, config.optim, denoiser.inside))
    average = run.ema(network, config.average)
    times, log = run.hold(config.times.build(process.steps)), run.hold(LossLog(process.steps))
    run.resume()
    for images, labels in run.batches(source, config.data.batch, config.lr.steps, config.data.workers):
        with run.accumulate(network):
            generator = torch.Generator().manual_seed(torch.initial_seed())  # of this step and process
            chosen = labels if known else None
            found = losses(config.objective, process, network, images, times, generator, chosen)
            run.update(found.mean, optimizer, lr=cosine(run.step, config.lr), clip=config.optim.clip)
            seen = run.accelerator.gather((found.t.to(run.device), found.values.detach()))
            times.learn(*seen)
            log.add(*seen)
        if run.every(config.run.log_steps):
            run.log({f"loss/{quarter}": loss for quarter, loss in log.quarters().items()})
            log.reset()
        if run.every(config.eval_steps):
            bundled = bundle(settings, average.model)
            run.log(held_out(bundled, *kept, config.bound_times))
            run.show("pictures", drawings(bundled, kept[0], config.run.seed))
        if run.every(config.save_steps):
            run.save()
    if run.main:
        bundle(settings, average.model).save_pretrained(config.run.folder / "model")
    run.finish()


def bundle(settings: DDPMConfig, denoiser: Denoiser) -> DDPM:
    """A trained network with its process, ready to be saved; it shares the network's tensors."""
    with torch.random.fork_rng(devices=[]):  # a network is drawn in vain, but not from the run's numbers
        model = DDPM(settings)
    model.network = denoiser.network
    return model.eval()


def held_out(model: DDPM, images: Tensor, labels: Tensor, times: int, batch: int = 64) -> dict[str, float]:
    """Terms of the bound of held-out pictures in bits per dimension, estimates clipped.

    Args:
        model: In evaluation mode.
        images: (n, c, h, w) in [0, 1].
        labels: (n,) classes, if the model knows any.
        times: Stretches of the estimator.
        batch: Pictures at once.
    """
    measuring, parts = Measuring(times=times, correction=CLIP), []
    for start in range(0, len(images), batch):
        part = slice(start, start + batch)
        classes = labels[part].tolist() if model.config.classes else ()
        parts.append(model.elbo(images[part], seed=start, classes=classes, measuring=measuring))
    names = ("reconstruction", "prior", "denoising", "total")
    return {
        f"validation/{name}": float(torch.cat([getattr(part, name) for part in parts]).mean())
        for name in names
    }


def drawings(model: DDPM, images: Tensor, seed: int, count: int = 8) -> Tensor:
    """(3, H, W): held-out pictures, the same with their lower half drawn anew, and two rows from nothing.

    Args:
        model: In evaluation mode.
        images: (n, c, h, w) in [0, 1].
        seed: Of the draws.
        count: Pictures a row.
    """
    images = images[:count].to(model.device)
    walk = RePaint(steps=min(20, model.process.steps), visits=2)
    half = model.complete(images, rows=model.config.size // 2, repaint=walk, seed=seed)
    sampler = DDIM(steps=min(50, model.process.steps))
    drawn = model.sample(2 * len(images), sampler, seed).split(len(images))
    sheet = rearrange(torch.stack([images, half, *drawn]).cpu(), "r b c h w -> c (r h) (b w)")
    return sheet.expand(3, -1, -1)


if __name__ == "__main__":
    launch(train, TrainConfig)
