"""Trains a transformer on visual sentences, and bundles it with its tokenizer.

    accelerate launch -m lvm.train --config recipes/lvm/emoji64.yaml

Letters: b sentences, t tokens, k pairs.
"""

import math
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import Subset

from lvm.layout import Layout
from lvm.model import LVM, LVMConfig, seed_embeddings
from lvm.shots import answer_sheet, validation_losses
from lvm.tasks import TASKS
from vqtok.data.shards import Shards
from vqtok.gpt.config import GPTConfig
from vqtok.gpt.loss import next_token_loss
from vqtok.gpt.model import GPT
from vqtok.tokenizers import load_tokenizer
from vqtok.tokenizers.fingerprint import fingerprint
from vqtok.tokenizers.tokenizer import VQTokenizer
from vqtok.training.config import launch
from vqtok.training.optim import OptimConfig, optimizer_for
from vqtok.training.run import Run, RunConfig
from vqtok.training.schedule import LRConfig, cosine

Rows = Shards | Subset  # of (2 tokens,) int64, one pair each


@dataclass(frozen=True, kw_only=True)
class SentencesConfig:
    """What sentences are made of.

    Args:
        shards: Folder that `vqtok encode` filled.
        tokenizer: Folder or hub id of the tokenizer that made them.
        validation: Shards of held-out pictures; None keeps `held_out` pairs of every task of `shards`, of
            pictures that no other pair shows.
        held_out: Pairs of every task kept for validation where there is no folder of them.
        pairs: Pairs in a sentence.
        batch: Sentences a step, over all processes.
        query_weight: What tokens of queries count in the loss, where tokens of answers count 1. An
            unconditional picture is far harder to predict than an answer, and crowds it out of a small model.
        spoil: Largest share of an answer's tokens that are replaced by others of the sentence in what the
            model sees, not in what it shall predict: its own answers will have errors too, and a model that
            has met none goes astray after the first.
        workers: Processes that read ahead.
    """

    shards: Path
    tokenizer: str
    validation: Path | None = None
    held_out: int = 100
    pairs: int = 4
    batch: int = 16
    query_weight: float = 1.0
    spoil: float = 0.0
    workers: int = 0

    def __post_init__(self) -> None:
        if not 0 <= self.spoil <= 1:
            raise ValueError(f"spoil {self.spoil} is a largest share of tokens: give 0 to 1, 0.3 is moderate")


@dataclass(frozen=True, kw_only=True)
class TrainConfig:
    """An LVM's training.

    Args:
        run: Folder, seed, precision.
        data: Sentences.
        gpt: Shape of the transformer.
        optim: Weight decay, betas, clipping.
        lr: Learning rate by the step; its `steps` are the length of the run.
        average: Decay of the moving average of the weights, which is what is evaluated and saved.
        eval_steps: Steps between two evaluations.
        save_steps: Steps between two checkpoints.
    """

    run: RunConfig
    data: SentencesConfig
    gpt: GPTConfig
    optim: OptimConfig
    lr: LRConfig
    average: float = 0.998
    eval_steps: int = 500
    save_steps: int = 250


class Sentences:
    """Endless training order of visual sentences, each of one task, a pure function of (seed, index).

    A sample is ids (t,) of BOS, k pairs and EOS, and ids (t,) as the model sees them, with errors in answers:
    a share of their tokens between 0 and `spoil`, drawn anew for each sentence, is replaced by tokens from
    anywhere in it. That is scheduled sampling (Bengio et al. 2015) that need not ask the model.
    """

    def __init__(
        self, shards: dict[str, Rows], layout: Layout, pairs: int, seed: int, spoil: float = 0.0
    ) -> None:
        weights = {task.name: task.weight for task in TASKS}
        self.shards, self.layout, self.pairs, self.seed = list(shards.values()), layout, pairs, seed
        self.spoil = spoil
        self.shares = np.array([weights.get(name, 1.0) for name in shards])
        self.shares /= self.shares.sum()
        for name, rows in shards.items():
            if len(rows) < pairs:
                raise ValueError(
                    f"task {name!r} has {len(rows)} pairs to train on, a sentence needs {pairs}: encode more"
                )

    def __getitem__(self, index: int) -> tuple[Tensor, Tensor]:
        """(t,) int64 as it is, and (t,) int64 as the model sees it."""
        rng = np.random.default_rng((self.seed, index))
        rows = self.shards[rng.choice(len(self.shards), p=self.shares)]
        chosen = torch.stack([rows[int(row)] for row in rng.choice(len(rows), self.pairs, replace=False)])
        images = chosen.view(-1, self.layout.tokens)
        return self.layout.sentence(images), self.layout.sentence(self._spoiled(images, rng))

    def _spoiled(self, images: Tensor, rng: np.random.Generator) -> Tensor:
        """Images (2 k, tokens) with errors in every second one, the answers."""
        wrong = torch.from_numpy(rng.random(images.shape) < rng.uniform(0, self.spoil))
        wrong[::2] = False
        others = images.flatten()[torch.from_numpy(rng.integers(images.numel(), size=images.shape))]
        return torch.where(wrong, others, images)


def train(config: TrainConfig) -> None:
    """Train a transformer; `config.run.folder` receives checkpoints, pictures, metrics and `model/`."""
    run = Run(config.run)
    tokenizer = load_tokenizer(config.data.tokenizer)
    layout = Layout(tokenizer.vocab, tokenizer.tokens)
    LVMConfig(tokenizer=tokenizer.config, gpt=config.gpt)  # refuses a wrong vocabulary before all is trained
    shards, kept = sources(config.data, tokenizer)
    gpt = GPT(config.gpt)
    seed_embeddings(gpt, tokenizer, config.run.seed)
    gpt, optimizer = run.prepare(gpt, optimizer_for(gpt, config.optim, inside=gpt.blocks))
    average = run.ema(gpt, config.average)
    source = Sentences(shards, layout, config.data.pairs, config.run.seed, config.data.spoil)
    weights = layout.weights(2 * config.data.pairs, config.data.query_weight).to(run.device)  # (t - 1,)
    counted = weights > 0
    run.resume()
    for ids, seen in run.batches(source, config.data.batch, config.lr.steps, config.data.workers):  # (b, t)
        with run.accumulate(gpt):
            where = counted.expand(len(ids), -1)
            logits = gpt(seen[:, :-1], where=where)  # (b counted, v)
            loss = next_token_loss(logits, ids[:, 1:][where], weights.expand(len(ids), -1)[where])
            run.update(loss, optimizer, lr=cosine(run.step, config.lr), clip=config.optim.clip)
        if run.every(config.eval_steps):
            run.log(validation_losses(average.model, layout, kept))
            run.show("answers", answer_sheet(average.model, tokenizer, layout, kept))
        if run.every(config.save_steps):
            run.save()
    if run.main:
        save(average.model, tokenizer, config.run.folder / "model")
    run.finish()


def sources(config: SentencesConfig, tokenizer: VQTokenizer) -> tuple[dict[str, Rows], dict[str, Tensor]]:
    """Training pairs by task, and validation sentences by task: ids (b, 2 pairs, tokens).

    Raises:
        ValueError: if shards were made by another tokenizer, or nothing is left for validation.
    """
    mark = fingerprint(tokenizer)
    by_task = _by_task(config.shards, config.tokenizer, mark)
    if config.validation is None:
        train, kept = {}, {}
        for name, rows in by_task.items():
            shown, unseen = _apart(rows, config.held_out)
            train[name], kept[name] = Subset(rows, shown), Subset(rows, unseen)
    else:
        train, kept = by_task, _by_task(config.validation, config.tokenizer, mark)
        kept = {name: Subset(rows, range(min(config.held_out, len(rows)))) for name, rows in kept.items()}
    shape = (-1, 2 * config.pairs, tokenizer.tokens)
    whole = {name: len(rows) // config.pairs * config.pairs for name, rows in kept.items()}
    if not any(whole.values()):
        raise ValueError(
            f"{config.held_out} held-out pairs a task make no sentence of {config.pairs}: raise "
            "data.held_out, or encode more validation pairs"
        )
    held_out = {name: torch.stack([rows[i] for i in range(whole[name])]).view(shape)
                for name, rows in kept.items() if whole[name]}
    return train, {name: _at_every_place(sentences, config.pairs) for name, sentences in held_out.items()}


def _apart(rows: Shards, held_out: int) -> tuple[list[int], list[int]]:
    """Rows to train on, and at most `held_out` of those that show the last pictures of the folder.

    Row k of a folder's pairs shows picture k modulo their number; drawn scenes come once each.
    """
    pictures = min(rows.facts[0].get("pictures") or len(rows), len(rows))
    first = pictures - math.ceil(held_out * pictures / len(rows))
    shown = [row for row in range(len(rows)) if row % pictures < first]
    return shown, [row for row in range(len(rows)) if row % pictures >= first][:held_out]


def _at_every_place(sentences: Tensor, pairs: int) -> Tensor:
    """Each sentence (b, 2 pairs, tokens) in all rotations of its pairs, (b pairs, 2 pairs, tokens).

    Then the answers after one shot are those after none, in other places: shot counts differ by nothing else.
    """
    return torch.cat([sentences.roll(2 * place, dims=1) for place in range(pairs)])


def _by_task(folder: Path, tokenizer: str, mark: str) -> dict[str, Shards]:
    """Shards by task, all made by the tokenizer of that mark."""
    shards = Shards(folder)
    if shards.tokenizer != mark:
        raise ValueError(
            f"{folder} was encoded by tokenizer {str(shards.tokenizer)[:12]}, {tokenizer} is {mark[:12]}: "
            "encode again with this one, or name that one"
        )
    return shards.by("task")


def save(gpt: GPT, tokenizer: VQTokenizer, folder: Path) -> None:
    """Write transformer and tokenizer as one LVM."""
    model = LVM(LVMConfig(tokenizer=tokenizer.config, gpt=gpt.config))
    model.gpt.load_state_dict(gpt.state_dict())
    model.tokenizer.load_state_dict(tokenizer.state_dict())
    model.save_pretrained(folder)


if __name__ == "__main__":
    launch(train, TrainConfig)
