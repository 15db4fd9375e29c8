"""Floors by misleading prompts: what a model answers whose examples are wrong, or are of another task.

A model that reads its examples is far worse after *shuffled answers*, and after a *wrong-task prompt* it does
what the prompt shows, not what is usually done with such a query.

Letters: n pairs, q questions, t tokens.
"""

from collections.abc import Iterator, Sequence
from dataclasses import replace

import torch
import torch.nn.functional as F
from torch import Tensor

from lvm.exam import Exam, Row, examined
from lvm.kind import NEAR
from lvm.origins import Picture
from lvm.rules import Task
from lvm.tasks import PAIR_TASKS
from vqtok.tokenizers.tokenizer import VQTokenizer

LEAST = 2  # pairs that have answers to exchange
TRIED = 8  # pairs by which two tasks are compared


def shuffled_answers(sat: Exam, shots: int) -> Tensor:
    """(q, 2 shots + 2, t) codes as `Exam.sentences`, each pair shown with the answer of the pair before it.

    The first has that of the last: no pair is right, and every answer is there.

    Raises:
        ValueError: if there are fewer than two pairs.
    """
    if shots < LEAST:
        raise ValueError(f"{shots} pairs have no answers to exchange: show at least {LEAST}")
    sentences = sat.sentences(shots)
    sentences[:, 1:-2:2] = sentences[:, 1:-2:2].roll(1, dims=1)
    return sentences


def wrong_task_prompts(sat: Exam, wrong: Exam, shots: int) -> Tensor:
    """(q, 2 shots + 2, t) codes: pairs of another task, then query and right answer of the exam's own."""
    return torch.cat([wrong.sentences(shots)[:, :-2], sat.sentences(0)], dim=1)


def wrong_exam(sat: Exam, tokenizer: VQTokenizer, known: Sequence[Task] = PAIR_TASKS) -> Exam:
    """The same questions asked for another trained task, whose name is the exam's `task`.

    Its x are those of `sat`, to the pixel, so that a query belongs to both, and only the pairs say which is
    meant. It is chosen among

    1. tasks that make the same x of the same drawings and random numbers, as all that start from shaded
       drawings do, both that find or fill holes, or all views;
    2. where there is none, tasks that take any picture as it is, as views do. They are asked of this task's
       x, and the pairs shown are made of such x too.

    Of several each has its turn, by the place of this task in `known`. Left out are parametrised tasks, tasks
    that mostly ask for the same answers as this one, and, if others serve, compositions: who fails at one may
    still have followed the prompt.

    Raises:
        ValueError: if there is no such task.
    """
    names = [task.name for task in known]
    turn = names.index(sat.task.name) if sat.task.name in names else 0
    others = [task for task in known
              if not task.held_out and task.members == 1 and task.name != sat.task.name]
    pictures = [replace(row, origin=Picture(x)) for row, x in zip(sat.rows, sat.pairs[:, 0], strict=True)]
    views = [task for task in others if task.of == "picture"]
    for rows, tasks in ((sat.rows, others), (pictures, views)):
        able = [other for other in tasks if _serves(other, rows, sat)]
        able = [other for other in able if other.kind != "composition"] or able
        if able:
            other = able[turn % len(able)]
            pairs = torch.stack([*_pairs(other, rows, sat.task)])
            # The drawings themselves, not pictures of them, tell which tasks ask for the same.
            return examined(other, sat.rows, pairs, sat.asked, sat.shown, tokenizer)
    raise ValueError(
        f"no trained task takes the x of {sat.task.name!r}: leave out the floors, or add one to lvm/tasks.py"
    )


def _serves(other: Task, rows: Sequence[Row], sat: Exam) -> bool:
    """Whether another task has this exam's x, and mostly other answers to them, by the first pairs."""
    found = [*zip(_pairs(other, rows[:TRIED], sat.task), sat.pairs, strict=False)]
    differ = [F.mse_loss(made[1], usual[1]) >= NEAR for made, usual in found]
    return all(torch.equal(made[0], usual[0]) for made, usual in found) and sum(differ) > len(differ) / 2


def _pairs(other: Task, rows: Sequence[Row], task: Task) -> Iterator[Tensor]:
    """Pairs of another task by the random numbers of `task`, which are drawn for its name."""
    renamed = replace(other, name=task.name)
    return (row.pair(renamed) for row in rows)
