"""Trains a transformer on the ids of pictures, and bundles it with its tokenizer.

    accelerate launch -m imagegpt.train --config recipes/imagegpt/emoji32.yaml

Letters: b pictures, t tokens of a picture, h w pixels.
"""

from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from imagegpt.evaluate import drawings, held_out_losses
from imagegpt.layout import Layout
from imagegpt.model import ImageGPT, ImageGPTConfig
from imagegpt.network import Network, ObjectiveConfig, classifier_for, hide, losses, start_evenly
from imagegpt.rows import Order, Rows, classes_of, open_shards
from vqtok.data.shards import Shards
from vqtok.gpt.config import GPTConfig
from vqtok.gpt.model import GPT
from vqtok.gpt.prefix import ClassesConfig
from vqtok.tokenizers import load_tokenizer
from vqtok.tokenizers.fingerprint import fingerprint
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
class TrainConfig:
    """The training of an ImageGPT.

    Args:
        run: Folder, seed, precision.
        data: Pictures.
        optim: Weight decay, betas, clipping.
        lr: Learning rate by the step; its `steps` are the length of the run.
        gpt: Shape of the transformer; its mask decides whether the next token is learned or hidden ones.
        start: Folder or hub id of an ImageGPT to go on from, for fine-tuning; its `gpt` is taken.
        objective: What is learned.
        average: Decay of the moving average of the weights, which is what is evaluated and saved.
        eval_steps: Steps between two evaluations.
        save_steps: Steps between two checkpoints.
    """

    run: RunConfig
    data: PicturesConfig
    optim: OptimConfig
    lr: LRConfig
    gpt: GPTConfig | None = None
    start: str | None = None
    objective: ObjectiveConfig = field(default_factory=ObjectiveConfig)
    average: float = 0.999
    eval_steps: int = 500
    save_steps: int = 250

    def __post_init__(self) -> None:
        if (self.gpt is None) == (self.start is None):
            raise ValueError("give gpt, the shape of a new model, or start, a model to go on from; not both")


def train(config: TrainConfig) -> None:
    """Train a transformer; `config.run.folder` receives checkpoints, pictures, metrics and `model/`.

    Raises:
        ValueError: if shards, tokenizer and transformer do not belong together.
    """
    run = Run(config.run)
    tokenizer = load_tokenizer(config.data.tokenizer)
    shards = open_shards(config.data.shards, tokenizer, config.data.tokenizer, Layout.of(tokenizer))
    network, names = begin(config, tokenizer, shards)
    source, kept = pictures(config, tokenizer, Rows(shards, names))
    causal, weights = network.gpt.config.causal, config.objective.weights
    network, optimizer = run.prepare(network, optimizer_for(network, config.optim, inside=network.gpt.blocks))
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


def begin(
    config: TrainConfig, tokenizer: ImageTokenizer, shards: Shards
) -> tuple[Network, tuple[str, ...]]:
    """What is trained, new or gone on from, and the names of the classes it knows.

    Raises:
        ValueError: if the transformer does not fit the tokenizer or the classes of the shards.
    """
    wanted = config.objective.classes > 0
    if config.start is None:
        Layout.of(tokenizer).check(config.gpt)
        gpt, classifier, names = GPT(config.gpt), None, ()
        start_evenly(gpt)
    else:
        model = ImageGPT.from_pretrained(config.start)
        if fingerprint(model.tokenizer) != fingerprint(tokenizer):
            told = f"{config.start} has another tokenizer than {config.data.tokenizer}"
            raise ValueError(f"{told}: name its own, which {config.start} holds")
        gpt, classifier, names = model.gpt, model.classifier, model.config.classes
    conditional = isinstance(gpt.config.prefix, ClassesConfig)
    if wanted and conditional:
        raise ValueError("a model that begins with the class need not name it: set objective.classes to 0")
    if wanted or conditional:
        names = names or classes_of(shards)
    if wanted and classifier is None:
        classifier = classifier_for(gpt.config, len(names))
    network = Network(gpt, classifier if wanted else None).train()
    settings(network, tokenizer, names)  # refuses what does not fit before all is trained
    return network, names


def pictures(
    config: TrainConfig, tokenizer: ImageTokenizer, rows: Rows
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
