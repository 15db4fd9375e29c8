"""The protocols from folder to report: right answers get full marks, floors theirs, the command says so."""

import io
import json
from pathlib import Path

import pytest
import torch
from rich.console import Console

from lvm.model import LVM
from lvm.protocols import evaluate as protocols
from lvm.protocols.evaluate import Report, evaluate, main, marker, show
from lvm.protocols.marks import class_ious, color_errors, means, overlap
from lvm.protocols.pairs import masks_of, white_on_black
from lvm.protocols.pools import colorization, detection, questions, segmentation
from lvm.protocols.voc import Voc
from vqtok.data.pictures import read_picture
from vqtok.metrics.images import iou
from workbench import cli


def oracle(monkeypatch: pytest.MonkeyPatch) -> None:
    """A model and a tokenizer without fault in the place of the tiny ones."""
    monkeypatch.setattr(protocols, "_answered", lambda model, sentences: (sentences[:, -1], sentences[:, -1]))


@pytest.mark.parametrize("protocol", ["segmentation", "detection"])
def test_right_answers_get_full_marks(
    miniature: Path, model: LVM, monkeypatch: pytest.MonkeyPatch, protocol: str
):
    """IoU 1 by both means, and less for the floors; white has the share of the object."""
    oracle(monkeypatch)
    voc = Voc(miniature)
    pools = segmentation(voc, 64, folds=(1,)) if protocol == "segmentation" else detection(voc, 64)
    report = evaluate(model, protocol, pools, count=7, seed=0)
    [part] = report.parts.values()
    assert part.scores["answer"] == part.scores["round trip"] == {"iou_image": 1, "iou_class": 1}
    assert part.questions == 7 and part.queries == len(pools[0].queries)
    for name in ("copy query", "copy last answer", "white"):
        assert part.scores[name]["iou_image"] < 1
    right = torch.stack([pools[0].pair(asked.query)[1] for asked in questions(pools[0], 7, 1, 0)])
    shares = masks_of(right).double().mean((1, 2))
    assert part.scores["white"]["iou_image"] == pytest.approx(float(shares.mean()))


def test_the_marks_are_of_the_models_own_answers(miniature: Path, model: LVM):
    """The same as `LVM.prompt` gives, question by question, whatever the batch."""
    [pool] = segmentation(Voc(miniature), 64, folds=(1,))
    report = evaluate(model, "segmentation", [pool], shots=2, count=18, seed=3)
    drawn, right = [], []
    for asked in questions(pool, 18, 2, 3):
        query, answer = pool.pair(asked.query)
        drawn.append(model.prompt([pool.pair(one) for one in asked.shown], query)[0])
        right.append(answer)
    expected = iou(masks_of(torch.stack(drawn)), masks_of(torch.stack(right)))
    found = report.parts["fold 1"].scores["answer"]["iou_image"]
    assert found == pytest.approx(float(expected.mean()), abs=1e-6)
    torch.testing.assert_close(report.pictures["fold 1"][:, -2], torch.stack(drawn[:3]))
    assert report.pictures["fold 1"].shape == (3, 7, 3, 64, 64)


def test_folds_count_alike(miniature: Path, model: LVM):
    """The mean over folds, and the classes of each."""
    report = evaluate(model, "segmentation", segmentation(Voc(miniature), 64, folds=(0, 1)), count=4)
    for name, marks in report.mean.items():
        for score, value in marks.items():
            parts = [part.scores[name][score] for part in report.parts.values()]
            assert value == pytest.approx(sum(parts) / 2)
    assert [[*part.classes] for part in report.parts.values()] == [["bird"], ["cat"]]
    json.dumps(report.facts(), allow_nan=False)


def test_both_means_are_what_they_are_called():
    """One cat half right and one wholly, of ten times its size; one bird missed."""
    right = torch.zeros(3, 8, 8, dtype=torch.bool)
    right[0, :1, :2], right[1, :5, :4], right[2, 0, 0] = True, True, True
    found = right.clone()
    found[0, 0, 1], found[2, 0, 0] = False, False
    pictures = [torch.stack([white_on_black(one) for one in masks]) for masks in (found, right)]
    marks, groups = overlap(*pictures, read=masks_of), ["cat", "cat", "bird"]
    assert class_ious(marks, groups) == {"bird": 0.0, "cat": 21 / 22}
    assert means(marks, groups) == {"iou_image": pytest.approx(0.5), "iou_class": pytest.approx(21 / 44)}


def test_color_errors_in_both_units():
    """An error of 0.1 everywhere; ImageNet's units divide each channel by its standard deviation."""
    right = torch.rand(2, 3, 8, 8)
    marks = color_errors(right + 0.1, right)
    torch.testing.assert_close(marks["mse"], torch.full((2,), 0.01))
    expected = sum(0.01 / spread**2 for spread in (0.229, 0.224, 0.225)) / 3
    torch.testing.assert_close(marks["mse_imagenet"], torch.full((2,), expected))


def test_colorization_knows_gray_for_what_it_is(photos: Path, model: LVM, monkeypatch: pytest.MonkeyPatch):
    """Right colors have no error, the gray query has one, and no white picture is a floor."""
    oracle(monkeypatch)
    report = evaluate(model, "colorization", colorization(photos, 64), shots=3, count=9)
    part = report.parts["all"]
    assert part.scores["answer"] == {"mse": 0, "mse_imagenet": 0}
    assert part.scores["copy query"]["mse"] > 0 and "white" not in part.scores and part.classes == {}
    assert (part.questions, part.queries) == (9, 7)


def test_lpips_is_measured_where_it_is_given(photos: Path, model: LVM, monkeypatch: pytest.MonkeyPatch):
    """Beside the errors, by the network that the caller found; a stand-in counts differing pixels here."""
    oracle(monkeypatch)

    class Distance(torch.nn.Module):
        mean = torch.zeros(1)

        def forward(self, found: torch.Tensor, right: torch.Tensor) -> torch.Tensor:
            return (found != right).float().mean((1, 2, 3))

    pools = colorization(photos, 64)
    report = evaluate(model, "colorization", pools, count=3, mark=marker("colorization", Distance()))
    assert report.mean["answer"]["lpips"] == 0 < report.mean["copy query"]["lpips"]


def test_mistakes_are_refused_before_any_work(miniature: Path, model: LVM):
    """A protocol that is none, more shots than fit."""
    pools = detection(Voc(miniature), 64)
    with pytest.raises(ValueError, match="no protocol 'pose': choose one of segmentation"):
        evaluate(model, "pose", pools)
    with pytest.raises(ValueError, match="4 shots are too many, 3 fit"):
        evaluate(model, "detection", pools, shots=4)


def test_the_table_has_everything(miniature: Path, model: LVM):
    """Each contender a line, each fold and the mean their columns, what was left out above."""
    report = evaluate(model, "segmentation", segmentation(Voc(miniature), 64, folds=(0, 1)), count=2)
    text = printed(report)
    for words in (
        *protocols.CONTENDERS,
        "fold 0",
        "fold 1",
        "mean",
        "iou image",
        "iou class",
        "fold 0: 2 questions about 2 examples; 1 left out",
    ):
        assert words in text
    assert max(map(len, text.splitlines())) <= 120


def printed(report: Report) -> str:
    """The table as text."""
    out = io.StringIO()
    show(report, Console(file=out, width=protocols.WIDTH))
    return out.getvalue()


@pytest.mark.parametrize(
    ("options", "cells"),
    [
        (["segmentation", "--folds", "0", "1", "--shots", "2"], (6, 7)),
        (["detection"], (3, 5)),
        (["colorization", "--shots", "3"], (3, 9)),
    ],
)
def test_the_command_writes_report_and_sheet(
    miniature: Path, photos: Path, model: LVM, tmp_path: Path, capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch, options: list[str], cells: tuple[int, int],
):  # fmt: skip
    """From the user's folder to report.json and sheet.png; where LPIPS cannot be had, the report says why."""
    monkeypatch.setenv("TORCH_HOME", str(tmp_path / "empty"))
    model.save_pretrained(tmp_path / "lvm")
    protocol, out = options[0], tmp_path / "out"
    data = photos if protocol == "colorization" else miniature
    command = ["evaluate", "protocols", "--count", "3", "--protocol", *options]
    places = {"--model": tmp_path / "lvm", "--data": data, "--out": out}
    assert cli.main(command + [str(word) for option in places.items() for word in option]) == 0
    facts = json.loads((out / "report.json").read_text())
    assert facts["protocol"] == protocol and facts["size"] == 64
    assert all(part["questions"] == 3 for part in facts["parts"].values())
    rows, columns = cells
    assert read_picture(out / "sheet.png").shape == (3, rows * 66, columns * 66 + 4)
    said = capsys.readouterr().out
    assert "round trip" in said
    assert ("lpips_network: none" in said) == (protocol == "colorization") == ("lpips_network" in facts)


def test_folds_are_of_segmentation_alone(photos: Path):
    """Elsewhere they would be passed over in silence."""
    with pytest.raises(ValueError, match="colorization has no folds: leave out --folds"):
        main(["--data", str(photos), "--protocol", "colorization", "--folds", "1"])
