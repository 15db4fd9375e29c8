"""The evaluation: every number where it belongs, the same every time, as tables, JSON and a picture."""

import io
import json
import math
from pathlib import Path

import pytest
import torch
from rich.console import Console

from lvm import evaluate as evaluation
from lvm.evaluate import Report, evaluate, losses, main, sheet, show
from lvm.exam import exam, questions
from lvm.generate import answer_nats
from lvm.kind import KindClassifier, KindConfig
from lvm.model import LVM
from lvm.tasks import task
from vqtok.data.pictures import read_picture

ASKED = [task(name) for name in ("shaded to line", "shaded to mask", "invert", "upend")]


@pytest.fixture(scope="session")
def judge() -> KindClassifier:
    """Untrained."""
    torch.manual_seed(0)
    return KindClassifier(KindConfig(channels=(8, 8))).eval()


@pytest.fixture(scope="session")
def report(model: LVM, judge: KindClassifier) -> Report:
    """Three names, four tasks, one of them held out."""
    return evaluate(model, names=3, shots=(0, 1, 3), seed=0, tasks=ASKED, judge=judge)


def test_every_task_has_all_its_numbers(report: Report):
    """Losses by shots, gains with their errors, marks of the answers, the ceiling and the floors."""
    assert [*report.tasks] == [one.name for one in ASKED]
    for one in ASKED:
        found = report.tasks[one.name]
        assert (found.kind, found.held_out) == (one.kind, one.held_out)
        for part in ("answer", "first_row"):
            assert [*found.nats[part]] == ["0", "1", "3"] and [*found.gains[part]] == ["0 to 1", "1 to 3"]
        assert [*found.scores] == ["answer", "round trip", "copy query", "copy last answer"]
        for marks in found.scores.values():
            assert {*marks} == {"kind", "content", "psnr"} | ({"iou"} if one.kind == "mask" else set())
    assert report.tasks["shaded to line"].rivals["flat to line"] == 3
    assert {*report.trained} == {"nats", "gains", "kind", "content", "iou", "judge"}


def test_the_report_is_json(report: Report):
    """Finite numbers under plain keys, without the pictures."""
    facts = json.loads(json.dumps(report.facts(), allow_nan=False))
    assert facts["names"] == 3 and facts["shots"] == [0, 1, 3] and "pictures" not in facts
    assert facts["tasks"]["upend"]["held_out"] is True


def test_losses_are_of_the_same_answers_at_every_shot_count(model: LVM, report: Report):
    """The table's numbers are `answer_nats` of the exam's own sentences."""
    sat = exam(task("invert"), questions(3, 3, seed=0), model.tokenizer)
    for count in (0, 1, 3):
        nats = answer_nats(model.gpt, model.layout, sat.sentences(count))
        found = report.tasks["invert"].nats
        assert found["answer"][str(count)] == pytest.approx(float(nats.mean()), abs=1e-5)
        assert found["first_row"][str(count)] == pytest.approx(float(nats[:, :4].mean()), abs=1e-5)


def test_gains_are_paired():
    """What a shot saves has the error of the differences, which is 0 where all questions gain the same."""
    hard = torch.randn(50, 16) + 5
    found = losses({0: hard, 1: hard - 1, 3: hard - 1 - torch.arange(50)[:, None] / 50})
    mean, error = found["gains"]["answer"]["0 to 1"]
    assert mean == pytest.approx(1, abs=1e-5) and error < 1e-6
    mean, error = found["gains"]["first_row"]["1 to 3"]
    expected = (torch.arange(50) / 50).std() / math.sqrt(50)
    assert mean == pytest.approx(0.49, abs=1e-4) and error == pytest.approx(float(expected), rel=1e-3)


def test_held_out_tasks_count_for_nothing_in_the_mean(report: Report):
    """Trained tasks count alike; content is of style tasks, overlap of masks."""
    trained = [report.tasks[name] for name in ("shaded to line", "shaded to mask", "invert")]
    for shots in ("0", "1", "3"):
        mean = sum(found.nats["answer"][shots] for found in trained) / 3
        assert report.trained["nats"]["answer"][shots] == pytest.approx(mean, abs=1e-5)
    kinds = [found.scores["answer"]["kind"] for found in trained]
    assert report.trained["kind"] == pytest.approx(sum(kinds) / 3)
    assert report.trained["content"] == trained[0].scores["answer"]["content"]
    assert report.trained["iou"] == trained[1].scores["answer"]["iou"]


def test_it_is_the_same_every_time(model: LVM, judge: KindClassifier, report: Report):
    """Whatever global randomness did meanwhile, and whatever else is asked."""
    torch.manual_seed(99)
    again = evaluate(model, names=3, shots=(0, 1, 3), seed=0, tasks=ASKED[2:3], judge=judge)
    assert again.tasks["invert"] == report.tasks["invert"]
    assert torch.equal(again.pictures["invert"], report.pictures["invert"])


def test_pictures_are_pairs_query_answer_and_truth(report: Report):
    """For every task three lines of nine pictures; in `invert` truth is the query's negative."""
    assert all(pictures.shape == (3, 9, 3, 64, 64) for pictures in report.pictures.values())
    inverted = report.pictures["invert"]
    for before, after in ((0, 1), (4, 5), (6, 8)):
        torch.testing.assert_close(1 - inverted[:, before], inverted[:, after])
    assert sheet(report.pictures).shape == (3, 12 * 66, 9 * 66 + 4)


@pytest.mark.parametrize("shots", [0, 2])
def test_answers_at_other_shot_counts(model: LVM, judge: KindClassifier, shots: int):
    """Generated at as many shots as asked for, whose loss is measured too."""
    found = evaluate(model, names=2, shots=(1,), tasks=ASKED[2:3], answer_shots=shots, judge=judge)
    assert found.shots == tuple(sorted({1, shots}))
    assert found.pictures["invert"].shape[1] == 2 * shots + 3
    assert set(found.tasks["invert"].nats["answer"]) == {"1", str(shots)}


def test_what_does_not_fit_is_refused(model: LVM, judge: KindClassifier):
    """More pairs than the model takes; a task the judge was not taught."""
    with pytest.raises(ValueError, match=r"shots \[0, 4\] leave \[0, 3\]"):
        evaluate(model, shots=(0,), answer_shots=4, judge=judge)
    narrow = KindClassifier(KindConfig(tasks=("mirror",), channels=(8,)))
    with pytest.raises(ValueError, match="the judge does not know 'invert': train it again"):
        evaluate(model, tasks=ASKED[2:3], judge=narrow)


def test_tables_fit_a_screen(report: Report):
    """Every task and score is there, held-out tasks with a star, in lines of at most 120 letters."""
    out = io.StringIO()
    show(report, Console(file=out, width=evaluation.WIDTH))
    text = out.getvalue()
    assert all(line.isascii() or "±" in line or "─" in line for line in text.splitlines())
    assert "upend *" in text and "trained tasks" in text and "…" not in text
    assert max(map(len, text.splitlines())) <= 120


def test_the_command_writes_report_and_sheet(
    model: LVM,
    judge: KindClassifier,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
):
    """Tables on the screen; report.json and sheet.png, of the model and judge named."""
    model.save_pretrained(tmp_path / "lvm")
    judge.save_pretrained(tmp_path / "kind")
    monkeypatch.setattr(evaluation, "PAIR_TASKS", ASKED[2:])  # two suffice here
    out = tmp_path / "out"
    main(["--model", str(tmp_path / "lvm"), "--judge", str(tmp_path / "kind"), "--names", "2",
          "--shots", "0", "1", "--answer-shots", "1", "--out", str(out)])
    facts = json.loads((out / "report.json").read_text())
    assert facts["names"] == 2 and facts["answer_shots"] == 1 and [*facts["tasks"]] == ["invert", "upend"]
    assert read_picture(out / "sheet.png").shape == (3, 4 * 66, 5 * 66 + 4)
    assert "Greedy answers at 1 shots" in capsys.readouterr().out
