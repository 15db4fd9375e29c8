"""An exam: questions about pictures of the test split, and the right answers to them.

Every question is asked of every task, with the same drawings before it, so that tasks and shot counts are
compared on equal terms.

Letters: n pairs, q questions, k shots, t tokens, c h w image.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from einops import rearrange
from torch import Tensor

from lvm.kind import fitting
from lvm.origins import Origin
from lvm.rules import Task
from lvm.tasks import row
from vqtok.data.emoji import SIZE, Emoji, load_emoji
from vqtok.data.scenes import alone
from vqtok.tokenizers.tokenizer import VQTokenizer


@dataclass(frozen=True)
class Questions:
    """Which drawings are asked about, and which are shown before.

    Args:
        emoji: The drawings that occur.
        asked: (q,) int64, the drawing of each question.
        shown: (q, k) int64, the drawings shown before it, in order; none is a look-alike of the one asked
            about.
        seed: Of noise, holes and styles.
    """

    emoji: tuple[Emoji, ...]
    asked: Tensor
    shown: Tensor
    seed: int


def questions(names: int, shots: int, seed: int, split: str = "test") -> Questions:
    """Questions about `names` drawings of a split, each with `shots` others before it.

    Raises:
        ValueError: if the split has too few drawings, or the seed is negative.
    """
    if seed < 0:
        raise ValueError(f"seed {seed} is below 0: give any whole number from 0")
    emoji = load_emoji(split)
    if not 2 <= names <= len(emoji):
        raise ValueError(
            f"{names} names are outside [2, {len(emoji)}], what the {split} split has: change the number"
        )
    rng = np.random.default_rng((seed, 3))
    asked = rng.permutation(len(emoji))[:names]
    groups = np.array([drawn.group for drawn in emoji])
    others = [np.flatnonzero(groups != groups[row]) for row in asked]
    shown = np.stack([rng.choice(rows, shots, replace=False) for rows in others])
    used, place = np.unique(np.concatenate([asked, shown.reshape(-1)]), return_inverse=True)
    asked, shown = place[:names], place[names:].reshape(names, shots)
    chosen = tuple(emoji[row] for row in used)
    return Questions(chosen, torch.from_numpy(asked), torch.from_numpy(shown.astype(np.int64)), seed)


@dataclass(frozen=True)
class Row:
    """What one pair of an exam is made of, whatever the task.

    Args:
        origin: The drawing, or a picture in its place.
        seed: Of noise, holes and styles.
        index: Number of the drawing.
        member: Which one of a parametrised task is meant.
    """

    origin: Origin
    seed: int
    index: int
    member: int = 0

    def pair(self, task: Task) -> Tensor:
        """(2, 3, h, w): the pair of `task`."""
        return row(task, self.origin, self.seed, self.index, self.member)


@dataclass(frozen=True)
class Exam:
    """The questions of one task, as pictures and as codes.

    Args:
        task: What is asked for.
        rows: What the n pairs are made of.
        pairs: (n, 2, 3, h, w).
        ids: (n, 2, t) codes of the same.
        ceiling: (q, 3, h, w) the right answers as the tokenizer gives them back.
        asked: (q,) rows asked about.
        shown: (q, k) rows shown before.
        fit: Of each question, the names of tasks that ask for its right answer (`lvm.kind.fitting`).
    """

    task: Task
    rows: tuple[Row, ...]
    pairs: Tensor
    ids: Tensor
    ceiling: Tensor
    asked: Tensor
    shown: Tensor
    fit: list[set[str]]

    def sentences(self, shots: int) -> Tensor:
        """(q, 2 shots + 2, t) codes: the last `shots` of the pairs shown, the query, and the right answer."""
        rows = torch.cat([self.shown[:, self.shown.shape[1] - shots :], self.asked[:, None]], dim=1)
        return rearrange(self.ids[rows], "q k two t -> q (k two) t")

    def contenders(self, answers: Tensor) -> dict[str, Tensor]:
        """Pictures (q, 3, h, w) by name: the answers, their ceiling (round trip) and floors (copies)."""
        query, last = self.pairs[self.asked, 0], self.pairs[self.shown[:, -1], 1]
        return {"answer": answers, "round trip": self.ceiling, "copy query": query, "copy last answer": last}


def exam(task: Task, asked: Questions, tokenizer: VQTokenizer, members: Sequence[int] = (0,)) -> Exam:
    """Draw the pairs of one task, and encode them.

    Args:
        task: What is asked for.
        asked: About what.
        tokenizer: Of the model that is examined.
        members: Of a parametrised task, those that are asked for, question by question in turn; all pairs of
            a question are of one.

    Raises:
        ValueError: if the tokenizer is for pictures of another size.
    """
    if tokenizer.config.size != SIZE:
        raise ValueError(
            f"the embedded pictures have {SIZE} pixels a side, this model sees {tokenizer.config.size}: they "
            f"cannot examine it; look at its validation loss instead"
        )
    drawings = torch.cat([asked.shown, asked.asked[:, None]], dim=1)  # (q, k + 1)
    turns = torch.tensor(members)[torch.arange(len(drawings)) % len(members)]
    keys = torch.stack([drawings, turns[:, None].expand_as(drawings)], dim=-1)
    unique, places = torch.unique(rearrange(keys, "q k two -> (q k) two"), dim=0, return_inverse=True)
    origins = [alone(emoji) for emoji in asked.emoji]
    rows = tuple(Row(origins[index], asked.seed, index, member) for index, member in unique.tolist())
    places = places.view_as(drawings)
    pairs = torch.stack([each.pair(task) for each in rows])
    return examined(task, rows, pairs, places[:, -1], places[:, :-1], tokenizer)


def examined(
    task: Task, rows: tuple[Row, ...], pairs: Tensor, asked: Tensor, shown: Tensor, tokenizer: VQTokenizer
) -> Exam:
    """The exam of pairs (n, 2, 3, h, w) made of `rows`, of which `asked` (q,) and `shown` (q, k) tell."""
    ids = _encoded(tokenizer, rearrange(pairs, "n two c h w -> (n two) c h w"))
    ids = rearrange(ids, "(n two) i j -> n two i j", two=2)
    fit = [fitting(task, rows[place].origin, pairs[place]) for place in asked.tolist()]
    return Exam(task, rows, pairs, ids.flatten(2), decode(tokenizer, ids[asked, 1]), asked, shown, fit)


@torch.inference_mode()
def decode(tokenizer: VQTokenizer, ids: Tensor, batch: int = 64) -> Tensor:
    """Pictures (b, 3, h, w) in [0, 1] of ids (b, i, j), a few at once, on the CPU."""
    device = next(tokenizer.parameters()).device
    return torch.cat([tokenizer.decode(part.to(device)).cpu() for part in ids.split(batch)])


@torch.inference_mode()
def _encoded(tokenizer: VQTokenizer, images: Tensor, batch: int = 64) -> Tensor:
    device = next(tokenizer.parameters()).device
    return torch.cat([tokenizer.encode(part.to(device)).cpu() for part in images.split(batch)])
