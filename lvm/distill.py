"""Trains a small transformer on what a large one expects, as well as on what comes.

    accelerate launch -m lvm.distill --config recipes/lvm/distill64.yaml

    loss = -hard log q(id)  +  soft T^2 KL(p_T || q_T)

where q is the student's softmax of scores, and p_T and q_T are the teacher's and the student's of scores / T.
Hinton et al. 2015, section 2: T^2 keeps the gradient of the second term as large whatever the temperature T.
Guo et al. 2024 (DeLVM) distill an LVM so, with T = 1 and both weights 1.

Letters: b contexts, t tokens, n tokens that count, r rows of these, v vocabulary, d width.
"""

from dataclasses import dataclass, replace
from functools import partial

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from lvm.data import SentencesConfig
from lvm.lessons import lessons
from lvm.model import LVM, seed_embeddings
from lvm.sentences import Sample
from lvm.shots import answer_sheet, validation_losses
from lvm.task_losses import TaskLosses
from lvm.train import counted, save
from vqtok.gpt.config import GPTConfig
from vqtok.gpt.model import GPT
from vqtok.training.config import launch
from vqtok.training.optim import OptimConfig, optimizer_for
from vqtok.training.run import Run, RunConfig
from vqtok.training.schedule import LRConfig, cosine


@dataclass(frozen=True, kw_only=True)
class DistillLossConfig:
    """What both terms count.

    Args:
        hard: Weight of -log q(id), which learns from data.
        soft: Weight of the divergence from the teacher.
        temperature: Scores are divided by it before the divergence.
        rows: Positions whose scores are held at a time.
    """

    hard: float = 1.0
    soft: float = 1.0
    temperature: float = 1.0
    rows: int = 1024

    def __post_init__(self) -> None:
        if min(self.hard, self.soft) < 0 or self.hard + self.soft == 0:
            raise ValueError(
                f"loss.hard {self.hard} and soft {self.soft}: give none below 0, and one above it"
            )
        if self.temperature <= 0 or self.rows < 1:
            raise ValueError(
                f"loss.temperature {self.temperature} and rows {self.rows} must be above 0: "
                "1 and 1024 are usual"
            )


@dataclass(frozen=True, kw_only=True)
class TrainConfig:
    """The training of a student.

    Args:
        run: Folder, seed, precision.
        teacher: Folder or hub id of an LVM.
        data: Sentences; the tokenizer and the ids around images are the teacher's.
        gpt: Shape of the student; a context has as many tokens as its length.
        optim: Weight decay, betas, clipping.
        lr: Learning rate by the step; its `steps` are the length of the run.
        loss: What data and teacher count.
        average: Decay of the moving average of the weights, which is what is evaluated and saved.
        eval_steps: Steps between two evaluations.
        save_steps: Steps between two checkpoints.
    """

    run: RunConfig
    teacher: str
    data: SentencesConfig
    gpt: GPTConfig
    optim: OptimConfig
    lr: LRConfig
    loss: DistillLossConfig = DistillLossConfig()
    average: float = 0.998
    eval_steps: int = 500
    save_steps: int = 250


class Student(nn.Module):
    """A transformer, and how far it is from data and teacher.

    It is a module of its own because a wrapped model, as for several processes, is called through `forward`.
    """

    def __init__(self, gpt: GPT, loss: DistillLossConfig) -> None:
        super().__init__()
        self.gpt, self.loss = gpt, loss

    def forward(self, sample: Sample, teacher: GPT) -> tuple[Tensor, Tensor]:
        """(n,) nats, and (n,) divergences from the teacher in nats, of the tokens of contexts that count.

        Scores are computed `loss.rows` positions at a time, and once more for the backward, so that memory
        grows with rows x v instead of n x v.
        """
        where, documents = counted(sample)
        mine = _rows(self.gpt, sample.seen[:, :-1], where, documents)
        with torch.no_grad():
            theirs = _rows(teacher, sample.seen[:, :-1], where, documents)
        ids = sample.ids[:, 1:][where]
        columns = [tensor.split(self.loss.rows) for tensor in (*mine, *theirs, ids)]
        parts = [
            checkpoint(_terms, self.gpt, teacher, self.loss.temperature, *chunk, use_reentrant=False)
            for chunk in zip(*columns, strict=True)
        ]
        nats, apart = (torch.cat(column) for column in zip(*parts, strict=True))
        return nats, apart


def divergence(student: Tensor, teacher: Tensor, temperature: float = 1.0) -> Tensor:
    """KL(p || q) in nats, p and q the teacher's and the student's softmax(scores / temperature).

    Args:
        student: (n, v) scores.
        teacher: (n, v) scores of the same ids.
        temperature: Above 0.

    Returns:
        (n,) float32, at least 0 but for rounding.
    """
    q, p = (F.log_softmax(scores.float() / temperature, dim=-1) for scores in (student, teacher))
    return (p.exp() * (p - q)).sum(-1)


def train(config: TrainConfig) -> None:
    """Train a student; `config.run.folder` receives checkpoints, pictures, metrics and `model/`.

    The teacher's held-out losses are recorded as of step 0, under `teacher/`.
    """
    run = Run(config.run)
    model = LVM.from_pretrained(config.teacher)
    source, kept = lessons(config.data, model, config.teacher, config.gpt.length, config.run.seed)
    bundle = replace(model.config, gpt=config.gpt, trained=tuple(source.names))
    teacher = model.gpt.requires_grad_(False).to(run.device)
    gpt = GPT(config.gpt)
    seed_embeddings(gpt, model.tokenizer, config.run.seed)
    student = Student(gpt, config.loss)
    student, optimizer = run.prepare(student, optimizer_for(student, config.optim, inside=gpt.blocks))
    average = run.ema(student, config.average)
    means = run.hold(TaskLosses(source.names))
    if not run.resume():
        told = validation_losses(teacher, model.layout, kept)
        run.log({f"teacher/{name.removeprefix('validation/')}": value for name, value in told.items()})
    hard, soft = config.loss.hard, config.loss.soft * config.loss.temperature**2
    for sample in run.batches(source, config.data.batch, config.lr.steps, config.data.workers):
        with run.accumulate(student):
            nats, apart = student(sample, teacher)  # (n,) each
            where = counted(sample)[0]
            means.count(nats, sample.tasks[:, 1:][where], run.step)
            weights = sample.weights[:, 1:][where]
            total = weights.sum()
            loss = ((hard * nats + soft * apart) * weights).sum() / total
            run.note({"nats": nats.detach().mean(), "divergence": apart.detach().mean()})
            rate = cosine(run.step, config.lr)
            if run.update(loss, optimizer, lr=rate, weight=total, clip=config.optim.clip):
                means.settle(partial(run.accelerator.reduce, reduction="sum"))
        if run.every(config.run.log_steps):
            run.log(means.facts())
        if run.every(config.eval_steps):
            run.log(validation_losses(average.model.gpt, model.layout, kept))
            run.show("answers", answer_sheet(average.model.gpt, model.tokenizer, model.layout, kept))
        if run.every(config.save_steps):
            run.save()
    if run.main:
        save(average.model.gpt, model.tokenizer, bundle, config.run.folder / "model")
    run.finish()


def _rows(gpt: GPT, seen: Tensor, where: Tensor, documents: Tensor | None) -> tuple[Tensor, Tensor]:
    """What is turned into scores at the positions that count: (n, d), and their places (n,)."""
    x, places = gpt.stream(seen, documents=documents)
    return x[where], places.expand(where.shape)[where]


def _terms(student: GPT, teacher: GPT, temperature: float, *chunk: Tensor) -> tuple[Tensor, Tensor]:
    """(r,) nats and divergences of one chunk: both streams' rows and places, and ids."""
    mine, places, theirs, their_places, ids = chunk
    with torch.no_grad():
        wanted = teacher.score(theirs, their_places)
    scores = student.score(mine, places)
    return F.cross_entropy(scores, ids, reduction="none"), divergence(scores, wanted, temperature)


if __name__ == "__main__":
    launch(train, TrainConfig)
