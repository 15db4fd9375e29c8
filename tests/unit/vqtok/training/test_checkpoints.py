"""A checkpoint is whole or absent: full disks, truncation, missing files; test_killed.py covers kill -9."""

import os
import resource
import shutil

import pytest
import torch

from vqtok.training import checkpoints
from vqtok.training.config import one_line

SAVING = {"every": (0, 2)}


@pytest.fixture
def saved(toy, tmp_path):
    """A run of four steps with checkpoints of steps 2 and 4, and what it held at step 4."""
    tensors = toy.train(tmp_path, 4, SAVING)[1]
    return tmp_path, {name: tensor for name, tensor in tensors.items() if name != "seen"}


def listing(folder):
    """Every file below, with its size."""
    return {
        str(path.relative_to(folder)): path.stat().st_size for path in folder.rglob("*") if path.is_file()
    }


def full_while_flushing(monkeypatch):
    """The disk fills up when data reaches it."""

    def fsync(_):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", fsync)


def full_while_writing(_):
    """Files cannot grow beyond 200 bytes: real write calls fail, those inside safetensors too."""
    resource.setrlimit(resource.RLIMIT_FSIZE, (200, resource.getrlimit(resource.RLIMIT_FSIZE)[1]))


@pytest.mark.parametrize(
    ("fill", "reason"),
    [(full_while_flushing, "No space left on device"), (full_while_writing, "File too large")],
)
def test_full_disk_leaves_the_old_checkpoint(saved, toy, monkeypatch, fill, reason):
    """One error tells reason and way out; the folder holds what it held; with space the run goes on."""
    folder, before = saved
    run = toy.train(folder, 4)[0]
    files = listing(folder / "checkpoints")
    run.step = 5
    old = resource.getrlimit(resource.RLIMIT_FSIZE)
    try:
        fill(monkeypatch)
        with pytest.raises(OSError, match=f"{reason}: checkpoint not saved") as caught:
            run.save()
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, old)
        monkeypatch.undo()
    told = one_line(caught.value)
    assert str(folder) in told
    assert told.endswith(
        f"{reason}: checkpoint not saved, older ones are untouched; free some space and resume"
    )
    assert listing(folder / "checkpoints") == files
    resumed, tensors = toy.train(folder, 4)
    assert resumed.step == 4
    assert all(torch.equal(tensors[name], before[name]) for name in before)
    assert toy.train(folder, 6, SAVING)[0].step == 6


@pytest.mark.parametrize(
    "name", ["model-0.safetensors", "optimizer-0.safetensors", "state.json", "manifest.json"]
)
@pytest.mark.parametrize("damage", ["truncated", "missing", "changed"])
def test_damaged_checkpoint_is_skipped_with_a_warning(saved, toy, name, damage):
    """The older whole one is taken, the warning names both, and the run ends as if nothing had happened."""
    folder, before = saved
    path = folder / "checkpoints" / "step-00000004" / name
    data = path.read_bytes()
    if damage == "missing":
        path.unlink()
    elif damage == "truncated":
        path.write_bytes(data[: len(data) // 2])
    else:
        path.write_bytes(data[:-9] + bytes([data[-9] ^ 1]) + data[-8:])
    with pytest.warns(UserWarning, match="going on from step-00000002"):
        run, tensors = toy.train(folder, 4, SAVING)
    assert run.step == 4
    assert all(torch.equal(tensors[key], before[key]) for key in before)
    names = sorted(place.name for place in (folder / "checkpoints").iterdir())
    assert names == ["damaged-step-00000004", "step-00000002", "step-00000004"]


def test_only_damaged_checkpoints_is_an_error(saved, toy):
    """A run does not begin anew behind its owner's back."""
    folder = saved[0]
    for place in (folder / "checkpoints").iterdir():
        (place / "state.json").unlink()
    with pytest.raises(ValueError, match=r"no whole checkpoint in .*state.json is missing.*begin anew"):
        toy.train(folder, 6)


def test_no_checkpoint_begins_at_zero(toy, tmp_path):
    """A folder with nothing but metrics of a run killed early starts over, metrics too."""
    (tmp_path / "metrics.jsonl").write_text('{"step": 2, "loss"')
    run = toy.train(tmp_path, 2)[0]
    assert run.step == 2
    assert (tmp_path / "metrics.jsonl").read_text().count("\n") == 1


def test_other_files_are_no_checkpoints(saved):
    """What people put beside checkpoints is neither counted nor deleted."""
    folder = saved[0] / "checkpoints"
    (folder / "notes.txt").write_text("mine")
    shutil.copytree(folder / "step-00000004", folder / "step-00000004.bak")
    assert checkpoints.newest(folder).name == "step-00000004"
    checkpoints.save(folder, 9, {"model-0": {"a": torch.zeros(1)}}, {}, keep=1)
    assert sorted(p.name for p in folder.iterdir()) == ["notes.txt", "step-00000004.bak", "step-00000009"]


def test_optimizer_memory_of_other_parameters_is_refused(tmp_path):
    """Moments of another shape are named, not broadcast."""
    optimizer = torch.optim.AdamW([torch.nn.Parameter(torch.zeros(2, 3))])
    with pytest.raises(ValueError, match="exp_avg of parameter 0 does not fit"):
        checkpoints.load_optimizer(optimizer, {"0.exp_avg": torch.zeros(3, 2)}, tmp_path)
    with pytest.raises(ValueError, match="parameter 1 does not fit"):
        checkpoints.load_optimizer(optimizer, {"1.exp_avg": torch.zeros(2, 3)}, tmp_path)


def test_optimizer_memory_lies_as_its_parameter_does(tmp_path):
    """Fused AdamW pairs numbers by their place in memory, and files keep no strides: of a kernel whose
    channels lie last, what it remembers comes back to the same numbers, and the next step is the same."""

    def kernel():
        drawn = torch.randn(4, 3, 3, 3, generator=torch.Generator().manual_seed(0))
        return torch.nn.Parameter(drawn.to(memory_format=torch.channels_last))

    def step(weight, optimizer, seed):
        drawn = torch.randn(4, 3, 3, 3, generator=torch.Generator().manual_seed(seed))
        weight.grad = drawn.to(memory_format=torch.channels_last)
        optimizer.step()

    straight, resumed = kernel(), kernel()
    optimizer = torch.optim.AdamW([straight], lr=0.1, fused=True)
    step(straight, optimizer, 1)
    resumed.data.copy_(straight)
    kept = checkpoints.optimizer_tensors(optimizer)
    rows = {name: tensor.clone(memory_format=torch.contiguous_format) for name, tensor in kept.items()}
    again = torch.optim.AdamW([resumed], lr=0.1, fused=True)
    checkpoints.load_optimizer(again, rows, tmp_path)
    step(straight, optimizer, 2)
    step(resumed, again, 2)
    assert torch.equal(straight, resumed)
