"""`vqtok evaluate lvm`: the evaluation's report, and curves drawn of it."""

import json
from pathlib import Path

import pytest
from PIL import Image

from workbench import panels, shots


def task(held_out: bool, height: float) -> dict:
    """A task's losses by shots, as in the report."""
    return {"held_out": held_out, "nats": {part: {"0": height, "1": 1.0, "3": 0.5} for part in shots.PARTS}}


def test_trained_and_held_out_tasks_stand_apart(monkeypatch: pytest.MonkeyPatch):
    """First rows above whole answers, a line a task, by number of pairs."""
    drawn = []
    monkeypatch.setattr(shots, "panels", lambda rows: drawn.extend(rows))
    shots.curves({"tasks": {"a": task(False, 2.0), "b": task(True, 3.0), "c": task(False, 4.0)}})
    assert [[[*panel.lines] for panel in row] for row in drawn] == [[["a", "c"], ["b"]]] * 2
    assert drawn[0][0].lines["c"] == [(0, 4.0), (1, 1.0), (3, 0.5)]
    assert "first row" in drawn[0][0].title and "all of it" in drawn[1][0].title


def test_the_curves_stand_beside_the_report(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
):
    """Options reach the evaluation; what it wrote is drawn; without held-out tasks there is one column."""
    received = []

    def evaluate(argv: list[str]) -> Path:
        received.extend(argv)
        (tmp_path / "report.json").write_text(json.dumps({"tasks": {"a": task(False, 2.0)}}))
        return tmp_path / "report.json"

    monkeypatch.setattr(shots, "evaluate", evaluate)
    shots.main(["--names", "2"])
    assert received == ["--names", "2"] and "curves.png" in capsys.readouterr().out
    with Image.open(tmp_path / "curves.png") as picture:
        assert picture.size == (panels.WIDTH, 2 * panels.LEAST)
