"""What an evaluation of a large vision model found, as numbers, as tables, and as a sheet of pictures.

Letters: c h w image; r rows of a sheet, i pictures in a row.
"""

import math
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass, field

import torch
from einops import rearrange
from rich import box
from rich.console import Console
from rich.table import Table
from torch import Tensor

GAP = 2  # pixels between the pictures of a sheet
WIDTH = 120  # letters in a line of the tables
SHUFFLED, WRONG = "shuffled answers", "wrong-task prompt"
CONTENDERS = {"a": "answer", "r": "round trip", "q": "copy query", "l": "copy last answer",
              "s": SHUFFLED, "w": WRONG}
MARKS = (("kind", "ar", "{:.2f}"), ("content", "ar", "{:.2f}"), ("mse", "ar", "{:.4f}"),
         ("psnr", "ar", "{:.1f}"), ("lpips", "ar", "{:.3f}"))
FLOORS = (("kind", "qlsw", "{:.2f}"), ("content", "qsw", "{:.2f}"), ("psnr", "qlsw", "{:.1f}"))
OVERLAPS = (("iou", "arqlsw", "{:.2f}"), ("iou_class", "ar", "{:.2f}"), ("iou_box", "arlsw", "{:.2f}"))
HEADS = {"iou_class": "cls", "iou_box": "box"}
Column = tuple[str, str, str]  # score, letters of contenders, form of the numbers


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
        scores: What `lvm.marks.scores` gives, of the answers, the round trip, and the floors.
        perplexity: Of the right answer, by `corpus` (exp of the mean nats of all tokens) or
            `mean_of_examples` (mean over questions of exp of an answer's mean nats), then by shots.
        misled: Floor by a misleading prompt -> `answer` and `first_row` in nats, and both perplexities.
        wrong_task: Of the wrong-task prompt, the `task` it shows; `follows`, the share of answers whose kind
            is of that task; and the `judge`'s share of that task's right answers.
    """

    kind: str
    held_out: bool
    rivals: dict[str, int]
    nats: dict[str, dict[str, float]]
    gains: dict[str, dict[str, tuple[float, float]]]
    judge: float
    scores: dict[str, dict[str, float]]
    perplexity: dict[str, dict[str, float]] = field(default_factory=dict)
    misled: dict[str, dict[str, float]] = field(default_factory=dict)
    wrong_task: dict[str, str | float] = field(default_factory=dict)


@dataclass(frozen=True, kw_only=True)
class Report:
    """What was found on all tasks.

    Args:
        names: Questions of every task.
        shots: Pairs before a query, for the losses.
        answer_shots: The same for the answers.
        guidance: Of the answers.
        seed: Of the questions.
        tasks: By name.
        trained: The tasks of training taken together: nats, gains, perplexities, and means of the answers'
            scores: `kind`, `content` of the style tasks, `iou` of the masks; `follows`; the judge's own.
        pictures: Task -> (r, 2 answer_shots + 3, 3, h, w): pairs shown, query, answer, right answer. Not in
            the JSON.
        stalls: Trained task -> step as "1 to 2" -> gain and standard error, where a shot does not lower the
            first row's loss; empty if every added shot does on every trained task.
        lpips: The network it is measured through, or why it is not.
    """

    names: int
    shots: tuple[int, ...]
    answer_shots: int
    guidance: float
    seed: int
    tasks: dict[str, TaskReport]
    trained: dict[str, dict | float]
    pictures: dict[str, Tensor] = field(repr=False)
    stalls: dict[str, dict[str, tuple[float, float]]] = field(default_factory=dict)
    lpips: str = "none: not asked for"

    def facts(self) -> dict:
        """All but the pictures, ready for JSON."""
        numbers = {name: value for name, value in vars(self).items() if name not in ("tasks", "pictures")}
        return numbers | {"tasks": {name: asdict(task) for name, task in self.tasks.items()}}


def sheet(pictures: dict[str, Tensor]) -> Tensor:
    """(3, H, W): the pictures of a report, tasks in their order; a wider gap parts prompts from answers."""
    rows = torch.cat([*pictures.values()])  # (r, i, c, h, w)
    grid = torch.nn.functional.pad(rows, (0, GAP, 0, GAP), value=0.5)
    prompts, answers = grid[:, :-2], grid[:, -2:]
    gap = torch.full((3, len(rows) * grid.shape[-2], 2 * GAP), 0.5)
    parts = [rearrange(part, "r i c h w -> c (r h) (i w)") for part in (prompts, answers)]
    return torch.cat([parts[0], gap, parts[1]], dim=2)


def show(report: Report, console: Console) -> None:
    """Print losses, perplexities, marks, overlaps, floors and a summary; held-out tasks have a star."""
    rows = {name + " *" * task.held_out: asdict(task) for name, task in report.tasks.items()}
    means = {"trained tasks": report.trained} if report.trained else {}
    masks = {name: found for name, found in rows.items() if "iou" in found["scores"]["answer"]}
    letters = ", ".join(f"{letter} {name}" for letter, name in CONTENDERS.items())
    guided = "" if report.guidance == 1 else f", guided by {report.guidance:g}"
    console.print(f"{report.names} questions a task; answers are greedy{guided}, after {report.answer_shots} "
                  f"pairs. * held out of training.\n{letters}.\n", highlight=False)
    console.print(_losses(rows | means, report))
    console.print(_perplexities(rows | means, report))
    console.print(_scores("Answers, and the round trip of the right ones", rows, MARKS))
    console.print(_scores("Floors", rows, FLOORS))
    if masks:
        title = "Overlap of masks: iou of images; cls of foreground and background of the set; of boxes"
        console.print(_scores(title, masks, OVERLAPS))
    if any(found["wrong_task"] for found in rows.values()):
        console.print(_wrong_tasks(rows))
    for line in _summary(report):
        console.print(line, highlight=False)


def _losses(rows: dict[str, dict], report: Report) -> Table:
    counts = [str(count) for count in report.shots]
    steps = [f"{few} to {many}" for few, many in zip(counts, counts[1:], strict=False)]
    title = "Nats per token of the right answer's first row, by shots; what shots save (± standard error)"
    table = _table(title, [f"row\n{count}" for count in counts] + [f"row\n{step}" for step in steps])
    for name, found in rows.items():
        nats = [f"{found['nats']['first_row'][count]:.2f}" for count in counts]
        gains = [f"{mean:+.3f} ±{error:.3f}" for mean, error in found["gains"]["first_row"].values()]
        table.add_row(name, *nats, *gains)
    return table


def _perplexities(rows: dict[str, dict], report: Report) -> Table:
    counts, misled = [str(count) for count in report.shots], {"s": SHUFFLED, "w": WRONG}
    kinds = {"all": "corpus", "mean": "mean_of_examples"}
    title = "Perplexity of right answers by shots: all as one corpus (exp of mean nats); mean of examples"
    table = _table(title, [f"{short}\n{head}" for short in kinds for head in (*counts, *misled)])
    for name, found in rows.items():
        cells = []
        for kind in kinds.values():
            cells += [found["perplexity"][kind][count] for count in counts]
            cells += [found.get("misled", {}).get(floor, {}).get(kind) for floor in misled.values()]
        table.add_row(name, *(_three_digits(cell) if cell is not None else "" for cell in cells))
    return table


def _three_digits(value: float) -> str:
    """At least as many, of a number from 1."""
    return f"{value:.{max(0, 2 - int(math.log10(value)))}f}"


def _scores(title: str, rows: dict[str, dict], columns: Iterable[Column]) -> Table:
    """A column for each score of each contender, but those of which nothing was measured."""
    found = {
        f"{HEADS.get(score, score)}\n{letter}": [
            (each["scores"].get(CONTENDERS[letter], {}).get(score), form) for each in rows.values()
        ]
        for score, letters, form in columns for letter in letters
    }
    full = {head: cells for head, cells in found.items() if any(mark is not None for mark, _ in cells)}
    table = _table(title, [*full])
    for name, cells in zip(rows, zip(*full.values(), strict=True), strict=True):
        table.add_row(name, *(form.format(mark) if mark is not None else "" for mark, form in cells))
    return table


def _wrong_tasks(rows: dict[str, dict]) -> Table:
    title = ("Wrong-task prompts: whose pairs were shown; shares of answers of that task's kind, here and "
             "where it is the right one; of its right answers; of answers of the usual kind")
    table = _table(title, ["shown", "follows", "right", "judge", "usual"])
    for name, found in rows.items():
        if wrong := found["wrong_task"]:
            own = rows[wrong["task"]]["scores"]["answer"]["kind"] if wrong["task"] in rows else None
            shares = wrong["follows"], own, wrong["judge"], found["scores"][WRONG]["kind"]
            cells = ("" if share is None else f"{share:.2f}" for share in shares)
            table.add_row(name, wrong["task"], *cells)
    return table


def _table(title: str, columns: Sequence[str]) -> Table:
    table = Table(title=title, title_justify="left", box=box.SIMPLE_HEAD, padding=(0, 1, 0, 0))
    table.add_column("task", no_wrap=True)
    for column in columns:
        table.add_column(column, justify="right", no_wrap=True)
    return table


def _summary(report: Report) -> list[str]:
    names = ("kind", "content", "iou", "follows", "judge")
    parts = [f"{name} {report.trained[name]:.3f}" for name in names if name in report.trained]
    told = f"Trained tasks: {', '.join(parts)} (content of style tasks; judge: kind of real pairs)."
    lines = [told] if parts else []
    stalls = [f"{name}, {step}: {mean:+.3f} ±{error:.3f}" for name, steps in report.stalls.items()
              for step, (mean, error) in steps.items()]
    if stalls:
        lines.append(f"A shot does not lower the first row's loss in: {'; '.join(stalls)}.")
    elif parts and len(report.shots) > 1:
        lines.append("Every added shot lowers the first row's loss in every trained task.")
    return [*lines, f"LPIPS: {report.lpips}."]
