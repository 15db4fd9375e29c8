"""Sentences that a transformer is trained and measured on: pairs of one task, out of token shards.

Letters: b sentences, t tokens, k pairs, n rows.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from lvm.layout import Layout
from lvm.tasks import TASKS
from vqtok.data.shards import Shards
from vqtok.tokenizers.fingerprint import fingerprint
from vqtok.tokenizers.tokenizer import VQTokenizer


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
        if self.pairs < 1:
            raise ValueError(f"pairs {self.pairs} make no sentence: give at least 1, 4 is usual")
        if self.query_weight < 0:
            raise ValueError(f"query_weight {self.query_weight} is below 0: 0 leaves queries out of the loss")
        if not 0 <= self.spoil <= 1:
            raise ValueError(f"spoil {self.spoil} is a largest share of tokens: give 0 to 1, 0.3 is moderate")


@dataclass(frozen=True)
class TaskPairs:
    """Pairs of one task, (2 tokens,) int64 each.

    Args:
        rows: Of all the task's shards.
        which: (n,) the rows that are meant.
        pictures: (n,) the picture that each of these shows.
    """

    rows: Sequence[Tensor]
    which: np.ndarray
    pictures: np.ndarray

    @classmethod
    def every(cls, rows: Sequence[Tensor], pictures: int | None = None) -> "TaskPairs":
        """All rows; row k shows picture k modulo `pictures`, or one of its own."""
        which = np.arange(len(rows))
        return cls(rows, which, which % pictures if pictures else which)

    def __len__(self) -> int:
        return len(self.which)

    def __getitem__(self, index: int) -> Tensor:
        return self.rows[int(self.which[index])]

    def where(self, chosen: np.ndarray) -> "TaskPairs":
        """Those for which (n,) bool `chosen` is true."""
        return TaskPairs(self.rows, self.which[chosen], self.pictures[chosen])

    def check(self, task: str, least: int, use: str) -> None:
        """Raises ValueError unless they show at least so many pictures."""
        shown = len(np.unique(self.pictures))
        if shown < least:
            raise ValueError(
                f"task {task!r} has {len(self)} pairs of {shown} pictures to {use}, a sentence needs {least} "
                "of each: encode more"
            )


def pairs_of(shards: Shards) -> TaskPairs:
    """All pairs of one task's shards.

    Raises:
        ValueError: if a shard is missing between others.
    """
    done = 0
    for facts, folder in zip(shards.facts, shards.folders, strict=True):
        if facts.get("first", done) != done:
            raise ValueError(
                f"pairs {done} to {facts['first'] - 1} are missing before {folder}: give the command that "
                "encoded them again, it makes what is not there"
            )
        done += facts.get("pairs", 0)
    return TaskPairs.every(shards, shards.facts[0].get("pictures"))


class Sentences:
    """Endless training order of visual sentences, each of one task, a pure function of (seed, index).

    No sentence shows a picture twice: its last answer must not stand among its examples. A sample is ids (t,)
    of BOS, k pairs and EOS, and ids (t,) as the model sees them, with errors in answers: a share of their
    tokens between 0 and `spoil`, drawn anew for each sentence, is replaced by tokens from anywhere in it.
    That is scheduled sampling (Bengio et al. 2015) that need not ask the model.
    """

    def __init__(
        self, tasks: dict[str, TaskPairs], layout: Layout, pairs: int, seed: int, spoil: float = 0.0
    ) -> None:
        weights = {task.name: task.weight for task in TASKS}
        self.tasks, self.layout, self.pairs, self.seed = list(tasks.values()), layout, pairs, seed
        self.spoil = spoil
        self.shares = np.array([weights.get(name, 1.0) for name in tasks])
        self.shares /= self.shares.sum()
        for name, task in tasks.items():
            task.check(name, pairs, "train on")

    def __getitem__(self, index: int) -> tuple[Tensor, Tensor]:
        """(t,) int64 as it is, and (t,) int64 as the model sees it."""
        rng = np.random.default_rng((self.seed, index))
        task = self.tasks[rng.choice(len(self.tasks), p=self.shares)]
        chosen = torch.stack([task[int(row)] for row in self._rows(task, rng)])
        images = chosen.view(-1, self.layout.tokens)
        return self.layout.sentence(images), self.layout.sentence(self._spoiled(images, rng))

    def _rows(self, task: TaskPairs, rng: np.random.Generator) -> np.ndarray:
        """(k,) rows of a task that show different pictures."""
        while True:
            rows = rng.choice(len(task), self.pairs, replace=False)
            if len(np.unique(task.pictures[rows])) == self.pairs:
                return rows

    def _spoiled(self, images: Tensor, rng: np.random.Generator) -> Tensor:
        """Images (2 k, tokens) with errors in every second one, the answers."""
        wrong = torch.from_numpy(rng.random(images.shape) < rng.uniform(0, self.spoil))
        wrong[::2] = False
        others = images.flatten()[torch.from_numpy(rng.integers(images.numel(), size=images.shape))]
        return torch.where(wrong, others, images)


def sources(
    config: SentencesConfig, tokenizer: VQTokenizer
) -> tuple[dict[str, TaskPairs], dict[str, Tensor]]:
    """Training pairs by task, and validation sentences by task: ids (b, 2 pairs, tokens).

    Raises:
        ValueError: if shards were made by another tokenizer or lack some, or nothing is left for validation.
    """
    mark = fingerprint(tokenizer)
    train = _by_task(config.shards, config.tokenizer, mark)
    if config.validation is None:
        both = {name: _apart(pairs, config.held_out, config.pairs) for name, pairs in train.items()}
        train, kept = ({name: parts[i] for name, parts in both.items()} for i in range(2))
    else:
        kept = _by_task(config.validation, config.tokenizer, mark)
        for name, pairs in kept.items():
            pairs.check(name, config.pairs, "measure on")
    sentences = {}
    for name, pairs in kept.items():
        count = min(config.held_out, len(pairs)) // config.pairs
        rows = [pairs[index] for index in range(count * config.pairs)]
        if rows:
            grouped = torch.stack(rows).view(count, 2 * config.pairs, tokenizer.tokens)
            sentences[name] = _at_every_place(grouped, config.pairs)
    if not sentences:
        raise ValueError(
            f"{config.held_out} held-out pairs a task make no sentence of {config.pairs}: raise "
            "data.held_out, or encode more validation pairs"
        )
    return train, sentences


def _apart(pairs: TaskPairs, held_out: int, least: int) -> tuple[TaskPairs, TaskPairs]:
    """Pairs to train on, and those of the last pictures, which no pair to train on shows.

    So many pictures are kept that they have `held_out` pairs and make a sentence of `least` different ones.
    """
    count = int(pairs.pictures.max()) + 1
    first = count - max(least, math.ceil(held_out * count / len(pairs)))
    return pairs.where(pairs.pictures < first), pairs.where(pairs.pictures >= first)


def _at_every_place(sentences: Tensor, pairs: int) -> Tensor:
    """Each sentence (b, 2 pairs, tokens) in all rotations of its pairs, (b pairs, 2 pairs, tokens).

    Then the answers after one shot are those after none, in other places: shot counts differ by nothing else.
    """
    return torch.cat([sentences.roll(2 * place, dims=1) for place in range(pairs)])


def _by_task(folder: Path, tokenizer: str, mark: str) -> dict[str, TaskPairs]:
    """Pairs by task, all made by the tokenizer of that mark."""
    shards = Shards(folder)
    if shards.tokenizer != mark:
        raise ValueError(
            f"{folder} was encoded by tokenizer {str(shards.tokenizer)[:12]}, {tokenizer} is {mark[:12]}: "
            "encode again with this one, or name that one"
        )
    return {name: pairs_of(rows) for name, rows in shards.by("task").items()}
