"""`vqtok demo`: prompts the shipped model, trains small ones from scratch, and writes one page about both.

Everything it writes lies under one folder: `index.html`, and `runs/` with what was trained. A demo that was
stopped goes on where it was; one whose training is done only looks at it again.

Letters: r rows of a sheet, c h w image.
"""

import time
from collections.abc import Sequence
from pathlib import Path

from PIL import Image
from rich.console import Console

from lvm import LVM
from lvm.evaluate import Job, evaluate
from lvm.kind import KindClassifier
from lvm.report import Report, TaskReport
from lvm.tasks import PAIR_TASKS, named
from vqtok.data.emoji import SPLITS, load_emoji
from vqtok.training.journal import read_rows
from workbench.curves import Points, chart
from workbench.page import charts, facts, figure, folded, heading, paragraph, table, write_page
from workbench.sheets import sheet
from workbench.stages import ROOT, Runs, Settings, train

SEED = 17  # of the questions; with it the first drawing looks different mirrored or turned, so all tasks show
CHARTED = ("shaded to flat", "shaded to mask", "find the hole", "invert")  # tasks that differ in difficulty
TITLE = "vqtok: a large vision model, small enough to watch"


def demo(out: Path, quick: bool = False, settings: Settings | None = None) -> None:
    """Write `out`/index.html, first about the shipped model, then also about one that is trained here.

    Args:
        out: Receives everything that is written.
        quick: Only prompt the shipped model.
        settings: What is asked and trained.

    Raises:
        ValueError: if weights or recipes are missing or damaged.
        ChildProcessError: if a training stops with an error, which it has told by then.
    """
    settings, console, page = settings or Settings(), Console(), out / "index.html"
    console.rule("the shipped model, prompted with emoji it has never seen")
    parts = shipped(settings)
    write_page(page, TITLE, *parts)
    if not quick:
        runs = train(out / "runs", settings, console)
        console.rule("what the trained model answers")
        parts += trained(runs, settings)
        write_page(page, TITLE, *parts)
    console.print(f"The page is {page.resolve()}", soft_wrap=True)


def shipped(settings: Settings) -> list[str]:
    """The page's part about the shipped model."""
    report, seconds = examine(settings.model, settings)
    names = {split: f"{len(load_emoji(split)):,}" for split in SPLITS}
    return [
        paragraph(
            "A picture becomes 64 tokens. A transformer reads pairs of before and after, then a query, and "
            "writes the tokens of the answer. Nobody tells it the task: the pairs do."
        ),
        heading("The shipped model on unseen emoji"),
        paragraph(
            f"It was trained on {names['train']} names. What follows is made of {names['test']} others, none "
            "a look-alike of one in training. Tasks marked `*` were kept from training too."
        ),
        *results(report),
        facts(
            f"{len(report.tasks) * report.names:,} greedy answers of `{_short(settings.model)}` took "
            f"{seconds:.0f} s. `vqtok evaluate lvm` asks about 100 names a task."
        ),
    ]


def trained(runs: Runs, settings: Settings) -> list[str]:
    """The page's part about the models that were trained here."""
    report, _ = examine(runs.lvm / "model", settings)
    tokenizer, lvm = read_rows(runs.tokenizer), read_rows(runs.lvm)
    took = [f" {name}: {seconds:.0f} s." for name, seconds in runs.seconds.items()]
    pictures = sorted((runs.tokenizer / "pictures").glob("*.png"))
    return [
        heading("The same, trained here from scratch"),
        paragraph(
            f"First a tokenizer, by `{_short(settings.tokenizer)}`. It learns to give pictures back through "
            "its codes."
        ),
        figure(Image.open(pictures[-1]), "Rows of unseen emoji, each above what the tokenizer gives back"),
        charts(*tokenizer_charts(tokenizer)),
        paragraph(
            f"Then a transformer on its tokens, by `{_short(settings.lvm)}`. Its loss on unseen emoji falls. "
            "What pairs before the query are worth is the distance between the lines of the second chart."
        ),
        charts(*lvm_charts(lvm)),
        paragraph(
            "A few minutes teach it the kind of some answers, and little content. A blank answer is the "
            "likeliest token again and again, where it knows no better."
        ),
        *results(report),
        facts(f"The runs lie in `{runs.lvm.parent}`.{''.join(took)}"),
    ]


def examine(model: Path | str, settings: Settings) -> tuple[Report, float]:
    """The evaluation of a model at as many shots as fit, up to three, and the seconds it took."""
    began = time.monotonic()
    loaded = LVM.from_pretrained(model)
    most = min(3, loaded.shots)
    shots = [count for count in (0, 1, 3) if count <= most]
    judge = KindClassifier.from_pretrained(settings.judge)
    learned = named(settings.tasks)
    asked = [task for task in PAIR_TASKS if task in learned or task.held_out]
    job = Job(names=settings.names, shots=shots, answer_shots=most, seed=SEED, floors=False)
    report = evaluate(loaded, job, asked, judge)
    return report, time.monotonic() - began


def results(report: Report) -> list[str]:
    """Contact sheet and table of one model."""
    pairs, more = report.answer_shots, range(1, min(map(len, report.pictures.values())))
    return [
        figure(
            contact_sheet(report),
            f"One question of every task: {pairs} pairs, the query, the model's answer, and the truth. "
            "* kept from training",
        ),
        *(
            folded(f"another question of every task ({row})", figure(contact_sheet(report, row), "As above"))
            for row in more
        ),
        table(
            *scores_table(report),
            "Nats per token of the right answer's first row, by pairs before the query; then of greedy "
            f"answers after {pairs} pairs: share of the right kind, share nearest to its own target among "
            f"{report.names}, mean overlap of masks, PSNR in dB beside its ceiling (the right answer through "
            "the tokenizer) and its floor (a copy of the query).",
        ),
    ]


def contact_sheet(report: Report, row: int = 0) -> Image.Image:
    """A row for every task: pairs, query, answer, truth, each under its title; of question number `row`."""
    rows = [list(pictures[row]) for pictures in report.pictures.values()]
    titles = [f"{letter}{number}" for number in range(1, report.answer_shots + 1) for letter in "xy"]
    labels = [_label(name, report.tasks[name]) for name in report.pictures]
    return sheet(rows, labels, [*titles, "query", "answer", "truth"])


def scores_table(report: Report) -> tuple[list[str], list[list[str]]]:
    """Titles and rows, one for every task."""
    shots = [str(count) for count in report.shots]
    titles = [
        "task",
        *(f"{count} pairs" if count != "1" else "1 pair" for count in shots),
        "kind",
        "content",
        "overlap",
        "PSNR",
        "ceiling",
        "floor",
    ]
    return titles, [_scores(_label(name, task), task, shots) for name, task in report.tasks.items()]


def tokenizer_charts(rows: Sequence[dict]) -> list[str]:
    """Loss and held-out PSNR of a tokenizer's run."""
    styles = {name: points(rows, f"psnr/{name}") for name in ("shaded", "flat", "line")}
    return [
        chart({"training": points(rows, "loss")}, "Tokenizer: loss", "step", "weighted error"),
        chart(styles, "Tokenizer: unseen emoji", "step", "PSNR, dB"),
    ]


def lvm_charts(rows: Sequence[dict]) -> list[str]:
    """Loss of a model's run; held-out loss of the same answers without and with pairs, and of some tasks."""
    first = {f"{count} pairs": points(rows, f"validation/first_row/{count}_shots") for count in (0, 3)}
    tasks = {name: points(rows, f"validation/task/{name}") for name in CHARTED}
    both = {"training": points(rows, "loss"), "held out": points(rows, "validation/loss")}
    return [
        chart(both, "Transformer: loss of answers", "step", "nats per token"),
        chart(first, "Held out: first row of the same answers", "step", "nats per token"),
        chart(tasks, "Held out: all of the answer, after three pairs", "step", "nats per token"),
    ]


def points(rows: Sequence[dict], name: str) -> Points:
    """(step, value) wherever a run logged `name`."""
    return [(row["step"], row[name]) for row in rows if row.get(name) is not None]


def _scores(label: str, task: TaskReport, shots: Sequence[str]) -> list[str]:
    """One task's cells."""
    answer, copy, ceiling = (task.scores[name] for name in ("answer", "copy query", "round trip"))
    shares = [f"{answer[name]:.0%}" if name in answer else "" for name in ("kind", "content")]
    return [
        label,
        *(f"{task.nats['first_row'][count]:.2f}" for count in shots),
        *shares,
        f"{answer['iou']:.2f}" if "iou" in answer else "",
        *(f"{marks['psnr']:.1f}" for marks in (answer, ceiling, copy)),
    ]


def _label(name: str, task: TaskReport) -> str:
    return f"{name} *" if task.held_out else name


def _short(path: Path | str) -> str:
    """As seen from the checkout, if it lies there."""
    return str(Path(path).relative_to(ROOT)) if Path(path).is_relative_to(ROOT) else str(path)
