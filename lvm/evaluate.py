"""What a large vision model does with examples, on names it never saw.

Kind and content are scored apart, and every score stands between its ceiling (the tokenizer's round trip of
the right answer) and its floors (a copy of the query, a copy of the last answer shown).

    vqtok evaluate lvm --model runs/lvm-emoji64/model --out runs/evaluate-lvm

Letters: q questions, t tokens of an image, c h w image; r rows of a sheet.
"""

import argparse
import json
import math
from collections import Counter
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path

import torch
from einops import rearrange
from rich import box
from rich.console import Console
from rich.progress import Progress
from rich.table import Table
from torch import Tensor

from lvm.exam import Exam, Questions, decode, exam, kind_right, questions, scores
from lvm.generate import answer_nats, nats_and_answers
from lvm.kind import DEFAULT_KIND, KindClassifier
from lvm.model import DEFAULT_WEIGHTS, LVM
from lvm.rules import Task
from lvm.tasks import PAIR_TASKS
from vqtok.data.pictures import write_picture
from vqtok.storage.folders import write_file

GAP = 2  # pixels between the pictures of a sheet
WIDTH = 120  # letters in a line of the tables
CONTENDERS = {"a": "answer", "r": "round trip", "q": "copy query", "l": "copy last answer"}
SCORES = (("kind", "arql", "{:.2f}"), ("content", "arq", "{:.2f}"), ("psnr", "arql", "{:.1f}"),
          ("iou", "arl", "{:.2f}"))


@dataclass(frozen=True, kw_only=True)
class TaskReport:
    """What was found on one task.

    Args:
        kind: style, mask, geometric, color or restoration.
        held_out: Whether it was kept from training.
        rivals: Other tasks that ask for the same picture, as all do of a symmetric one, and of how many
            questions; the judge may name them.
        nats: Nats per token of the right answer, by `answer` (all of it) or `first_row`, then by shots.
        gains: Nats that more shots save, by the same and then as "0 to 1": mean and its standard error over
            questions.
        judge: Share of the right answers themselves whose kind the judge tells: what it can see at all.
        scores: `kind`, `content`, `psnr` and, of masks, `iou`, of the answers, the round trip and the copies.
    """

    kind: str
    held_out: bool
    rivals: dict[str, int]
    nats: dict[str, dict[str, float]]
    gains: dict[str, dict[str, tuple[float, float]]]
    judge: float
    scores: dict[str, dict[str, float]]


@dataclass(frozen=True, kw_only=True)
class Report:
    """What was found on all tasks.

    Args:
        names: Questions of every task.
        shots: Pairs before a query, for the losses.
        answer_shots: The same for the answers.
        seed: Of the questions.
        tasks: By name.
        trained: The tasks of training taken together: nats, gains, and means of the answers' scores: `kind`,
            `content` of the style tasks, `iou` of the masks; and the judge's own.
        pictures: Task -> (r, 2 answer_shots + 3, 3, h, w): pairs shown, query, answer, right answer. Not in
            the JSON.
    """

    names: int
    shots: tuple[int, ...]
    answer_shots: int
    seed: int
    tasks: dict[str, TaskReport]
    trained: dict[str, dict | float]
    pictures: dict[str, Tensor] = field(repr=False)

    def facts(self) -> dict:
        """All but the pictures, ready for JSON."""
        numbers = {name: value for name, value in vars(self).items() if name not in ("tasks", "pictures")}
        return numbers | {"tasks": {name: asdict(task) for name, task in self.tasks.items()}}


def evaluate(
    model: LVM,
    names: int = 100,
    shots: Sequence[int] = (0, 1, 3),
    seed: int = 0,
    tasks: Sequence[Task] = PAIR_TASKS,
    answer_shots: int = 3,
    judge: KindClassifier | None = None,
) -> Report:
    """Ask `model` about plain emoji of the test split; the same numbers every time.

    The pairs shown are of other test names, none a look-alike of the one asked about, and the same drawings
    for every task. With fewer shots the last of them are shown, so losses at all shot counts are of the same
    answers. Generated answers are greedy.

    Args:
        model: In evaluation mode.
        names: Drawings asked about, at least 2; each is asked about once a task.
        shots: Pairs before a query at which the right answer's loss is measured.
        seed: Of the choice of drawings, and of noise, holes and styles.
        tasks: What to ask.
        answer_shots: Pairs before a query whose answer is generated.
        judge: Tells kinds; the shipped one unless given.

    Raises:
        ValueError: if more pairs are wanted than fit the model, there are too few names, or the judge does
            not know a task.
    """
    counts = sorted({*shots, answer_shots})
    if counts[0] < 0 or counts[-1] > model.shots:
        raise ValueError(f"shots {counts} leave [0, {model.shots}], what fits this model: choose of these")
    judge = judge or KindClassifier.from_pretrained(DEFAULT_KIND).to(model.gpt.embed.weight.device)
    for task in tasks:
        if task.name not in judge.config.tasks:
            raise ValueError(f"the judge does not know {task.name!r}: train it again, `python -m lvm.kind`")
    asked = questions(names, max(*counts, 1), seed)
    reports, pictures, nats = {}, {}, {}
    with Progress(transient=True, console=Console(stderr=True)) as progress:
        for task in progress.track(tasks, description="tasks"):
            sat, nats[task.name], answers = _sit(model, task, asked, counts, answer_shots)
            reports[task.name] = _task_report(sat, nats[task.name], answers, judge)
            pictures[task.name] = _shown(sat, answers, answer_shots)
    trained = _together({name: report for name, report in reports.items() if not report.held_out}, nats)
    return Report(names=names, shots=tuple(counts), answer_shots=answer_shots, seed=seed, tasks=reports,
                  trained=trained, pictures=pictures)


def losses(nats: dict[int, Tensor]) -> dict[str, dict]:
    """Means of nats, by shots, and what each shot count saves over the one before it.

    Args:
        nats: Shots, rising -> (q, t) nats of the same answers' tokens.

    Returns:
        "nats" and "gains" as in `TaskReport`.
    """
    row = math.isqrt(next(iter(nats.values())).shape[1])
    parts = {"answer": {count: found.mean(1) for count, found in nats.items()},
             "first_row": {count: found[:, :row].mean(1) for count, found in nats.items()}}
    means = {part: {str(count): float(each.mean()) for count, each in by.items()}
             for part, by in parts.items()}
    steps = list(zip(nats, [*nats][1:], strict=False))
    gains = {part: {f"{few} to {many}": _mean_and_error(by[few] - by[many]) for few, many in steps}
             for part, by in parts.items()}
    return {"nats": means, "gains": gains}


def sheet(pictures: dict[str, Tensor]) -> Tensor:
    """(3, H, W): the pictures of a report, tasks in their order; a wider gap parts prompts from answers."""
    rows = torch.cat([*pictures.values()])  # (r, i, c, h, w)
    grid = torch.nn.functional.pad(rows, (0, GAP, 0, GAP), value=0.5)
    prompts, answers = grid[:, :-2], grid[:, -2:]
    gap = torch.full((3, len(rows) * grid.shape[-2], 2 * GAP), 0.5)
    parts = [rearrange(part, "r i c h w -> c (r h) (i w)") for part in (prompts, answers)]
    return torch.cat([parts[0], gap, parts[1]], dim=2)


def _sit(
    model: LVM, task: Task, asked: Questions, counts: list[int], answer_shots: int, batch: int = 25
) -> tuple[Exam, dict[int, Tensor], Tensor]:
    """The exam of one task, nats (q, t) of right answers by shots, and pictures (q, 3, h, w) of answers."""
    sat = exam(task, asked, model.tokenizer)
    device, nats = model.gpt.embed.weight.device, {}
    for count in counts:
        parts = sat.sentences(count).to(device).split(batch)
        if count == answer_shots:
            both = [nats_and_answers(model.gpt, model.layout, part) for part in parts]
            nats[count], ids = (torch.cat(found).cpu() for found in zip(*both, strict=True))
        else:
            nats[count] = torch.cat([answer_nats(model.gpt, model.layout, part) for part in parts]).cpu()
    grids = rearrange(ids, "q (i j) -> q i j", i=math.isqrt(model.layout.tokens))
    return sat, nats, decode(model.tokenizer, grids)


def _task_report(sat: Exam, nats: dict[int, Tensor], answers: Tensor, judge: KindClassifier) -> TaskReport:
    rivals = Counter(name for names in sat.fit for name in sorted(names - {sat.task.name}))
    return TaskReport(
        kind=sat.task.kind, held_out=sat.task.held_out, rivals=dict(rivals), **losses(nats),
        judge=kind_right(sat, sat.pairs[sat.asked, 1], judge),
        scores={name: scores(sat, found, judge) for name, found in sat.contenders(answers).items()},
    )


def _together(reports: dict[str, TaskReport], nats: dict[str, dict[int, Tensor]]) -> dict[str, dict | float]:
    """Nats, gains and scores of several tasks as one, each task counting alike; nothing of no task."""
    if not reports:
        return {}
    counts = next(iter(nats.values()))
    # Question by question, because the same drawings are asked about in all tasks: errors go together.
    mean = {count: torch.stack([nats[name][count] for name in reports]).mean(0) for count in counts}
    found = losses(mean)
    for score, kind in (("kind", None), ("content", "style"), ("iou", "mask")):
        values = [report.scores["answer"][score] for report in reports.values()
                  if score in report.scores["answer"] and kind in (None, report.kind)]
        found |= {score: sum(values) / len(values)} if values else {}
    return found | {"judge": sum(report.judge for report in reports.values()) / len(reports)}


def _shown(sat: Exam, answers: Tensor, shots: int, rows: int = 3) -> Tensor:
    """(r, 2 shots + 3, 3, h, w) of the first questions: pairs, query, answer, right answer."""
    shown = sat.pairs[sat.shown[:rows, sat.shown.shape[1] - shots :]]  # (r, shots, 2, 3, h, w)
    query, right = sat.pairs[sat.asked[:rows]].unbind(1)
    return torch.cat([shown.flatten(1, 2), torch.stack([query, answers[:rows], right], dim=1)], dim=1)


def _mean_and_error(values: Tensor) -> tuple[float, float]:
    return float(values.mean()), float(values.std() / math.sqrt(len(values)))


def show(report: Report, console: Console) -> None:
    """Print a table of losses and a table of scores; held-out tasks are marked with a star."""
    rows = {name + " *" * task.held_out: asdict(task) for name, task in report.tasks.items()}
    means = {"trained tasks": report.trained} if report.trained else {}
    console.print(_table_of_losses(rows | means, report))
    console.print(_table_of_scores(rows, report))
    parts = [f"{name} {report.trained[name]:.3f}" for name in ("kind", "content", "iou", "judge")
             if name in report.trained]
    console.print(f"Trained tasks: {', '.join(parts)} (content of style tasks; judge: kind of real pairs). "
                  "* held out of training.")


def _table_of_losses(rows: dict[str, dict], report: Report) -> Table:
    counts = [str(count) for count in report.shots]
    steps = [f"{few} to {many}" for few, many in zip(counts, counts[1:], strict=False)]
    title = ("Nats per token of the right answer by shots: its first row, what shots save there (± standard "
             f"error), all of it; {report.names} questions a task")
    table = _table(title, [f"row\n{count}" for count in counts] + [f"row\n{step}" for step in steps]
                   + [f"all\n{count}" for count in counts])
    for name, found in rows.items():
        gains = [f"{mean:+.3f} ±{error:.3f}" for mean, error in found["gains"]["first_row"].values()]
        nats = {part: [f"{by[count]:.2f}" for count in counts] for part, by in found["nats"].items()}
        table.add_row(name, *nats["first_row"], *gains, *nats["answer"])
    return table


def _table_of_scores(rows: dict[str, dict], report: Report) -> Table:
    title = (f"Greedy answers at {report.answer_shots} shots: a answer, r round trip of the right one, "
             "q copy of the query, l copy of the last answer shown")
    table = _table(title, [f"{score}\n{short}" for score, contenders, _ in SCORES for short in contenders])
    for name, found in rows.items():
        marks = [(found["scores"][CONTENDERS[contender]].get(score), form)
                 for score, contenders, form in SCORES for contender in contenders]
        table.add_row(name, *(form.format(mark) if mark is not None else "" for mark, form in marks))
    return table


def _table(title: str, columns: Sequence[str]) -> Table:
    table = Table(title=title, title_justify="left", box=box.SIMPLE_HEAD, padding=(0, 1, 0, 0))
    table.add_column("task", no_wrap=True)
    for column in columns:
        table.add_column(column, justify="right", no_wrap=True)
    return table


def main(argv: Sequence[str] | None = None) -> None:
    """`vqtok evaluate lvm`: prints the tables, and writes report.json and sheet.png."""
    about = "Measure a large vision model on names that it never saw."
    parser = argparse.ArgumentParser("vqtok evaluate lvm", description=about)
    add = parser.add_argument
    add("--model", default=DEFAULT_WEIGHTS, help="folder or hub id; the shipped weights unless given")
    add("--judge", default=DEFAULT_KIND, help="classifier of kinds; the shipped one unless given")
    add("--names", type=int, default=100, help="drawings asked about, once a task [%(default)s]")
    add("--shots", type=int, nargs="+", default=(0, 1, 3), help="pairs shown, for the losses [0 1 3]")
    add("--answer-shots", type=int, default=3, help="pairs shown, for generated answers [%(default)s]")
    add("--seed", type=int, default=0, help="of the questions [%(default)s]")
    add("--out", type=Path, default=Path("runs/evaluate-lvm"), help="folder for the files [%(default)s]")
    arguments = parser.parse_args(argv)
    device = "cuda" if torch.cuda.is_available() else "cpu"
    report = evaluate(
        LVM.from_pretrained(arguments.model).to(device),
        names=arguments.names, shots=arguments.shots, seed=arguments.seed,
        tasks=PAIR_TASKS, answer_shots=arguments.answer_shots,
        judge=KindClassifier.from_pretrained(arguments.judge).to(device),
    )
    show(report, Console(width=max(WIDTH, Console().width)))
    arguments.out.mkdir(parents=True, exist_ok=True)
    write_file(arguments.out / "report.json", (json.dumps(report.facts(), indent=1) + "\n").encode())
    write_picture(arguments.out / "sheet.png", sheet(report.pictures))
    print(f"{arguments.out}/report.json, {arguments.out}/sheet.png: three lines a task, in the order of the "
          "tables, of pairs, query, answer and right answer")


if __name__ == "__main__":
    main()
