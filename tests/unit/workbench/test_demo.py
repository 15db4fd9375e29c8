"""What the demo's page says is what the evaluation found."""

import numpy as np
import pytest
import torch
from PIL import Image

from lvm.report import Report, TaskReport
from lvm.tasks import TASKS
from workbench.demo import contact_sheet, lvm_charts, points, scores_table, tokenizer_charts


@pytest.fixture
def report() -> Report:
    """Two tasks, one kept from training; their pictures are of one gray each, by row and column."""

    def task(kind: str, held_out: bool, **more: float) -> TaskReport:
        marks = {"kind": 0.75, "content": 0.5, "psnr": 20.0} | more
        scores = {"answer": marks, "round trip": {"psnr": 25.0}, "copy query": {"psnr": 15.0}}
        nats = {"first_row": {"0": 3.0, "1": 2.0, "2": 1.0}}
        return TaskReport(
            kind=kind, held_out=held_out, rivals={}, nats=nats, gains={}, judge=1.0, scores=scores
        )

    tasks = {"invert": task("color", False), "find": task("mask", True, iou=0.875)}
    grays = torch.linspace(0, 1, 28).view(2, 2, 7, 1, 1, 1).expand(-1, -1, -1, 3, 8, 8)
    pictures = dict(zip(tasks, grays, strict=True))
    return Report(
        names=4, shots=(0, 1, 2), answer_shots=2, guidance=1.0, seed=0, tasks=tasks, trained={},
        pictures=pictures,
    )


def test_every_picture_is_on_the_sheet(report: Report) -> None:
    """The question asked for is there, all pictures of it, and no other's."""
    for row in range(2):
        shades = {int(shade) for shade in np.unique(np.asarray(contact_sheet(report, row).convert("L")))}
        wanted, other = (
            {
                round(float(gray) * 255)
                for pictures in report.pictures.values()
                for gray in pictures[which, :, 0, 0, 0]
            }
            for which in (row, 1 - row)
        )
        assert wanted <= shades
        assert len(other & shades) < len(other)


def test_the_table_has_a_cell_for_every_figure(report: Report) -> None:
    """A task a row; what it has no figure for stays empty; a star marks what was kept from training."""
    titles, rows = scores_table(report)
    assert titles == [
        "task", "0 pairs", "1 pair", "2 pairs", "kind", "content", "overlap", "PSNR", "ceiling", "floor",
    ]  # fmt: skip
    assert rows == [
        ["invert", "3.00", "2.00", "1.00", "75%", "50%", "", "20.0", "25.0", "15.0"],
        ["find *", "3.00", "2.00", "1.00", "75%", "50%", "0.88", "20.0", "25.0", "15.0"],
    ]


def test_curves_take_what_was_logged() -> None:
    """Rows that lack a figure are passed over, and so are null ones."""
    rows = [{"step": 1, "loss": 3.0}, {"step": 2, "psnr/flat": 20.0}, {"step": 3, "loss": None}]
    assert points(rows, "loss") == [(1, 3.0)]


def test_charts_of_a_run() -> None:
    """Losses and figures under the names that the trainers log give five charts."""
    tokenizer = [{"step": 1, "loss": 1.0, "psnr/shaded": 20.0, "psnr/flat": 19.0, "psnr/line": 18.0}]
    tasks = {f"validation/task/{task.name}": 2.5 for task in TASKS}
    shots = {"validation/first_row/0_shots": 3.0, "validation/first_row/3_shots": 2.0}
    lvm = [{"step": 1, "loss": 2.0, "validation/loss": 2.5, **shots, **tasks}]
    drawn = [*tokenizer_charts(tokenizer), *lvm_charts(lvm)]
    assert [chart.count("<polyline") for chart in drawn] == [1, 3, 2, 2, 4]


def test_a_sheet_is_an_image(report: Report) -> None:
    """Titles and labels make it larger than its pictures."""
    sheet = contact_sheet(report)
    assert isinstance(sheet, Image.Image)
    assert sheet.width > 7 * 16
