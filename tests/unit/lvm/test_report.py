"""The report as tables: all that was found, on lines that fit a screen, and what was not found left out."""

import io
from dataclasses import replace

from rich.console import Console

from lvm.report import SHUFFLED, WIDTH, WRONG, Report, TaskReport, show


def printed(report: Report) -> str:
    """The tables as text."""
    out = io.StringIO()
    show(report, Console(file=out, width=WIDTH))
    return out.getvalue()


def test_tables_fit_a_screen(report: Report):
    """Every task and mean is there, held-out tasks with a star, in lines of at most 120 letters."""
    tasks = report.tasks | {"hue turned, held-out members": report.tasks["shaded to mask"]}
    text = printed(replace(report, tasks=tasks))
    assert all(line.isascii() or "±" in line or "─" in line for line in text.splitlines())
    assert "upend *" in text and "trained tasks" in text and "…" not in text
    assert max(map(len, text.splitlines())) <= WIDTH


def test_everything_measured_has_its_table(report: Report):
    """Losses, perplexities by both means, marks, floors, overlaps of masks alone, wrong tasks, and LPIPS."""
    text = " ".join(printed(report).split())
    for words in ("first row, by shots", "exp of mean nats", "Answers, and the round trip", "Floors",
                  "Overlap of masks", "Wrong-task prompts", "s shuffled answers", "w wrong-task prompt",
                  "box", "LPIPS: none: not asked for."):
        assert words in text, words
    overlap = text[text.index("Overlap of masks") : text.index("Wrong-task prompts:")]
    assert "shaded to mask" in overlap and "invert" not in overlap
    shown = report.tasks["shaded to line"].wrong_task["task"]
    assert text.count(f"shaded to line {shown} ") == 1
    assert "lpips" not in text  # no column without its network
    measured = {
        name: replace(task, scores={who: marks | {"lpips": 0.125} for who, marks in task.scores.items()})
        for name, task in report.tasks.items()
    }
    assert "0.125" in printed(replace(report, tasks=measured, lpips="alex"))


def test_what_was_not_asked_has_no_column(report: Report):
    """Without misleading prompts there are neither their columns nor their table."""

    def bare(task: TaskReport) -> TaskReport:
        scores = {name: marks for name, marks in task.scores.items() if name not in (SHUFFLED, WRONG)}
        return replace(task, scores=scores, misled={}, wrong_task={})

    text = printed(replace(report, tasks={name: bare(task) for name, task in report.tasks.items()}))
    assert "Wrong-task prompts:" not in text and "Floors" in text


def test_shots_that_do_not_help_are_told(report: Report):
    """By task and step, or that there is none."""
    stalled = replace(report, stalls={"invert": {"1 to 2": (-0.012, 0.034)}})
    assert "does not lower the first row's loss in: invert, 1 to 2: -0.012 ±0.034." in printed(stalled)
    assert "Every added shot lowers" in printed(replace(report, stalls={}))
