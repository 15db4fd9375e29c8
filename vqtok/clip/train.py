"""Trains a Clip on pairs of pictures and captions.

    accelerate launch -m vqtok.clip.train --config recipes/clip/emoji64.yaml

Letters: b pairs of this process, n of all processes, t tokens of a caption.
"""

from dataclasses import dataclass

import torch
from torch import Tensor, nn

from vqtok.clip.loss import contrastive_loss, gathered
from vqtok.clip.model import Clip, ClipConfig
from vqtok.clip.pairs import Pairs, Samples, held_out
from vqtok.clip.retrieval import recalls
from vqtok.clip.towers import Towers, TowersConfig
from vqtok.data.captions import Reading, open_captions
from vqtok.text import TextTokenizer, load_text_tokenizer
from vqtok.training.config import launch
from vqtok.training.optim import OptimConfig, optimizer_for
from vqtok.training.run import Run, RunConfig
from vqtok.training.schedule import LRConfig, cosine


@dataclass(frozen=True, kw_only=True)
class CaptionsConfig:
    """What a Clip learns from.

    Args:
        pairs: Pictures with captions: folder:PATH, tar:GLOB, hub:NAME:SPLIT or emoji:train:COUNT.
        validation: Pairs it is measured with, likewise.
        text: Folder or hub id of the text tokenizer.
        held_out: Pairs taken of `validation`, with captions that all differ.
        batch: Pairs a step, over all processes; every caption is told from all others of the batch.
        crop: Smallest share of a picture's side that is shown in training; 1 shows all always.
        workers: Processes that read ahead.
    """

    pairs: str
    validation: str
    text: str
    held_out: int = 256
    batch: int = 128
    crop: float = 0.85
    workers: int = 0

    def __post_init__(self) -> None:
        if self.batch < 2:
            raise ValueError(f"data.batch {self.batch} has nothing to tell a caption from: give at least 2")


@dataclass(frozen=True, kw_only=True)
class TrainConfig:
    """A Clip's training.

    Args:
        run: Folder, seed, precision.
        data: Pairs.
        towers: What is trained.
        optim: Weight decay, betas, clipping.
        lr: Learning rate by the step; its `steps` are the length of the run.
        average: Decay of the moving average of the weights, which is what is evaluated and saved.
        eval_steps: Steps between two evaluations.
        save_steps: Steps between two checkpoints.
    """

    run: RunConfig
    data: CaptionsConfig
    towers: TowersConfig
    optim: OptimConfig
    lr: LRConfig
    average: float = 0.998
    eval_steps: int = 250
    save_steps: int = 250

    def __post_init__(self) -> None:
        if self.run.micro_batches > 1:
            raise ValueError(
                f"run.micro_batches {self.run.micro_batches} would leave captions fewer others to be told "
                "from: set it to 1, and data.batch to what fits"
            )


def train(config: TrainConfig) -> None:
    """Train both towers; `config.run.folder` receives checkpoints, metrics and `model/`."""
    run = Run(config.run)
    tokenizer = load_text_tokenizer(config.data.text)
    reading = Reading(size=config.towers.size)
    sources = [open_captions(name, reading) for name in (config.data.pairs, config.data.validation)]
    learn(run, config, tokenizer, *sources)


def learn(run: Run, config: TrainConfig, tokenizer: TextTokenizer, pairs: Pairs, unseen: Pairs) -> None:
    """The loop.

    Args:
        run: Of this training.
        config: Its settings.
        tokenizer: Of captions.
        pairs: What is learned.
        unseen: What it is measured with.
    """
    samples = Samples(pairs, tokenizer, config.towers, config.data.crop, config.run.seed)
    kept = held_out(unseen, config.data.held_out, tokenizer, config.towers)
    towers = Towers(config.towers, tokenizer.vocab)
    if run.accelerator.num_processes > 1 and run.device.type == "cuda":
        towers = nn.SyncBatchNorm.convert_sync_batchnorm(towers)  # or each process would norm by its own part
    towers, optimizer = run.prepare(towers.train(), optimizer_for(towers, config.optim))
    average = run.ema(towers, config.average)
    run.resume()
    for images, ids, captions, cut in run.batches(
        samples, config.data.batch, config.lr.steps, config.data.workers
    ):
        with run.accumulate(towers):
            seen, read, scale = towers(images, ids)  # (b, d), (b, d), ()
            loss = contrastive_loss(gathered(seen), gathered(read), scale, gathered(captions))
            run.update(loss, optimizer, lr=cosine(run.step, config.lr), clip=config.optim.clip)
            run.unwrap(towers).limit_scale()
            run.note({"scale": scale, "captions/cut": cut.mean()})
        if run.every(config.eval_steps):
            run.log(retrieval(bundle(average.model, tokenizer), *kept))
        if run.every(config.save_steps):
            run.save()
    if run.main:
        bundle(average.model, tokenizer).save_pretrained(config.run.folder / "model")
    run.finish()


def retrieval(model: Clip, images: Tensor, captions: list[str]) -> dict[str, float]:
    """Recalls of images (n, 3, h, w) and their captions, beside blind guesses."""
    found = recalls(model.similarity(images, captions))
    return {f"recall/{name}": share for name, share in found.items()}


def bundle(towers: Towers, tokenizer: TextTokenizer) -> Clip:
    """Towers and text tokenizer as one Clip in evaluation mode, sharing their weights."""
    with torch.device("meta"):
        model = Clip(ClipConfig(text=tokenizer.config, towers=towers.config))
    model.towers, model.text = towers, tokenizer
    return model.eval()


if __name__ == "__main__":
    launch(train, TrainConfig)
