"""An exam: questions about pictures of the test split, and how answers to them are scored.

Every question is asked of every task, with the same drawings before it, so that tasks and shot counts are
compared on equal terms.

Letters: n drawings, q questions, k shots, t tokens, c h w image.
"""

from dataclasses import dataclass

import numpy as np
import torch
import torch.nn.functional as F
from einops import rearrange
from torch import Tensor

from lvm.kind import KindClassifier, fitting
from lvm.rules import Task
from lvm.tasks import row
from vqtok.data.emoji import SIZE, Emoji, load_emoji
from vqtok.data.scenes import alone
from vqtok.metrics.images import iou, psnr_of_set
from vqtok.tokenizers.tokenizer import VQTokenizer

CELL = 4  # pixels: content is compared by the means of such squares, which forgive a line that is a pixel off


@dataclass(frozen=True)
class Questions:
    """Which drawings are asked about, and which are shown before.

    Args:
        emoji: The n drawings that occur.
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
class Exam:
    """The questions of one task, as pictures and as codes.

    Args:
        task: What is asked for.
        pairs: (n, 2, 3, h, w) of every drawing.
        ids: (n, 2, t) codes of the same.
        ceiling: (q, 3, h, w) the right answers as the tokenizer gives them back.
        asked: (q,) rows asked about.
        shown: (q, k) rows shown before.
        fit: Of each question, the names of tasks that ask for its right answer (`lvm.kind.fitting`).
    """

    task: Task
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


def exam(task: Task, asked: Questions, tokenizer: VQTokenizer) -> Exam:
    """Draw the pairs of one task, and encode them.

    Raises:
        ValueError: if the tokenizer is for pictures of another size.
    """
    if tokenizer.config.size != SIZE:
        raise ValueError(
            f"the embedded pictures have {SIZE} pixels a side, this model sees {tokenizer.config.size}: they "
            f"cannot examine it; look at its validation loss instead"
        )
    sources = [alone(emoji) for emoji in asked.emoji]
    pairs = torch.stack([row(task, source, asked.seed, index) for index, source in enumerate(sources)])
    ids = _encoded(tokenizer, rearrange(pairs, "n two c h w -> (n two) c h w"))
    ids = rearrange(ids, "(n two) i j -> n two i j", two=2)
    fit = [fitting(task, sources[index], pairs[index]) for index in asked.asked.tolist()]
    ceiling = decode(tokenizer, ids[asked.asked, 1])
    return Exam(task, pairs, ids.flatten(2), ceiling, asked.asked, asked.shown, fit)


@torch.inference_mode()
def decode(tokenizer: VQTokenizer, ids: Tensor, batch: int = 64) -> Tensor:
    """Pictures (b, 3, h, w) in [0, 1] of ids (b, i, j), a few at once, on the CPU."""
    device = next(tokenizer.parameters()).device
    return torch.cat([tokenizer.decode(part.to(device)).cpu() for part in ids.split(batch)])


def scores(sat: Exam, found: Tensor, judge: KindClassifier) -> dict[str, float]:
    """Marks of pictures (q, 3, h, w) given as answers.

    `kind`: share of which the judge names a task that fits the question. `content`: share nearer to their own
    target than to any other question's, by the mean squared error of the means of 4x4 squares. `psnr`: dB, of
    the whole set. `iou`: mean, of masks only.
    """
    targets = sat.pairs[sat.asked, 1]
    marks = {"kind": kind_right(sat, found, judge), "content": content(found, targets),
             "psnr": float(psnr_of_set(found, targets))}
    if sat.task.kind == "mask":
        marks["iou"] = float(iou(found.mean(1) > 0.5, targets.mean(1) > 0.5).mean())
    return marks


def kind_right(sat: Exam, found: Tensor, judge: KindClassifier) -> float:
    """Share of pictures (q, 3, h, w) given as answers of which the judge names a fitting task."""
    named = judge.names(sat.pairs[sat.asked, 0], found)
    return sum(name in fit for name, fit in zip(named, sat.fit, strict=True)) / len(named)


def content(found: Tensor, targets: Tensor) -> float:
    """Share of pictures (q, 3, h, w) nearest to their own target among all; ties count as right."""
    coarse = [F.avg_pool2d(images, CELL).flatten(1) for images in (found, targets)]
    far = torch.cdist(*coarse, compute_mode="donot_use_mm_for_euclid_dist")
    return int((far.diagonal() <= far.amin(1)).sum()) / len(found)


@torch.inference_mode()
def _encoded(tokenizer: VQTokenizer, images: Tensor, batch: int = 64) -> Tensor:
    device = next(tokenizer.parameters()).device
    return torch.cat([tokenizer.encode(part.to(device)).cpu() for part in images.split(batch)])
