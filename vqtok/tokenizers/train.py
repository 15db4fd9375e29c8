"""Trains a tokenizer: absolute, squared and perceptual error of the reconstruction, and the quantizer's loss.

    accelerate launch -m vqtok.tokenizers.train --config recipes/tokenizer/emoji64.yaml

Letters: b images, c channels, h w size; i j grid of codes.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch.nn.functional as F
from torch import Tensor
from torch.utils.data import Subset

from vqtok.data.emoji import load_emoji
from vqtok.data.folders import PictureFolder
from vqtok.data.order import Shuffled
from vqtok.data.scenes import alone, nearly_alone, scene
from vqtok.data.views import any_view
from vqtok.tokenizers.evaluate import held_out, measure, reconstructions
from vqtok.tokenizers.losses import FeatureDistance
from vqtok.tokenizers.tokenizer import Reconstruction, TokenizerConfig, VQTokenizer
from vqtok.training.config import launch
from vqtok.training.optim import OptimConfig, optimizer_for
from vqtok.training.run import Run, RunConfig
from vqtok.training.schedule import LRConfig, cosine

STYLES, SHARES = ("shaded", "flat", "line", "solid", "mask"), (0.36, 0.26, 0.28, 0.05, 0.05)
# Shares of images that are one emoji as drawn, which is what a tokenizer of emoji is judged by, and almost as
# drawn, without which it learns the 1,300 names by heart; the rest are scenes.
ALONE, NEARLY = 0.25, 0.5


@dataclass(frozen=True, kw_only=True)
class ImagesConfig:
    """Where a tokenizer's images come from.

    Args:
        folder: Pictures to train on; without one, endless scenes of the embedded emoji.
        batch: Images a step, over all processes.
        workers: Processes that draw or decode images ahead.
        held_out: Images of the folder kept for evaluation, at least one.
    """

    folder: Path | None = None
    batch: int = 32
    workers: int = 1
    held_out: int = 64


@dataclass(frozen=True, kw_only=True)
class LossConfig:
    """Weights of the terms; the quantizer's loss has weight 1.

    Args:
        absolute: Mean absolute error.
        squared: Mean squared error.
        perceptual: Distance of EfficientNet-Lite0 features; 0 needs no feature network.
    """

    absolute: float = 1.0
    squared: float = 1.0
    perceptual: float = 0.0


@dataclass(frozen=True, kw_only=True)
class TrainConfig:
    """A tokenizer's training.

    Args:
        run: Folder, seed, precision.
        data: Images.
        tokenizer: What is trained.
        loss: Weights of the terms.
        optim: Weight decay, betas, clipping.
        lr: Learning rate by the step; its `steps` are the length of the run.
        restart_steps: Steps during which codes that nobody chooses start again; afterwards the codebook
            settles.
        average: Decay of the moving average of the weights, which is what is evaluated and saved.
        eval_steps: Steps between two evaluations.
        save_steps: Steps between two checkpoints.
    """

    run: RunConfig
    data: ImagesConfig
    tokenizer: TokenizerConfig
    loss: LossConfig
    optim: OptimConfig
    lr: LRConfig
    restart_steps: int = 0
    average: float = 0.999
    eval_steps: int = 1000
    save_steps: int = 500


class EmojiImages:
    """Endless training order: image number k is a view of scene number k, or of one train emoji."""

    def __init__(self, seed: int) -> None:
        self.seed = seed

    def __getitem__(self, index: int) -> Tensor:
        """(3, 64, 64) in [0, 1]."""
        rng = np.random.default_rng((self.seed, index, 1))
        style = str(rng.choice(STYLES, p=SHARES))
        emoji = [drawn for drawn in load_emoji("train") if style in drawn.webp or style == "mask"]
        one, kind = emoji[rng.integers(len(emoji))], rng.random()
        if kind < ALONE:
            source = alone(one)
        elif kind < ALONE + NEARLY:
            source = nearly_alone(one, rng)
        else:
            source = scene(emoji, self.seed, index)
        return any_view(source.image(style), rng)


def train(config: TrainConfig) -> None:
    """Train a tokenizer; `config.run.folder` receives checkpoints, pictures, metrics and the `model/`.

    Raises:
        ValueError: if the images or the perceptual features cannot be had.
    """
    source, kept = images(config)
    features = FeatureDistance() if config.loss.perceptual else None
    run = Run(config.run)
    tokenizer = VQTokenizer(config.tokenizer)
    tokenizer, optimizer = run.prepare(tokenizer, optimizer_for(tokenizer, config.optim, tokenizer.inside))
    average = run.ema(tokenizer, config.average)
    if features is not None:
        features.to(run.device)
    run.resume()
    for batch in run.batches(source, config.data.batch, config.lr.steps, config.data.workers):  # (b, 3, h, w)
        with run.accumulate(tokenizer):
            out = tokenizer(batch)
            loss = reconstruction_loss(out, batch, config.loss, features) + out.quantizer_loss
            stepped = run.update(loss, optimizer, lr=cosine(run.step, config.lr), clip=config.optim.clip)
            if stepped:  # vectors of a skipped step may be no numbers
                restart = run.step < config.restart_steps
                run.unwrap(tokenizer).quantize.learn(out.vectors, out.ids, restart)
        if run.every(config.eval_steps):
            run.log(measure(average.model, kept))
            run.show("reconstructions", reconstructions(average.model, kept))
        if run.every(config.save_steps):
            run.save()
    if run.main:
        average.model.save_pretrained(config.run.folder / "model")
    run.finish()


def reconstruction_loss(
    out: Reconstruction, images: Tensor, config: LossConfig, features: FeatureDistance | None
) -> Tensor:
    """() weighted sum of the errors of `out.images` against images (b, c, h, w)."""
    decoded = out.images.float()
    loss = config.absolute * F.l1_loss(decoded, images) + config.squared * F.mse_loss(decoded, images)
    return loss if features is None else loss + config.perceptual * features(decoded, images)


def images(config: TrainConfig) -> tuple[EmojiImages | Shuffled, dict[str, Sequence[Tensor]]]:
    """The training order, and held-out images by the name they are reported under.

    Raises:
        ValueError: if the folder cannot be read, or has no picture beside those held out.
    """
    data = config.data
    if data.folder is None:
        return EmojiImages(config.run.seed), held_out("validation")
    pictures = PictureFolder(data.folder, config.tokenizer.size, fit="crop").scan(data.workers, keep=True)
    if not 0 < data.held_out < len(pictures):
        raise ValueError(
            f"data.held_out is {data.held_out} of the {len(pictures)} pictures under {data.folder}: leave at "
            "least one for evaluation and one for training"
        )
    order = np.random.default_rng(0).permutation(len(pictures)).tolist()
    kept, shown = order[: data.held_out], order[data.held_out :]
    return Shuffled(Subset(pictures, shown), config.run.seed), {"images": Subset(pictures, kept)}


if __name__ == "__main__":
    launch(train, TrainConfig)
