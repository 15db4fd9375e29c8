"""Trains a tokenizer: errors of the reconstruction, the quantizer's loss, and a critic if there is one.

    accelerate launch -m vqtok.tokenizers.train --config recipes/tokenizer/emoji64.yaml

Letters: b images, c channels, h w size; i j grid of codes.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from torch import Tensor
from torch.utils.data import Subset

from vqtok.data.emoji import SIZE, load_emoji
from vqtok.data.folders import PictureFolder
from vqtok.data.idx import IdxImages
from vqtok.data.order import Shuffled
from vqtok.data.scenes import alone, nearly_alone, scene
from vqtok.data.views import any_view, patchwork
from vqtok.metrics.images import WINDOW
from vqtok.tokenizers.choice import AnyTokenizerConfig, build
from vqtok.tokenizers.codebook import Choices, CodebookUse
from vqtok.tokenizers.critic import Adversary, CriticConfig
from vqtok.tokenizers.dvae import DVAEConfig
from vqtok.tokenizers.evaluate import held_out, measure, reconstructions
from vqtok.tokenizers.losses import LossConfig, ReconstructionLoss
from vqtok.tokenizers.quantizers.gumbel import GumbelConfig
from vqtok.tokenizers.quantizers.quantizer import Quantizer
from vqtok.training.config import launch
from vqtok.training.optim import OptimConfig, optimizer_for
from vqtok.training.run import Run, RunConfig
from vqtok.training.schedule import LRConfig, Ramp, cosine, ramped

STYLES, SHARES = ("shaded", "flat", "line", "solid", "mask"), (0.4, 0.25, 0.2, 0.1, 0.05)
# Shares of images that are one emoji as drawn, which a tokenizer of emoji is judged by, almost as drawn, and
# halves of two, without which it learns the 1,300 names by heart; the rest are scenes.
ALONE, NEARLY, MIXED = 0.1, 0.35, 0.35


@dataclass(frozen=True, kw_only=True)
class ImagesConfig:
    """Where a tokenizer's images come from.

    Args:
        folder: Pictures to train on; without these, endless scenes of the embedded emoji.
        batch: Images a step, over all processes.
        workers: Processes that draw or decode images ahead.
        held_out: Images of the folder or file kept for evaluation, at least one.
        idx: A file of gray images to train on instead, such as Fashion-MNIST's train-images-idx3-ubyte.gz.
        keep: Hold the folder's pictures in memory, 3 size^2 bytes each, rather than decode them again.
    """

    folder: Path | None = None
    batch: int = 32
    workers: int = 1
    held_out: int = 64
    idx: Path | None = None
    keep: bool = True

    def __post_init__(self) -> None:
        if self.folder and self.idx:
            raise ValueError(f"data.folder {self.folder} and data.idx {self.idx}: name one of them")


@dataclass(frozen=True, kw_only=True)
class TrainConfig:
    """A tokenizer's training.

    Args:
        run: Folder, seed, precision.
        data: Images.
        tokenizer: What is trained: its `kind`, and the settings of that kind.
        loss: Weights of the terms.
        optim: Weight decay, betas, clipping.
        lr: Learning rate by the step; its `steps` are the length of the run.
        restart_steps: Steps during which codes that nobody chooses start again; afterwards the codebook
            settles. Four fifths of the run if left out.
        average: Decay of the moving average of the weights, which is what is evaluated and saved.
        eval_steps: Steps between two evaluations.
        save_steps: Steps between two checkpoints.
        codebook_steps: Steps whose choices of codes are counted together, for usage and perplexity.
        critic: An adversary, if there is one.
        tau: Temperature of Gumbel-softmax by the step; without it, the quantizer's.
        kl: Weight of its divergence from even use, likewise.
    """

    run: RunConfig
    data: ImagesConfig
    tokenizer: AnyTokenizerConfig
    loss: LossConfig
    optim: OptimConfig
    lr: LRConfig
    restart_steps: int | None = None
    average: float = 0.999
    eval_steps: int = 1000
    save_steps: int = 500
    codebook_steps: int = 100
    critic: CriticConfig | None = None
    tau: Ramp | None = None
    kl: Ramp | None = None

    def __post_init__(self) -> None:
        is_dvae = isinstance(self.tokenizer, DVAEConfig)
        if (self.tau or self.kl) and not (is_dvae or isinstance(self.tokenizer.quantizer, GumbelConfig)):
            raise ValueError("tau and kl are schedules of Gumbel-softmax: leave them out, or train a dvae")
        if self.tau and min(self.tau.start, self.tau.end) <= 0:
            raise ValueError(f"tau goes from {self.tau.start} to {self.tau.end}: both must be above 0")
        if self.loss.laplace and not is_dvae:
            raise ValueError("loss.laplace is the likelihood of a dvae: set it to 0, or train one")
        if not getattr(self.tokenizer, "decodes", True):
            raise ValueError("a tokenizer without a decoder cannot be trained: set tokenizer.decodes to true")
        if self.critic:
            self.critic.check_size(self.tokenizer.size)
        if self.tokenizer.size < WINDOW:
            raise ValueError(
                f"tokenizer.size is {self.tokenizer.size}, and SSIM, which evaluation takes, has a window of "
                f"{WINDOW} pixels a side: raise it"
            )

    @property
    def settles_at(self) -> int:
        """Step from which codes no longer start again."""
        return 4 * self.lr.steps // 5 if self.restart_steps is None else self.restart_steps


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
        elif kind < ALONE + NEARLY + MIXED:
            other = emoji[rng.integers(len(emoji))]
            halves = (nearly_alone(half, rng).image(style) for half in (one, other))
            return any_view(patchwork(*halves, rng), rng)
        else:
            source = scene(emoji, self.seed, index)
        return any_view(source.image(style), rng)


def train(config: TrainConfig) -> None:
    """Train a tokenizer; `config.run.folder` receives checkpoints, pictures, metrics and the `model/`.

    Raises:
        ValueError: if the images or the perceptual features cannot be had.
    """
    source, kept = images(config)
    errors = ReconstructionLoss(config.loss)
    run = Run(config.run)
    network = build(config.tokenizer)
    tokenizer, optimizer = run.prepare(network, optimizer_for(network, config.optim, network.inside))
    adversary = Adversary(config.critic, run) if config.critic else None
    players = [tokenizer, adversary.critic] if adversary else [tokenizer]
    average, codebook = run.ema(tokenizer, config.average), run.hold(CodebookUse(network.vocab))
    choices = Choices(network.quantize, config.run.micro_batches)
    errors.to(run.device)
    run.resume()
    for batch in run.batches(source, config.data.batch, config.lr.steps, config.data.workers):  # (b, 3, h, w)
        anneal(network.quantize, run.step, config)
        with run.accumulate(*players):
            out, rate = tokenizer(batch), cosine(run.step, config.lr)
            loss, terms = errors(out, batch)
            loss = loss + out.quantizer_loss
            if adversary:
                loss = loss + adversary.penalty(out.images, loss, network.last_layer)
            stepped = run.update(loss, optimizer, lr=rate, clip=config.optim.clip)
            if adversary:
                adversary.learn(batch, out.images, rate)
            choices.see(out.vectors, out.ids)
            if stepped:  # the step is whole; vectors of a skipped one may be no numbers
                codebook.add(choices.ids)
                run.note(choices.learn(restart=run.step < config.settles_at))
            run.note({f"loss/{name}": term for name, term in terms.items()})
            run.note({f"quantizer/{name}": term for name, term in out.terms.items()})
        if run.every(config.codebook_steps):
            run.log(codebook.take())
        if run.every(config.eval_steps):
            run.log(measure(average.model, kept))
            run.show("reconstructions", reconstructions(average.model, kept))
        if run.every(config.save_steps):
            run.save()
    if run.main:
        average.model.save_pretrained(config.run.folder / "model")
    run.finish()


def anneal(quantizer: Quantizer, step: int, config: TrainConfig) -> None:
    """Give Gumbel-softmax the temperature and the KL weight of this step, where the config has schedules."""
    if config.tau:
        quantizer.tau = ramped(step, config.tau)
    if config.kl:
        quantizer.kl = ramped(step, config.kl)


def images(config: TrainConfig) -> tuple[EmojiImages | Shuffled, dict[str, Sequence[Tensor]]]:
    """The training order, and held-out images by the name they are reported under.

    Raises:
        ValueError: if folder or file cannot be read, or has no picture beside those held out.
    """
    data, size = config.data, config.tokenizer.size
    if data.idx is not None:
        pictures = IdxImages(data.idx, size)
    elif data.folder is not None:
        pictures = PictureFolder(data.folder, size, fit="crop").scan(data.workers, data.keep)
    else:
        if size != SIZE:
            raise ValueError(
                f"tokenizer.size is {size}, the embedded emoji have {SIZE} pixels: set it to {SIZE}, or name "
                "data.folder"
            )
        return EmojiImages(config.run.seed), held_out("validation")
    if not 0 < data.held_out < len(pictures):
        raise ValueError(
            f"data.held_out is {data.held_out} of the {len(pictures)} pictures under "
            f"{data.folder or data.idx}: leave at least one for evaluation and one for training"
        )
    order = np.random.default_rng(0).permutation(len(pictures)).tolist()
    kept, shown = order[: data.held_out], order[data.held_out :]
    return Shuffled(Subset(pictures, shown), config.run.seed), {"images": Subset(pictures, kept)}


if __name__ == "__main__":
    launch(train, TrainConfig)
