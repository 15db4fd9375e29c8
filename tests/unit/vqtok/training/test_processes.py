"""Two processes do what one does; every result carries its world size, or nothing would be tested."""

import json

import pytest
import torch

SCENES = {
    "plain": {"steps": 6},
    "weighted": {"steps": 6, "micro_batches": 2, "loop": {"weighted": True}},
    "adversarial": {"steps": 6, "micro_batches": 2, "loop": {"critic": True}},
    "one bad sample": {"steps": 6, "loop": {"bad": [13]}},
    "resumed": {"steps": 6},
    "noisy": {"steps": 6, "loop": {"dropout": 0.2}},
    "broken, then": {"steps": 6, "loop": {"dropout": 0.2, "every": [0, 3], "stop": 4}},
    "broken, again": {"steps": 6, "loop": {"dropout": 0.2}},
    "diverged": {"steps": 6, "patience": 2, "loop": {"bad": [17, 30]}},
    "disk full": {"steps": 6, "full": True, "loop": {"every": [0, 3]}},
}
# Sums over 8 samples in another order, six steps of a rate of 1e-2 at most: float32 rounding, no more.
ROUNDING = {"atol": 1e-6, "rtol": 1e-5}


@pytest.fixture(scope="module")
def two(pair, toy, tmp_path_factory):
    """Every scene with two processes, all in one start of two processes: name -> (folder, tensors)."""
    root = tmp_path_factory.mktemp("two")
    folders = {name: root / name.split(", ")[0] for name in SCENES}
    toy.train(folders["resumed"], 6, {"every": (0, 3), "stop": 4})
    results = pair([{**options, "folder": str(folders[name])} for name, options in SCENES.items()])
    return {name: (folders[name], result) for name, result in zip(SCENES, results, strict=True)}


@pytest.mark.parametrize("name", ["plain", "weighted", "adversarial", "one bad sample"])
def test_two_equal_one(name, two, toy, tmp_path):
    """Weights, averages and optimizer memory are those of one process on the same global batch."""
    result = two[name][1]
    run, expected = toy.train(tmp_path, **{**SCENES[name], "micro_batches": 1})
    assert result["facts"].tolist() == [run.step, run.skipped, 2]
    for key in expected.keys() - {"seen"}:
        torch.testing.assert_close(result[key], expected[key], **ROUNDING)


def test_a_bad_sample_of_one_process_skips_the_step_of_both(two):
    """Sample 13 lies in the second step, in the half of process 1."""
    assert two["one bad sample"][1]["facts"].tolist() == [6, 1, 2]


@pytest.mark.parametrize("name", ["plain", "adversarial", "one bad sample"])
def test_notes_of_two_equal_those_of_one(name, two, toy, tmp_path):
    """What a loop notes is averaged over processes; of a bad step nothing is recorded."""
    toy.train(tmp_path, **{**SCENES[name], "micro_batches": 1})
    one, both = (
        [json.loads(line)["size"] for line in (folder / "metrics.jsonl").read_text().splitlines()]
        for folder in (tmp_path, two[name][0])
    )
    assert both == pytest.approx(one, rel=1e-5)  # float32


@pytest.mark.parametrize("name", ["plain", "weighted", "resumed"])
def test_same_samples_in_each_step(name, two):
    """Each step reads its own eight samples once, however many processes share them, also after a resume."""
    seen = two[name][1]["seen"]
    first = int(seen[:, 0].min())
    assert first == (3 if name == "resumed" else 0)
    expected = [[step, step * 8 + i] for step in range(first, 6) for i in range(8)]
    assert sorted(seen.tolist()) == expected


def test_resumed_with_another_number_of_processes(two, toy, tmp_path):
    """Three steps alone and three in company are six alone."""
    _, expected = toy.train(tmp_path, 6)
    for key in expected.keys() - {"seen"}:
        torch.testing.assert_close(two["resumed"][1][key], expected[key], **ROUNDING)


def test_two_processes_resume_bit_for_bit(two):
    """With dropout, which differs between processes, stop and resume equals never stopped."""
    straight, resumed = two["noisy"][1], two["broken, again"][1]
    assert resumed["seen"][:, 0].min() == 3
    for key in straight.keys() - {"seen"}:
        assert torch.equal(straight[key], resumed[key]), key


def test_divergence_stops_both(two):
    """Both processes give up in the same step, with the samples' numbers."""
    for rank in (0, 1):
        text = (two["diverged"][0] / f"error-{rank}.txt").read_text()
        assert text.startswith("Diverged: ")
        assert "16-23, 24-31" in text


def test_a_full_disk_stops_both(two):
    """The process that does not write learns of the failure instead of waiting for ever."""
    first, second = [(two["disk full"][0] / f"error-{rank}.txt").read_text() for rank in (0, 1)]
    assert "No space left on device" in first
    assert "could not save" in second
