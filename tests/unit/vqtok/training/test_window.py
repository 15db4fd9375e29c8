"""What a loop notes is averaged over micro-batches, processes and steps, and dropped with a bad step."""

import json

import pytest
import torch

from vqtok.training.window import Window

CPU = torch.device("cpu")


def test_means():
    """Notes of one step are averaged first, then steps; here two processes noted the same."""
    window = Window()
    for values in ((1.0, 3.0), (6.0, 6.0)):
        for value in values:
            window.note("a", torch.tensor(value, requires_grad=True), CPU)
        window.close(lambda sums: 2 * sums, keep=True)
    window.add("loss", 5.0)
    assert window.means() == {"a": 4.0, "loss": 5.0}


def test_a_bad_step_leaves_nothing():
    """Neither in the window nor for the next step."""
    window = Window()
    window.note("a", float("nan"), CPU)
    window.close(lambda sums: sums, keep=False)
    window.note("a", 2.0, CPU)
    window.close(lambda sums: sums, keep=True)
    assert window.means() == {"a": 2.0}


def test_its_state_is_json():
    """Read back, it goes on."""
    window = Window()
    window.add("a", 1.0)
    again = Window(json.loads(json.dumps(window.totals)))
    again.add("a", 2.0)
    assert again.means() == {"a": 1.5} and window.means() == {"a": 1.0}


def rows(folder):
    """What a run recorded."""
    return [json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines()]


@pytest.mark.parametrize("stop", [None, 5])
def test_in_a_run(stop, toy, tmp_path):
    """Micro-batches note as one batch does, also when the run is stopped inside a window and resumed."""
    toy.train(tmp_path / "whole", 8, log_steps=4)
    loop = {"every": (0, 5), "stop": stop}
    toy.train(tmp_path / "parts", 8, loop, log_steps=4, micro_batches=2)
    if stop:
        toy.train(tmp_path / "parts", 8, log_steps=4, micro_batches=2)
    whole, parts = ([row["size"] for row in rows(tmp_path / name)] for name in ("whole", "parts"))
    assert len(whole) == 2 and parts == pytest.approx(whole, rel=1e-5)  # rounding of float32


def test_bad_samples_in_a_run(toy, tmp_path):
    """A step that is left out leaves no note."""
    toy.train(tmp_path, 4, {"bad": (9,)})
    assert all(row["size"] is not None and row["size"] > 0 for row in rows(tmp_path))
