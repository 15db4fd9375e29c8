"""Trains a transformer on visual sentences, and bundles it with its tokenizer.

    accelerate launch -m lvm.train --config recipes/lvm/emoji64.yaml

Letters: b contexts, t tokens, n tokens that count, v vocabulary.
"""

from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path

import torch.nn.functional as F
from torch import Tensor, nn

from lvm.data import SentencesConfig, contexts, sources
from lvm.embeddings import plain, share_looks
from lvm.layout import LayoutConfig, MarkedConfig
from lvm.model import LVM, LVMConfig, seed_embeddings, usable
from lvm.sentences import Sample
from lvm.shots import answer_sheet, validation_losses
from lvm.task_losses import TaskLosses
from vqtok.gpt.config import GPTConfig
from vqtok.gpt.model import GPT
from vqtok.tokenizers import load_tokenizer
from vqtok.tokenizers.tokenizer import VQTokenizer
from vqtok.training.config import launch
from vqtok.training.optim import OptimConfig, optimizer_for
from vqtok.training.run import Run, RunConfig
from vqtok.training.schedule import LRConfig, cosine


@dataclass(frozen=True, kw_only=True)
class TrainConfig:
    """An LVM's training.

    Args:
        run: Folder, seed, precision.
        data: Sentences.
        gpt: Shape of the transformer; a context has as many tokens as its length.
        optim: Weight decay, betas, clipping.
        lr: Learning rate by the step; its `steps` are the length of the run.
        layout: What stands around images; ids of tasks are added by name where some shall be told.
        looks: Whether, in training, embedding and head are partly a map of what their codes look like.
        balance: Whether each task's loss is divided by its running mean, so that all tasks pull alike.
        average: Decay of the moving average of the weights, which is what is evaluated and saved.
        eval_steps: Steps between two evaluations.
        save_steps: Steps between two checkpoints.
    """

    run: RunConfig
    data: SentencesConfig
    gpt: GPTConfig
    optim: OptimConfig
    lr: LRConfig
    layout: LayoutConfig = MarkedConfig()
    looks: bool = False
    balance: bool = False
    average: float = 0.998
    eval_steps: int = 500
    save_steps: int = 250

    def __post_init__(self) -> None:
        if self.data.tokenizer is None:
            raise ValueError("data.tokenizer is missing: name the tokenizer that made the shards")
        if self.data.untold < 1 and not isinstance(self.layout, MarkedConfig):
            raise ValueError(
                f"data.untold {self.data.untold} tells tasks, for which a {self.layout.kind} layout has no "
                "ids: set data.untold to 1, or layout.kind to marked"
            )


def train(config: TrainConfig) -> None:
    """Train a transformer; `config.run.folder` receives checkpoints, pictures, metrics and `model/`."""
    run = Run(config.run)
    tokenizer = usable(load_tokenizer(config.data.tokenizer), config.data.tokenizer)
    tasks, kept = sources(config.data, tokenizer)
    marks = replace(config.layout, tasks=tuple(tasks)) if config.data.untold < 1 else config.layout
    # Refuses a wrong vocabulary before all is trained.
    bundle = LVMConfig(tokenizer=tokenizer.config, gpt=config.gpt, layout=marks)
    layout = bundle.layout.build(tokenizer.vocab, tokenizer.tokens)
    if config.gpt.period and config.gpt.period % layout.stride:
        raise ValueError(
            f"gpt.period {config.gpt.period} is no multiple of the {layout.stride} ids of an image: its "
            "embedding would tell wrong places, set it to twice as many"
        )
    source = contexts(config.data, tasks, layout, config.gpt.length, config.run.seed)
    told = config.data.untold == 0  # always: then the id for a task that is not told is untrained
    gpt = GPT(config.gpt)
    seed_embeddings(gpt, tokenizer, config.run.seed)
    if config.looks:
        share_looks(gpt, tokenizer)
    gpt, optimizer = run.prepare(gpt, optimizer_for(gpt, config.optim, inside=gpt.blocks))
    average = run.ema(gpt, config.average)
    means = run.hold(TaskLosses(source.names))
    run.resume()
    for sample in run.batches(source, config.data.batch, config.lr.steps, config.data.workers):
        with run.accumulate(gpt):
            nats, weights, which = losses(gpt, sample)  # (n,) each
            means.count(nats, which, run.step)
            factors = means.factors(which) if config.balance else 1.0
            total = weights.sum()
            loss, rate = (nats * weights * factors).sum() / total, cosine(run.step, config.lr)
            if run.update(loss, optimizer, lr=rate, weight=total, clip=config.optim.clip):
                means.settle(partial(run.accelerator.reduce, reduction="sum"))
        if run.every(config.run.log_steps):
            run.log(means.facts())
        if run.every(config.eval_steps):
            trained = plain(average.model)
            run.log(validation_losses(trained, layout, kept, told))
            run.show("answers", answer_sheet(trained, tokenizer, layout, kept, told))
        if run.every(config.save_steps):
            run.save()
    if run.main:
        bundle = replace(bundle, trained=tuple(source.names))
        save(plain(average.model), tokenizer, bundle, config.run.folder / "model")
    run.finish()


def losses(gpt: nn.Module, sample: Sample) -> tuple[Tensor, Tensor, Tensor]:
    """Nats, weights and tasks (n,) of the tokens of contexts (b, t) that count."""
    where, documents = counted(sample)
    logits = gpt(sample.seen[:, :-1], where=where, documents=documents)
    nats = F.cross_entropy(logits, sample.ids[:, 1:][where], reduction="none")
    return nats, sample.weights[:, 1:][where], sample.tasks[:, 1:][where]


def counted(sample: Sample) -> tuple[Tensor, Tensor | None]:
    """Which scores (b, t - 1) of contexts count, and the number of the sentence of each, if it matters."""
    where = sample.weights[:, 1:] > 0
    # Padding comes after all else, so that one sentence a context needs no mask.
    packed = bool((where & (sample.sentences[:, 1:] > 0)).any())
    return where, sample.sentences[:, :-1] if packed else None


def save(gpt: GPT, tokenizer: VQTokenizer, bundle: LVMConfig, folder: Path) -> None:
    """Write transformer and tokenizer as one LVM."""
    model = LVM(bundle)
    model.gpt.load_state_dict(gpt.state_dict())
    model.tokenizer.load_state_dict(tokenizer.state_dict())
    model.save_pretrained(folder)


if __name__ == "__main__":
    launch(train, TrainConfig)
