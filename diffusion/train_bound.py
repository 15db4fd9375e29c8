"""Trains a VAE, a hierarchical VAE or a variational diffusion model by its bound.

    accelerate launch -m diffusion.train_bound --config recipes/diffusion/emoji32-vae.yaml

What is measured of held-out pictures is the bound itself, in float32, whatever training weighs.

Letters: b pictures, c h w a picture.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np
import torch
from einops import rearrange
from torch import Tensor

from diffusion.hvae import HVAE, HVAEConfig
from diffusion.terms import Terms
from diffusion.vae import VAE, VAEConfig
from diffusion.vdm import VDM, VDMConfig
from vqtok.data.galleries import Gallery, open_gallery
from vqtok.data.order import Shuffled
from vqtok.data.pictures import Fit
from vqtok.training.config import launch
from vqtok.training.optim import OptimConfig, optimizer_for
from vqtok.training.run import Run, RunConfig
from vqtok.training.schedule import LRConfig, Ramp, cosine, ramped

ModelConfig = VAEConfig | HVAEConfig | VDMConfig  # the first is what a mapping without `kind` means
Model = VAE | HVAE | VDM
SHOWN = 8  # pictures a row
STEPS, TIMES = 50, 16  # of a VDM while training: steps of its drawings, times of its bound


@dataclass(frozen=True, kw_only=True)
class PicturesConfig:
    """What a model learns from.

    Args:
        gallery: A folder of pictures, an idx file, or `emoji:SPLIT[:COUNT]`.
        validation: Such a gallery of held-out pictures; None keeps some of `gallery`.
        held_out: Pictures of either that are measured.
        fit: What becomes of a folder's pictures that are not square.
        batch: Pictures a step, over all processes.
        mirror: Show half of the pictures mirrored.
        workers: Processes that read ahead.
    """

    gallery: str
    validation: str | None = None
    held_out: int = 64
    fit: Fit = "crop"
    batch: int = 16
    mirror: bool = False
    workers: int = 0


@dataclass(frozen=True, kw_only=True)
class ObjectiveConfig:
    """How the terms weigh while training. The bound itself weighs all alike.

    Args:
        beta: Weight of what is not reconstruction, by the step: below 1 pictures come back sharper than
            they can be drawn, above 1 latents hold less; from 0 to 1 during the first steps it keeps a
            decoder from learning to do without them. None is 1.
    """

    beta: Ramp | None = None

    def __post_init__(self) -> None:
        if self.beta and min(self.beta.start, self.beta.end) < 0:
            raise ValueError(
                f"objective.beta goes from {self.beta.start} to {self.beta.end}: a weight is not below 0"
            )

    def weight(self, step: int) -> float:
        """Of this step."""
        return ramped(step, self.beta) if self.beta else 1.0


@dataclass(frozen=True, kw_only=True)
class TrainConfig:
    """A model's training.

    Args:
        run: Folder, seed, precision.
        data: Pictures.
        model: What is trained: its `kind`, and the settings of that kind.
        optim: Weight decay, betas, clipping.
        lr: Learning rate by the step; its `steps` are the length of the run.
        objective: Weights of the terms.
        average: Decay of the moving average of the weights, which is what is evaluated and saved.
        eval_steps: Steps between two evaluations.
        save_steps: Steps between two checkpoints.
    """

    run: RunConfig
    data: PicturesConfig
    model: ModelConfig
    optim: OptimConfig
    lr: LRConfig
    objective: ObjectiveConfig = field(default_factory=ObjectiveConfig)
    average: float = 0.999
    eval_steps: int = 500
    save_steps: int = 500

    def __post_init__(self) -> None:
        if self.objective.beta and isinstance(self.model, VDMConfig):
            raise ValueError("objective.beta: a vdm's terms are of one kind, and weigh alike; leave it out")
        if self.model.channels != 3:
            raise ValueError(f"model.channels is {self.model.channels}, pictures have 3: leave it out")


class Levelled:
    """Pictures of a gallery on 256 levels, which is what has a probability; some of them mirrored.

    Args:
        gallery: Where they come from.
        numbers: Which of them.
        mirror: Show every picture a second time, mirrored.
    """

    def __init__(self, gallery: Gallery, numbers: Sequence[int], mirror: bool = False) -> None:
        self.gallery, self.numbers, self.mirror = gallery, numbers, mirror

    def __len__(self) -> int:
        return len(self.numbers) * (1 + self.mirror)

    def __getitem__(self, index: int) -> Tensor:
        """(3, s, s) in [0, 1]."""
        image = (self.gallery[self.numbers[index % len(self.numbers)]] * 255).round() / 255
        return image.flip(-1) if index >= len(self.numbers) else image


def train(config: TrainConfig) -> None:
    """Train a model; `config.run.folder` receives checkpoints, pictures, metrics and `model/`.

    Raises:
        ValueError: if the pictures cannot be had.
    """
    source, kept = pictures(config)
    run = Run(config.run)
    model = config.model.build()
    model, optimizer = run.prepare(model, optimizer_for(model, config.optim))
    average = run.ema(model, config.average)
    run.resume()
    for images in run.batches(source, config.data.batch, config.lr.steps, config.data.workers):
        generator = torch.Generator().manual_seed(torch.initial_seed())  # Run seeds every micro-batch
        with run.accumulate(model):
            terms = model(images, generator)
            beta = config.objective.weight(run.step)
            loss = (terms.reconstruction + beta * (terms.prior + terms.denoising)).mean()
            run.update(loss, optimizer, lr=cosine(run.step, config.lr), clip=config.optim.clip)
            run.note({f"bits/{name}": term.detach().mean() for name, term in terms._asdict().items()})
        if run.every(config.eval_steps):
            run.log(measure(average.model, kept))
            run.show("pictures", drawings(average.model, kept[:SHOWN], config.run.seed))
        if run.every(config.save_steps):
            run.save()
    if run.main:
        average.model.save_pretrained(config.run.folder / "model")
    run.finish()


def pictures(config: TrainConfig) -> tuple[Shuffled, Tensor]:
    """The training order, and held-out pictures (n, c, h, w).

    Raises:
        ValueError: if a gallery cannot be read, or nothing is left for training or validation.
    """
    data, size = config.data, config.model.size
    gallery = open_gallery(data.gallery, size, data.fit)
    if data.validation is None:
        if not 0 < data.held_out < len(gallery):
            raise ValueError(
                f"data.held_out is {data.held_out} of {len(gallery)} pictures: leave at least one for "
                "validation and one for training"
            )
        order = np.random.default_rng(0).permutation(len(gallery)).tolist()
        shown, unseen, kept = order[data.held_out :], gallery, order[: data.held_out]
    else:
        unseen = open_gallery(data.validation, size, data.fit)
        if not 0 < data.held_out <= len(unseen):
            raise ValueError(
                f"data.held_out is {data.held_out}, data.validation has {len(unseen)} pictures: ask for 1 to "
                f"{len(unseen)}"
            )
        shown, kept = range(len(gallery)), np.linspace(0, len(unseen) - 1, data.held_out).round().astype(int)
    held_out = Levelled(unseen, [int(number) for number in kept])
    source = Levelled(gallery, shown, data.mirror)
    return Shuffled(source, config.run.seed), torch.stack([held_out[n] for n in range(len(held_out))])


def measure(model: Model, images: Tensor, batch: int = 64) -> dict[str, float]:
    """The bound of held-out pictures (n, c, h, w) and its terms, in bits per dimension, always with one seed.

    Its `error` is that of the mean, for the spread of pictures and draws.
    """
    settings = {"draws": TIMES} if isinstance(model, VDM) else {}
    found = [model.elbo(part, **settings) for part in images.split(batch)]
    terms = Terms(*(torch.cat(parts) for parts in zip(*found, strict=True)))
    facts = {name: float(term.double().mean()) for name, term in terms._asdict().items()}
    error = {"error": terms.standard_error} if len(images) > 1 else {}
    return {f"validation/{name}": value for name, value in ({"bits": terms.mean} | facts | error).items()}


def drawings(model: Model, images: Tensor, seed: int) -> Tensor:
    """(3, H, W): held-out pictures, what comes back of them where there are latents, and pictures drawn."""
    rows = [images.to(next(model.parameters()).device)]
    if isinstance(model, VDM):
        rows.append(model.sample(len(images), steps=model.config.steps or STEPS, seed=seed))
    else:
        rows += [model.reconstruct(images), model.sample(len(images), seed=seed)]
    return rearrange(torch.stack(rows), "row b c h w -> c (row h) (b w)")


if __name__ == "__main__":
    launch(train, TrainConfig)
