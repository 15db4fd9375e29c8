"""ImageGPT beside transformers': same pictures, same order, same question; a table of what was learned."""

import math

import pytest
import torch

from workbench.compare import imagegpt
from workbench.compare.imagegpt import COMPARISON, TOY, Learner, Ours, Theirs, encoded, held_out_nats, learned

pytestmark = pytest.mark.peer


def test_both_are_asked_the_same():
    """Scores of all pixels, each given those before it, and near ln v at first."""
    task = TOY["emoji"]
    ids = torch.randint(task.codes, (2, task.size**2))
    other = ids.clone()
    other[:, 30] = (other[:, 30] + 1) % task.codes
    for model in (Ours(task).eval(), Ours(task, squared=True).eval(), Theirs(task).eval()):
        scores, changed = model(ids), model(other)
        assert scores.shape == (2, 64, 5)
        torch.testing.assert_close(changed[:, :31], scores[:, :31])
        assert held_out_nats(model, ids) == pytest.approx(math.log(5), abs=0.2)


def test_learning_follows_from_the_seed():
    """Twice the same, and better than before; another seed is another order."""
    task = TOY["emoji"]
    train, test = encoded(task, 40)
    assert train.shape == (40, 64) and test.shape == (3, 64) and train.max() < task.codes
    learner = Learner(build=Ours)
    one, same, other = (learned(learner, task, train, test, 8, seed) for seed in (0, 0, 1))
    assert one.nats == same.nats != other.nats
    assert len(one.nats) == 5 and one.nats[-1] < one.nats[0]


def test_a_toy():
    """A table with a row for everybody; a task without its files is named."""
    told = COMPARISON.run(torch.device("cpu"), steps=3, seeds=[0], toy=True)
    rows = [line for line in told.splitlines() if line.startswith("| ")]
    assert rows[0].startswith("|  | weights | before | step 1 | step 2 | step 3 | CPU s")
    assert [row.split(" | ")[0] for row in rows[2:]] == [f"| {name}" for name in COMPARISON.learners]


def test_missing_files_are_told(monkeypatch: pytest.MonkeyPatch):
    """Fashion-MNIST is left out where it is not installed."""
    missing = {"Fashion-MNIST": imagegpt.TASKS["Fashion-MNIST"]}
    monkeypatch.setattr(imagegpt, "TOY", missing)
    monkeypatch.setattr(imagegpt.Path, "is_file", lambda _: False)
    told = COMPARISON.run(torch.device("cpu"), steps=3, seeds=[0], toy=True)
    assert "**Fashion-MNIST** was left out: no file " in told
