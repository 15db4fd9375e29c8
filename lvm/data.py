"""From folders of token shards to what an LVM is trained and measured on.

Letters: b sentences, r rows, i images of a sentence, t tokens of an image.
"""

import math
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from lvm.forms import Form
from lvm.layout import Layout
from lvm.sentences import Mixture, Order, Rows, Sentences, rows_of
from lvm.tasks import TASKS
from vqtok.data.shards import Shards
from vqtok.tokenizers.fingerprint import fingerprint
from vqtok.tokenizers.tokenizer import VQTokenizer


@dataclass(frozen=True, kw_only=True)
class SentencesConfig:
    """What sentences are made of.

    Args:
        shards: Folder that `vqtok encode` filled.
        tokenizer: Folder or hub id of the tokenizer that made them; None where a model brings its own.
        validation: Shards of held-out pictures; None keeps `held_out` rows of every task of `shards`, of
            pictures that no other row shows.
        held_out: Rows of every task kept for validation where there is no folder of them.
        pairs: Rows in a sentence, pairs mostly, where the form of its task leaves it open.
        batch: Contexts a step, over all processes.
        query_weight: What tokens of queries count in the loss, where tokens of answers count 1. With 0 a step
            is a fifth cheaper; in short trainings queries help all the same (docs/results.md).
        spoil: Largest share of an answer's tokens that are replaced by others of the sentence in what the
            model sees, not in what it shall predict: its own answers will have errors too, and a model that
            has met none goes astray after the first.
        untold: Share of sentences whose task is not told. With 1 no task has an id, and examples alone tell
            it; with 0 every sentence begins with the id of its task.
        mixture: How often each task comes.
        workers: Processes that read ahead.
    """

    shards: Path
    tokenizer: str | None = None
    validation: Path | None = None
    held_out: int = 100
    pairs: int = 4
    batch: int = 16
    query_weight: float = 1.0
    spoil: float = 0.0
    untold: float = 1.0
    mixture: Mixture = Mixture()
    workers: int = 0

    def __post_init__(self) -> None:
        if self.pairs < 1:
            raise ValueError(f"pairs {self.pairs} make no sentence: give at least 1, 4 is usual")
        if self.query_weight < 0:
            raise ValueError(f"query_weight {self.query_weight} is below 0: 0 leaves queries out of the loss")
        if not 0 <= self.spoil <= 1:
            raise ValueError(f"spoil {self.spoil} is a largest share of tokens: give 0 to 1, 0.3 is moderate")
        if not 0 <= self.untold <= 1:
            raise ValueError(f"untold {self.untold} is a share of sentences: give 0 to 1, 1 tells no task")


class Kept(NamedTuple):
    """Validation sentences of one task.

    Args:
        images: (b, i, t) codes.
        asked: (i,) bool, whether an image is asked for.
        form: Of the task.
    """

    images: Tensor
    asked: Tensor
    form: Form

    @property
    def pairs(self) -> bool:
        """Whether every second image is an answer, so that shots can be counted."""
        return self.form.images == 2 and self.form.rows is None


def sources(config: SentencesConfig, tokenizer: VQTokenizer) -> tuple[dict[str, Rows], dict[str, Kept]]:
    """Training rows by task, and validation sentences by task.

    Raises:
        ValueError: if shards were made by another tokenizer or lack some, or nothing is left for validation.
    """
    mark = fingerprint(tokenizer)
    train = _by_task(config.shards, config.tokenizer, mark)
    if config.validation is None:
        both = {name: _apart(rows, config.held_out, rows.form.rows or config.pairs)
                for name, rows in train.items()}
        train, kept = ({name: parts[i] for name, parts in both.items()} for i in range(2))
    else:
        kept = _by_task(config.validation, config.tokenizer, mark)
        for name, rows in kept.items():
            rows.check(name, rows.form.rows or config.pairs, "measure on")
    sentences = {name: _kept(rows, config, tokenizer.tokens) for name, rows in kept.items()}
    sentences = {name: found for name, found in sentences.items() if len(found.images)}
    if not sentences:
        raise ValueError(
            f"{config.held_out} held-out rows a task make no sentence of {config.pairs}: raise "
            "data.held_out, or encode more validation rows"
        )
    return train, sentences


def contexts(
    config: SentencesConfig, tasks: dict[str, Rows], layout: Layout, length: int, seed: int
) -> Sentences:
    """The endless supply of training contexts that the config describes.

    Raises:
        ValueError: as `Sentences` and `Mixture.shares`.
    """
    shares = config.mixture.shares(tasks, {task.name: task.weight for task in TASKS})
    order = Order(rows=config.pairs, query=config.query_weight, spoil=config.spoil, untold=config.untold,
                  length=length)
    return Sentences(tasks, shares, layout, order, seed)


def _kept(rows: Rows, config: SentencesConfig, tokens: int) -> Kept:
    """As many sentences as `held_out` rows make, of one member and different pictures each, in one order."""
    form, count = rows.form, rows.form.rows or config.pairs
    places, asked = form.order(count, np.random.default_rng(0))
    sentences, left = [], min(config.held_out, len(rows))
    for member in rows.by_member(count):
        for group in np.split(member, range(count, len(member), count)):
            if len(np.unique(rows.pictures[group])) == count <= left:
                images = torch.cat([rows[int(row)].view(-1, tokens) for row in group])
                sentences.append(images[torch.from_numpy(places)])
                left -= count
    found = torch.stack(sentences) if sentences else torch.zeros(0, count * form.images, tokens)
    found = _at_every_place(found, count) if form.images == 2 and form.rows is None else found
    return Kept(found, torch.from_numpy(asked), form)


def _apart(rows: Rows, held_out: int, least: int) -> tuple[Rows, Rows]:
    """Rows to train on, and those of the last pictures, which no row to train on shows.

    So many pictures are kept that they have `held_out` rows and make a sentence of `least` different ones.
    """
    count = int(rows.pictures.max()) + 1
    first = count - max(least, math.ceil(held_out * count / len(rows)))
    return rows.where(rows.pictures < first), rows.where(rows.pictures >= first)


def _at_every_place(sentences: Tensor, pairs: int) -> Tensor:
    """Each sentence (b, 2 pairs, tokens) in all rotations of its pairs, (b pairs, 2 pairs, tokens).

    Then the answers after one shot are those after none, in other places: shot counts differ by nothing else.
    """
    return torch.cat([sentences.roll(2 * place, dims=1) for place in range(pairs)])


def _by_task(folder: Path, tokenizer: str, mark: str) -> dict[str, Rows]:
    """Rows by task, all made by the tokenizer of that mark."""
    found = Shards.by("task", folder)
    for shards in found.values():
        if shards.tokenizer != mark:
            raise ValueError(
                f"{folder} was encoded by tokenizer {str(shards.tokenizer)[:12]}, {tokenizer} is "
                f"{mark[:12]}: encode again with this one, or name that one"
            )
    return {name: rows_of(shards) for name, shards in found.items()}
