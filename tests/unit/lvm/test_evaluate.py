"""The evaluation: every number where it belongs, the same every time, as tables, JSON and a picture."""

import json
import math
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from lvm import evaluate as evaluation
from lvm.evaluate import Job, evaluate, losses, main, perplexities, stalls
from lvm.exam import exam, questions
from lvm.floors import shuffled_answers, wrong_exam, wrong_task_prompts
from lvm.generate import answer_nats
from lvm.kind import KindClassifier, KindConfig
from lvm.model import LVM
from lvm.report import SHUFFLED, WRONG, Report, sheet
from lvm.tasks import task
from vqtok.data.pictures import read_picture

ASKED = [task(name) for name in ("shaded to line", "shaded to mask", "invert", "upend")]


def test_every_task_has_all_its_numbers(report: Report):
    """Losses by shots, gains with their errors, marks of the answers, the ceiling and the floors."""
    assert [*report.tasks] == [one.name for one in ASKED]
    overlaps = {"iou", "iou_foreground", "iou_background", "iou_class", "iou_box"}
    for one in ASKED:
        found = report.tasks[one.name]
        assert (found.kind, found.held_out) == (one.kind, one.held_out)
        for part in ("answer", "first_row"):
            assert [*found.nats[part]] == ["0", "1", "3"] and [*found.gains[part]] == ["0 to 1", "1 to 3"]
        for mean in ("corpus", "mean_of_examples"):
            assert [*found.perplexity[mean]] == ["0", "1", "3"]
        copies = ["copy query", "copy last answer"]
        assert [*found.scores] == ["answer", "round trip", *copies, SHUFFLED, WRONG]
        for marks in found.scores.values():
            more = overlaps if one.kind == "mask" else set()
            assert {*marks} == {"kind", "content", "mse", "psnr"} | more
        for misled in found.misled.values():
            assert {*misled} == {"answer", "first_row", "corpus", "mean_of_examples"}
        assert {*found.misled} == {SHUFFLED, WRONG} and {*found.wrong_task} == {"task", "follows", "judge"}
    assert report.tasks["shaded to line"].rivals["flat to line"] == 3
    means = {"nats", "gains", "perplexity", "kind", "content", "iou", "follows", "judge"}
    assert {*report.trained} == means and report.lpips == "none: not asked for"


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


def test_misled_losses_are_of_the_same_answers(model: LVM, report: Report):
    """After shuffled answers, and pairs of another task, the loss is of what was right for the query."""
    sat = exam(task("invert"), questions(3, 3, seed=0), model.tokenizer)
    prompts = {SHUFFLED: shuffled_answers(sat, 3),
               WRONG: wrong_task_prompts(sat, wrong_exam(sat, model.tokenizer), 3)}
    for name, sentences in prompts.items():
        nats, found = answer_nats(model.gpt, model.layout, sentences), report.tasks["invert"].misled[name]
        assert found["answer"] == pytest.approx(float(nats.mean()), abs=1e-5)
        assert found["corpus"] == pytest.approx(math.exp(found["answer"]))


def test_both_perplexities():
    """Of two answers, one of 1 nat a token and one of 3: exp(2), and the mean of e and exp(3)."""
    nats = torch.tensor([[0.5, 1.5], [3.0, 3.0]])
    found = perplexities(nats)
    assert found["corpus"] == pytest.approx(math.exp(2))
    assert found["mean_of_examples"] == pytest.approx((math.e + math.exp(3)) / 2)


def test_a_shot_that_does_not_help_is_named(report: Report):
    """With its gain and its error, of first rows and up to three shots; a task that always gains is not."""
    gains = {"0 to 1": (0.2, 0.1), "1 to 2": (0.0, 0.1), "2 to 3": (-0.1, 0.05), "3 to 4": (-1.0, 0.1)}
    falling = {"0 to 1": (0.2, 0.1), "1 to 4": (-1.0, 0.1)}
    found = report.tasks["invert"]
    reports = {name: replace(found, gains={"first_row": steps})
               for name, steps in (("a", gains), ("b", falling))}
    assert stalls(reports) == {"a": {"1 to 2": (0.0, 0.1), "2 to 3": (-0.1, 0.05)}}
    assert "upend" not in report.stalls  # held out


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
        corpus = report.trained["perplexity"]["corpus"][shots]
        assert corpus == pytest.approx(math.exp(mean), rel=1e-4)
        examples = [found.perplexity["mean_of_examples"][shots] for found in trained]
        assert report.trained["perplexity"]["mean_of_examples"][shots] == pytest.approx(sum(examples) / 3)
    follows = [found.wrong_task["follows"] for found in trained]
    assert report.trained["follows"] == pytest.approx(sum(follows) / 3)
    kinds = [found.scores["answer"]["kind"] for found in trained]
    assert report.trained["kind"] == pytest.approx(sum(kinds) / 3)
    assert report.trained["content"] == trained[0].scores["answer"]["content"]
    assert report.trained["iou"] == trained[1].scores["answer"]["iou"]


def test_it_is_the_same_every_time(model: LVM, judge: KindClassifier, report: Report):
    """Whatever global randomness did meanwhile, and whatever else is asked."""
    torch.manual_seed(99)
    again = evaluate(model, Job(names=3, shots=(0, 1, 3)), tasks=ASKED[2:3], judge=judge)
    assert again.tasks["invert"] == report.tasks["invert"]
    assert torch.equal(again.pictures["invert"], report.pictures["invert"])


def test_pictures_are_pairs_query_answer_and_truth(report: Report):
    """For every task three lines of nine pictures; in `invert` truth is the query's negative."""
    assert all(pictures.shape == (3, 9, 3, 64, 64) for pictures in report.pictures.values())
    inverted = report.pictures["invert"]
    for before, after in ((0, 1), (4, 5), (6, 8)):
        torch.testing.assert_close(1 - inverted[:, before], inverted[:, after])
    assert sheet(report.pictures).shape == (3, 12 * 66, 9 * 66 + 4)


@pytest.mark.parametrize("shots", [0, 1, 2])
def test_answers_at_other_shot_counts(model: LVM, judge: KindClassifier, shots: int):
    """Generated at as many shots as asked for, whose loss is measured too; misled as far as pairs allow."""
    found = evaluate(model, Job(names=2, shots=(1,), answer_shots=shots), ASKED[2:3], judge)
    assert found.shots == tuple(sorted({1, shots}))
    assert found.pictures["invert"].shape[1] == 2 * shots + 3
    assert set(found.tasks["invert"].nats["answer"]) == {"1", str(shots)}
    assert [*found.tasks["invert"].misled] == {0: [], 1: [WRONG], 2: [SHUFFLED, WRONG]}[shots]


def test_guided_answers_are_others_of_the_same_losses(model: LVM, judge: KindClassifier, report: Report):
    """A scale of 1 is no guidance; a large one draws other answers, and moves no loss of the right ones."""
    asked = [task("invert")]
    plain, guided = (evaluate(model, Job(names=3, shots=(0, 1, 3), guidance=scale), asked, judge)
                     for scale in (1.0, 50.0))
    assert (plain.guidance, guided.guidance) == (1.0, 50.0)
    assert plain.tasks["invert"].scores == report.tasks["invert"].scores
    assert guided.tasks["invert"].scores["answer"] != plain.tasks["invert"].scores["answer"]
    assert guided.tasks["invert"].nats["answer"] == pytest.approx(plain.tasks["invert"].nats["answer"])


def test_misleading_prompts_can_be_left_out(model: LVM, judge: KindClassifier, report: Report):
    """All other numbers stay the same."""
    found = evaluate(model, Job(names=3, shots=(0, 1, 3), floors=False), ASKED[2:3], judge).tasks["invert"]
    full = report.tasks["invert"]
    assert not found.misled and not found.wrong_task and {SHUFFLED, WRONG}.isdisjoint(found.scores)
    scores = {name: full.scores[name] for name in found.scores}
    assert found == replace(full, scores=scores, misled={}, wrong_task={})


def test_members_kept_from_training_are_asked_apart(model: LVM, judge: KindClassifier):
    """Under a name of their own, as held out; questions of either are of its own members, in turn."""
    found = evaluate(model, Job(names=2, shots=(1,), answer_shots=1, floors=False), [task("turn")], judge)
    assert [*found.tasks] == ["turn", "turn, held-out members"]
    assert [report.held_out for report in found.tasks.values()] == [False, True]
    members = {"turn": range(64), "turn, held-out members": range(64, 128)}
    for name, numbers in members.items():
        sat = exam(task("turn"), questions(2, 1, seed=0), model.tokenizer, numbers)
        pictures = torch.stack([sat.pairs[sat.shown[:, 0], 0], sat.pairs[sat.shown[:, 0], 1]], dim=1)
        assert torch.equal(found.pictures[name][:, :2], pictures)
    assert found.trained["kind"] == found.tasks["turn"].scores["answer"]["kind"]


def test_a_model_says_what_it_was_trained_on(
    model: LVM, judge: KindClassifier, monkeypatch: pytest.MonkeyPatch
):
    """Whatever the library trains, a task that is not among these is held out."""
    monkeypatch.setattr(model, "config", replace(model.config, trained=("upend",)))
    asked, job = [task("upend"), task("invert")], Job(names=2, shots=(0,), answer_shots=1, floors=False)
    found = evaluate(model, job, asked, judge)
    assert {name: report.held_out for name, report in found.tasks.items()} == {"upend": False, "invert": True}


def test_what_does_not_fit_is_refused(model: LVM, judge: KindClassifier):
    """More pairs than the model takes; a task the judge was not taught."""
    with pytest.raises(ValueError, match=r"shots \[0, 4\] leave \[0, 3\]"):
        evaluate(model, Job(shots=(0,), answer_shots=4), judge=judge)
    narrow = KindClassifier(KindConfig(tasks=("mirror",), channels=(8,)))
    with pytest.raises(ValueError, match="the judge does not know 'invert': train it again"):
        evaluate(model, tasks=ASKED[2:3], judge=narrow)


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
    monkeypatch.setenv("TORCH_HOME", str(tmp_path / "empty"))
    written = main(["--model", str(tmp_path / "lvm"), "--judge", str(tmp_path / "kind"), "--names", "2",
                    "--shots", "0", "1", "--answer-shots", "1", "--no-floors", "--out", str(out)])
    assert written == out / "report.json"
    facts = json.loads(written.read_text())
    assert facts["lpips"].startswith("none: LPIPS needs") and not facts["tasks"]["invert"]["misled"]
    assert facts["names"] == 2 and facts["answer_shots"] == 1 and [*facts["tasks"]] == ["invert", "upend"]
    assert read_picture(out / "sheet.png").shape == (3, 4 * 66, 5 * 66 + 4)
    said = capsys.readouterr().out
    assert "answers are greedy, after 1 pairs" in said and "LPIPS: none" in said
