"""Trains a VAE, a hierarchical VAE or a variational diffusion model by its bound.

    accelerate launch -m diffusion.train_bound --config recipes/diffusion/emoji32-vae.yaml

What is measured of held-out pictures is the bound itself, in float32, whatever training weighs.

Letters: b pictures, c h w a picture.
"""

from dataclasses import dataclass, field

import torch
from einops import rearrange
from torch import Tensor

from diffusion.hvae import HVAE, HVAEConfig
from diffusion.pictures import PicturesConfig, open_pictures
from diffusion.terms import Terms
from diffusion.vae import VAE, VAEConfig
from diffusion.vdm import VDM, VDMConfig
from vqtok.training.config import launch
from vqtok.training.optim import OptimConfig, optimizer_for
from vqtok.training.run import Run, RunConfig
from vqtok.training.schedule import LRConfig, Ramp, cosine, ramped

ModelConfig = VAEConfig | HVAEConfig | VDMConfig  # the first is what a mapping without `kind` means
Model = VAE | HVAE | VDM
SHOWN = 8  # pictures a row
STEPS, TIMES = 50, 16  # of a VDM while training: steps of its drawings, times of its bound


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
        if self.model.channels != (1 if self.data.gray else 3):
            raise ValueError(
                f"model.channels is {self.model.channels}, pictures have 3, or 1 where data.gray is set: "
                "let them agree"
            )


def train(config: TrainConfig) -> None:
    """Train a model; `config.run.folder` receives checkpoints, pictures, metrics and `model/`.

    Raises:
        ValueError: if the pictures cannot be had.
    """
    source, (kept, _), _ = open_pictures(config.data, config.model.size, config.run.seed)
    run = Run(config.run)
    model = config.model.build()
    model, optimizer = run.prepare(model, optimizer_for(model, config.optim))
    average = run.ema(model, config.average)
    run.resume()
    for images, _ in run.batches(source, config.data.batch, config.lr.steps, config.data.workers):
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
