"""Sentences that a transformer is trained on: rows of one task, in that task's form, packed whole.

Letters: b sentences, t tokens, r rows, u images of a row, i images, n rows of a task.
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from lvm.forms import PAIRS, Form
from lvm.layout import Layout
from vqtok.data.shards import Shards

LEAST = 2  # rows of a sentence that fills up a context: one example shows nothing
BLOCK = 8  # rows of a task that follow one another and are of one member, so that few rows make sentences
TRIES = 8  # tasks that are drawn to find one whose sentence fits in what is left of a context


@dataclass(frozen=True)
class Rows:
    """Rows of one task, (u tokens,) int64 each.

    Args:
        rows: Of all the task's shards.
        which: (n,) the rows that are meant.
        pictures: (n,) the picture that each of these shows.
        form: How they make sentences.
        members: How many there are; a sentence has rows of one, see `member_of`.
    """

    rows: Sequence[Tensor]
    which: np.ndarray
    pictures: np.ndarray
    form: Form = PAIRS
    members: int = 1

    @classmethod
    def every(
        cls, rows: Sequence[Tensor], pictures: int | None = None, form: Form = PAIRS, members: int = 1
    ) -> "Rows":
        """All rows; row k shows picture k modulo `pictures`, or one of its own."""
        which = np.arange(len(rows))
        return cls(rows, which, which % pictures if pictures else which, form, members)

    def __len__(self) -> int:
        return len(self.which)

    def __getitem__(self, index: int) -> Tensor:
        return self.rows[int(self.which[index])]

    def where(self, chosen: np.ndarray) -> "Rows":
        """Those for which (n,) bool `chosen` is true."""
        return Rows(self.rows, self.which[chosen], self.pictures[chosen], self.form, self.members)

    def by_member(self, count: int) -> list[np.ndarray]:
        """(r,) places in here of the rows of each member that shows at least `count` pictures."""
        members = member_of(self.which, self.members)
        found = [np.flatnonzero(members == member) for member in range(self.members)]
        return [places for places in found if len(np.unique(self.pictures[places])) >= count]

    def check(self, task: str, count: int, use: str) -> None:
        """Raises ValueError unless the rows of some member show at least so many pictures."""
        if not self.by_member(count):
            shown = len(np.unique(self.pictures))
            each = f", of {self.members} members" if self.members > 1 else ""
            raise ValueError(
                f"task {task!r} has {len(self)} rows of {shown} pictures{each} to {use}, a sentence needs "
                f"{count} of each: encode more"
            )


def member_of(row: np.ndarray | int, members: int) -> np.ndarray | int:
    """Number of the member that rows of a task are of: the same for `BLOCK` rows in a row."""
    return row // BLOCK % members


def rows_of(shards: Shards) -> Rows:
    """All rows of one task's shards.

    Raises:
        ValueError: if a shard is missing between others.
    """
    done = 0
    for facts, folder in zip(shards.facts, shards.folders, strict=True):
        if lacking := {"first", "rows", "form", "members", "pictures"} - set(facts):
            raise ValueError(
                f"{folder} does not say its {', '.join(sorted(lacking))}: encode again, `vqtok encode "
                "--pairs` makes shards that do"
            )
        if facts["first"] != done:
            raise ValueError(
                f"rows {done} to {facts['first'] - 1} are missing before {folder}: give the command that "
                "encoded them again, it makes what is not there"
            )
        done += facts["rows"]
    facts = shards.facts[0]
    return Rows.every(shards, facts["pictures"], Form.of(facts["form"]), facts["members"])


class Sample(NamedTuple):
    """One context of training, filled with whole sentences; every part is (t,).

    Args:
        ids: As they are.
        seen: As the model sees them, with errors in what was asked for.
        weights: What each id counts as a target; the first is none.
        sentences: Number of the sentence that an id stands in; padding is one of its own.
        tasks: Number of its task among those of the source.
    """

    ids: Tensor
    seen: Tensor
    weights: Tensor
    sentences: Tensor
    tasks: Tensor


@dataclass(frozen=True, kw_only=True)
class Mixture:
    """How often each task comes.

    Args:
        weights: By name, instead of those of the task library; a task that has none there counts 1. What is
            0 is left out.
        by_rows: Whether tasks come in proportion to their rows, as in a shuffle of all data, times their
            weights.
        temperature: Shares are raised to 1 / temperature and made to sum to 1 again: above 1 rare tasks come
            more often, and with a very large one all alike.
    """

    weights: Mapping[str, float] | None = None
    by_rows: bool = False
    temperature: float = 1.0

    def __post_init__(self) -> None:
        if not 0 < self.temperature < math.inf:
            raise ValueError(
                f"mixture.temperature {self.temperature} is outside (0, inf): 1 leaves shares as they are"
            )
        for name, weight in (self.weights or {}).items():
            if not 0 <= weight < math.inf:
                raise ValueError(f"mixture.weights has {weight} for {name!r}: give 0 or more")

    def shares(self, tasks: Mapping[str, Rows], usual: Mapping[str, float]) -> np.ndarray:
        """The share of each task, in their order; they sum to 1.

        Args:
            tasks: Rows by name.
            usual: Weights by name, where this mixture names none.

        Raises:
            ValueError: if a weight is for no task, or none is left.
        """
        own = self.weights or {}
        if unknown := sorted(set(own) - set(tasks)):
            raise ValueError(
                f"mixture.weights names {unknown[0]!r}, the shards have {', '.join(tasks)}: choose of these"
            )
        weights = np.array([own.get(name, usual.get(name, 1.0)) for name in tasks])
        if self.by_rows:
            weights = weights * [len(rows) for rows in tasks.values()]
        if not weights.any():
            raise ValueError("mixture.weights leaves no task: give one of them a weight above 0")
        shares = (weights / weights.sum()) ** (1 / self.temperature)
        return shares / shares.sum()


@dataclass(frozen=True, kw_only=True)
class Order:
    """How sentences are made of rows.

    Args:
        rows: In a sentence, where its form leaves it open; pairs, mostly.
        query: What tokens of images that are given count in the loss.
        spoil: Largest share of errors among tokens of images asked for, in what the model sees.
        untold: Share of sentences whose task is not told, where the layout has ids of tasks.
        length: Tokens of a context.
    """

    rows: int
    query: float
    spoil: float
    untold: float
    length: int


class Sentences:
    """Endless training order of contexts filled with visual sentences, a pure function of (seed, index).

    Each sentence is of one task and of one of its members, and shows no picture twice: its last answer must
    not stand among its examples. A context holds as many whole sentences as fit; one whose number of rows is
    open takes as many rows as there is room for. No image is ever cut, and what is left is padding.

    What the model sees has errors in images asked for: a share of their tokens between 0 and `spoil`, drawn
    anew for each sentence, is replaced by tokens from anywhere in it. That is scheduled sampling (Bengio et
    al. 2015) that need not ask the model.

    Args:
        tasks: Rows by name of their task.
        shares: (tasks,) how often each comes.
        layout: Ids.
        order: How.
        seed: Of everything.

    Raises:
        ValueError: if a task has too few rows, or a sentence of it does not fit in a context.
    """

    def __init__(
        self, tasks: Mapping[str, Rows], shares: np.ndarray, layout: Layout, order: Order, seed: int
    ) -> None:
        used = {name: rows for (name, rows), share in zip(tasks.items(), shares, strict=True) if share > 0}
        self.names, self.tasks = [*used], [*used.values()]
        self.shares, self.layout, self.order, self.seed = shares[shares > 0], layout, order, seed
        for name, rows in zip(self.names, self.tasks, strict=True):
            count = rows.form.rows or order.rows
            check_room(name, rows.form, count, layout, order.length)
            rows.check(name, count, "train on")
        self._members = [rows.by_member(rows.form.rows or order.rows) for rows in self.tasks]

    def __getitem__(self, index: int) -> Sample:
        """Context number `index`."""
        rng, left, parts = np.random.default_rng((self.seed, index)), self.order.length, []
        while (drawn := self._fitting(rng, left, opens=not parts)) is not None:
            parts.append(self._sentence(*drawn, rng))
            left -= len(parts[-1][0])
        if left:
            parts.append(_padding(self.layout.filler, left))
        marks = [torch.full((len(part[0]),), number) for number, part in enumerate(parts)]
        ids, seen, weights, tasks = (torch.cat(column) for column in zip(*parts, strict=True))
        return Sample(ids, seen, weights, torch.cat(marks), tasks)

    def _fitting(self, rng: np.random.Generator, left: int, opens: bool) -> tuple[int, int] | None:
        """A task by its share, and the rows of its next sentence; None if none fits in `left` tokens."""
        for _ in range(TRIES):
            task = int(rng.choice(len(self.tasks), p=self.shares))
            form = self.tasks[task].form
            room = self.layout.fitting(left) // form.images
            rows = form.rows or min(self.order.rows, room)
            least = rows if opens or form.rows else min(LEAST, self.order.rows)
            if least <= rows <= room:
                return task, rows
        return None

    def _sentence(self, task: int, rows: int, rng: np.random.Generator) -> tuple[Tensor, ...]:
        """Ids, ids seen, weights and tasks (t,) of one sentence."""
        source = self.tasks[task]
        members = self._members[task]
        member = members[int(rng.integers(len(members)))]
        chosen = torch.stack([source[int(row)] for row in self._apart(source, member, rows, rng)])
        places, asked = source.form.order(rows, rng)
        images = chosen.view(-1, self.layout.tokens)[torch.from_numpy(places)]
        told = self.names[task] if self.layout.tasks and rng.random() >= self.order.untold else None
        ids = self.layout.sentence(images, told)
        seen = self.layout.sentence(self._spoiled(images, asked, rng), told)
        weights = self.layout.weights(asked.tolist(), self.order.query)
        weights[0] = 0  # nothing of the sentence stands before it
        return ids, seen, weights, torch.full_like(ids, task)

    @staticmethod
    def _apart(source: Rows, member: np.ndarray, count: int, rng: np.random.Generator) -> np.ndarray:
        """(r,) rows of a member that show different pictures."""
        while True:
            rows = rng.choice(member, count, replace=False)
            if len(np.unique(source.pictures[rows])) == count:
                return rows

    def _spoiled(self, images: Tensor, asked: np.ndarray, rng: np.random.Generator) -> Tensor:
        """Images (i, tokens) with errors in those asked for."""
        wrong = torch.from_numpy(rng.random(images.shape) < rng.uniform(0, self.order.spoil))
        wrong[torch.from_numpy(~asked)] = False
        others = images.flatten()[torch.from_numpy(rng.integers(images.numel(), size=images.shape))]
        return torch.where(wrong, others, images)


def check_room(task: str, form: Form, rows: int, layout: Layout, length: int) -> None:
    """Raises ValueError unless a sentence of so many rows fits in a context."""
    fitting = layout.fitting(length) // form.images
    if rows > fitting:
        less = "leave the task out by a weight of 0 in data.mixture" if form.rows else "lower data.pairs"
        raise ValueError(
            f"a sentence of {rows} rows of task {task!r} has {layout.length(rows * form.images)} tokens, the "
            f"context holds {length}, room for {fitting} rows: {less}, or raise gpt.length"
        )


def _padding(filler: int, count: int) -> tuple[Tensor, ...]:
    ids = torch.full((count,), filler)
    return ids, ids, torch.zeros(count), torch.zeros_like(ids)
