"""Trains a transformer on the ids of pictures, and bundles it with its tokenizer.

    accelerate launch -m imagegpt.train --config recipes/imagegpt/emoji32.yaml

Letters: b pictures, t tokens of a picture, h w pixels.
"""

from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn

from imagegpt.evaluate import drawings, held_out_losses
from imagegpt.layout import Layout
from imagegpt.model import ImageGPT, ImageGPTConfig
from imagegpt.network import Network, ObjectiveConfig, classifier_for, hide, losses
from imagegpt.rows import Order, Rows, classes_of, open_shards
from vqtok.gpt.config import GPTConfig
from vqtok.gpt.model import GPT
from vqtok.gpt.prefix import ClassesConfig
from vqtok.tokenizers import load_tokenizer
from vqtok.tokenizers.interface import ImageTokenizer
from vqtok.training.config import launch
from vqtok.training.optim import OptimConfig, optimizer_for
from vqtok.training.run import Run, RunConfig
from vqtok.training.schedule import LRConfig, cosine


@dataclass(frozen=True, kw_only=True)
class PicturesConfig:
    """What a model learns from.

    Args:
        shards: Folder that `vqtok encode` filled.
        tokenizer: Folder, file or hub id of the tokenizer that made them.
        validation: Shards of held-out pictures; None keeps some of `shards`.
        held_out: Pictures kept for validation, or taken of `validation`.
        batch: Pictures a step, over all processes.
        mirror: Show half of the pictures mirrored; only ids of pixels can be.
        workers: Processes that read ahead.
    """

    shards: Path
    tokenizer: str
    validation: Path | None = None
    held_out: int = 256
    batch: int = 16
    mirror: bool = False
    workers: int = 0


@dataclass(frozen=True, kw_only=True)
class LoopConfig:
    """What the loop asks for, wherever a model begins.

    Args:
        run: Folder, seed, precision.
        data: Pictures.
        optim: Weight decay, betas, clipping.
        lr: Learning rate by the step; its `steps` are the length of the run.
        objective: What is learned.
        average: Decay of the moving average of the weights, which is what is evaluated and saved.
        eval_steps: Steps between two evaluations.
        save_steps: Steps between two checkpoints.
    """

    run: RunConfig
    data: PicturesConfig
    optim: OptimConfig
    lr: LRConfig
    objective: ObjectiveConfig = field(default_factory=ObjectiveConfig)
    average: float = 0.999
    eval_steps: int = 500
    save_steps: int = 250


@dataclass(frozen=True, kw_only=True)
class TrainConfig(LoopConfig):
    """The training of a new ImageGPT.

    Args:
        gpt: Shape of the transformer; its mask decides whether the next token is learned or hidden ones.
    """

    gpt: GPTConfig


def train(config: TrainConfig) -> None:
    """Train a transformer; `config.run.folder` receives checkpoints, pictures, metrics and `model/`.

    Raises:
        ValueError: if shards, tokenizer and transformer do not belong together.
    """
    run = Run(config.run)
    tokenizer = load_tokenizer(config.data.tokenizer)
    Layout.of(tokenizer).check(config.gpt)
    learn(run, config, GPT(config.gpt), tokenizer)


def learn(
    run: Run,
    config: LoopConfig,
    gpt: GPT,
    tokenizer: ImageTokenizer,
    classifier: nn.Linear | None = None,
    names: tuple[str, ...] = (),
) -> None:
    """The loop: a transformer learns the ids of pictures and, if the objective asks for it, their classes.

    Args:
        run: Of this training.
        config: Its settings.
        gpt: What is trained.
        tokenizer: Its tokenizer.
        classifier: Goes on from there; None starts one if it is needed.
        names: Of the classes that transformer or classifier know already; those of the shards if none.
    """
    shards = open_shards(config.data.shards, tokenizer, config.data.tokenizer, Layout.of(tokenizer))
    network, names = equipped(config.objective, gpt, classifier, names or classes_of(shards))
    settings(network, tokenizer, names)  # refuses what does not fit before all is trained
    source, kept = pictures(config, tokenizer, Rows(shards, names))
    causal, weights = gpt.config.causal, config.objective.weights
    network, optimizer = run.prepare(network, optimizer_for(network, config.optim, inside=gpt.blocks))
    average = run.ema(network, config.average)
    run.resume()
    for ids, labels in run.batches(source, config.data.batch, config.lr.steps, config.data.workers):  # (b, t)
        with run.accumulate(network):
            hidden = None if causal else hide(ids, config.objective.hidden)
            scores, named = network(ids, labels, hidden)
            terms = losses(scores, ids, hidden, named, labels)
            loss = sum(weights[name] * term for name, term in terms.items())
            run.update(loss, optimizer, lr=cosine(run.step, config.lr), clip=config.optim.clip)
            run.note({f"loss/{name}": term for name, term in terms.items()})
        if run.every(config.eval_steps):
            run.log(held_out_losses(average.model, *kept, config.objective.hidden))
            run.show("pictures", drawings(bundle(average.model, tokenizer, names), kept[0], config.run.seed))
        if run.every(config.save_steps):
            run.save()
    if run.main:
        bundle(average.model, tokenizer, names).save_pretrained(config.run.folder / "model")
    run.finish()


def equipped(
    objective: ObjectiveConfig, gpt: GPT, classifier: nn.Linear | None, names: tuple[str, ...]
) -> tuple[Network, tuple[str, ...]]:
    """What is trained: the transformer with a classifier if the objective asks for one; and names it needs.

    Raises:
        ValueError: if the transformer begins with the class that it shall name.
    """
    conditional, wanted = isinstance(gpt.config.prefix, ClassesConfig), objective.classes > 0
    if wanted and conditional:
        raise ValueError("a model that begins with the class need not name it: set objective.classes to 0")
    if wanted and classifier is None:
        classifier = classifier_for(gpt.config, len(names))
    network = Network(gpt, classifier if wanted else None).train()
    return network, names if wanted or conditional else ()


def pictures(
    config: LoopConfig, tokenizer: ImageTokenizer, rows: Rows
) -> tuple[Order, tuple[Tensor, Tensor]]:
    """The training order, and held-out pictures: ids (n, t) and classes (n,).

    Raises:
        ValueError: if nothing is left for training or validation, or pictures cannot be mirrored.
    """
    data, layout = config.data, Layout.of(tokenizer)
    if data.mirror and tokenizer.factor != 1:
        raise ValueError("data.mirror turns ids of pixels, and these are codes: encode mirrored pictures too")
    if data.validation is None:
        if not 0 < data.held_out < len(rows):
            raise ValueError(
                f"data.held_out is {data.held_out} of {len(rows)} pictures: leave at least one for "
                "validation and one for training"
            )
        order = np.random.default_rng(0).permutation(len(rows)).tolist()
        shown, kept = order[data.held_out :], rows.part(order[: data.held_out])
    else:
        unseen = Rows(open_shards(data.validation, tokenizer, data.tokenizer, layout), rows.names)
        shown, kept = range(len(rows)), unseen.evenly(data.held_out)
    return Order(rows, shown, config.run.seed, layout if data.mirror else None), kept


def settings(network: Network, tokenizer: ImageTokenizer, names: tuple[str, ...]) -> ImageGPTConfig:
    """The configuration of what `bundle` makes."""
    return ImageGPTConfig(
        tokenizer=tokenizer.config,
        gpt=network.gpt.config,
        classes=names,
        classifier=network.classifier is not None,
    )


def bundle(network: Network, tokenizer: ImageTokenizer, names: tuple[str, ...]) -> ImageGPT:
    """Transformer, classifier and tokenizer as one ImageGPT in evaluation mode, sharing their weights."""
    with torch.device("meta"):
        model = ImageGPT(settings(network, tokenizer, names))
    model.gpt, model.classifier = network.gpt, network.classifier
    model.tokenizer = tokenizer.to(model.device)
    return model.eval()


if __name__ == "__main__":
    launch(train, TrainConfig)
