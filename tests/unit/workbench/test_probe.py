"""`vqtok probe`: a table with the chosen layer, a report, and a curve that can be looked at."""

import json
from pathlib import Path
from xml.etree import ElementTree

import pytest

from imagegpt.probe import Job
from workbench import probe

REPORT = {
    "model": "m", "solver": "sgd", "classes": 10, "train_pictures": 9000, "test_pictures": 100, "width": 8,
    "layer": 1, "test": 0.8,
    "layers": [
        {"held_out": 0.5, "test": 0.45, "setting": 1.0},
        {"held_out": 0.82, "test": 0.8, "setting": 1e-3},
    ],
    "pixels": {"held_out": 0.7, "test": 0.66, "setting": 0.1},
}  # fmt: skip


def test_the_curve_stands_alone():
    """It is an SVG file of its own, with its colors and the test accuracies in percent."""
    svg = probe.curve(REPORT)
    root = ElementTree.fromstring(svg)
    assert root.tag == "{http://www.w3.org/2000/svg}svg"
    assert "--line-1:" in root.find("{http://www.w3.org/2000/svg}style").text
    titles = [title.text for title in root.iter("{http://www.w3.org/2000/svg}title")]
    assert titles == ["features: 45 at 0", "features: 80 at 1", "pixels: 66 at 0", "pixels: 66 at 1"]
    assert "Linear probe, 9,000 pictures of 10 classes" in svg


def test_the_command(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]):
    """Options reach the probe; the chosen layer is marked; files are written and named."""
    jobs = []
    monkeypatch.setattr(probe, "probe", lambda job: jobs.append(job) or REPORT)
    words = f"--model m --train a --test b --count 9 --solver sgd --steps 7 --out {tmp_path}"
    probe.main(words.split())
    assert jobs == [Job(model="m", train=Path("a"), test=Path("b"), count=9, solver="sgd", steps=7)]
    printed = capsys.readouterr().out
    assert "1 *" in printed and "80.00" in printed and "80.00% of the test are right" in printed
    assert json.loads((tmp_path / "report.json").read_text()) == REPORT
    assert (tmp_path / "curve.svg").read_text() == probe.curve(REPORT)
