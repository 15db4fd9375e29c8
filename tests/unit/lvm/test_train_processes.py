"""Two processes train an LVM as one does; killed at any moment, a training ends as one never killed."""

import os
import random
import signal
import time
import traceback
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
import torch
import yaml
from accelerate.state import AcceleratorState
from safetensors.torch import load_file

from lvm.data import SentencesConfig
from lvm.model import LVM
from lvm.sentences import Mixture
from lvm.train import TrainConfig, train
from vqtok.storage import folders
from vqtok.storage.records import encode
from vqtok.training.checkpoints import steps
from vqtok.training.journal import read_rows
from vqtok.training.optim import OptimConfig
from vqtok.training.run import RunConfig
from vqtok.training.schedule import LRConfig

STEPS, EVERY = 8, 2  # of a run, and between checkpoints


@pytest.fixture(autouse=True)
def cpu(monkeypatch: pytest.MonkeyPatch) -> None:
    """These tests and the processes they start compute on the CPU."""
    monkeypatch.setenv("ACCELERATE_USE_CPU", "1")
    AcceleratorState._reset_state(reset_partial_state=True)


@pytest.fixture
def config(shards: Path, tokenizer_folder: Path, model: LVM, tmp_path: Path) -> TrainConfig:
    """Unequal sentences, packed; mixed by temperature, with errors and task ids; balanced; in float32."""
    data = SentencesConfig(
        shards=shards,
        tokenizer=str(tokenizer_folder),
        held_out=3,
        pairs=2,
        batch=8,
        query_weight=0.5,
        spoil=0.3,
        untold=0.5,
        mixture=Mixture(by_rows=True, temperature=2.0, weights={"one category": 4.0, "single": 4.0}),
    )
    return TrainConfig(
        run=RunConfig(folder=tmp_path / "one", log_steps=1, trackers=()),
        data=data,
        gpt=replace(model.config.gpt, vocab=32 + 3 + 29, length=170),
        optim=OptimConfig(clip=1.0),
        balance=True,
        lr=LRConfig(peak=1e-3, warmup_steps=1, steps=STEPS),
        average=0.5,
        eval_steps=0,
        save_steps=EVERY,
    )


def test_two_equal_one(config: TrainConfig, start_two: Callable, tmp_path: Path):
    """On the same global batch: weights, averages, losses, and what each task's loss is divided by."""
    config = replace(config, save_steps=STEPS)
    two = replace(config, run=replace(config.run, folder=tmp_path / "two"))
    recipe = tmp_path / "two.yaml"
    recipe.write_text(yaml.safe_dump(encode(two)))
    join = start_two("lvm.train", recipe)
    train(config)
    join()
    ends = [folder / "checkpoints" / f"step-{STEPS:08d}" for folder in (config.run.folder, two.run.folder)]
    for name in ("model-0", "model-1", "ema-0"):
        alone, together = (load_file(end / f"{name}.safetensors") for end in ends)
        for key in alone:
            # Sums of a batch in another order, eight steps of a rate of 1e-3: float32 rounding.
            torch.testing.assert_close(together[key], alone[key], atol=2e-5, rtol=1e-4, equal_nan=True)
    rows = [read_rows(folder) for folder in (config.run.folder, two.run.folder)]
    names = [name for name in rows[0][-1] if name.startswith("train/loss/")]
    assert len(rows[0]) == len(rows[1]) == 2 * STEPS and len(names) > 20
    for one, other in zip(*rows, strict=True):
        for name in {"loss", "gradient_norm", *names} & set(one):
            assert other[name] == pytest.approx(one[name], rel=1e-4), name


def attempt(
    config: TrainConfig, flush: int | None = None, step: int | None = None, late: float = 0.0
) -> bool:
    """Train in a child; whether it ended, rather than being killed.

    Args:
        config: Of the run.
        flush: At which flush to the disk of a save it kills itself.
        step: After the record of which step it is killed.
        late: Seconds later.
    """
    child = os.fork()
    if not child:
        try:
            count, real = iter(range(1, 1000)), folders.flush
            folders.flush = lambda path: os.kill(os.getpid(), 9) if next(count) == flush else real(path)
            train(config)
        except BaseException:
            traceback.print_exc()
            os._exit(1)
        os._exit(0)
    ended = (0, 0)
    while step is not None and not ended[0] and reached(config.run.folder) < step:
        time.sleep(0.002)
        ended = os.waitpid(child, os.WNOHANG)
    if step is not None and not ended[0]:
        time.sleep(late)
        os.kill(child, signal.SIGKILL)
    status = ended[1] if ended[0] else os.waitpid(child, 0)[1]
    assert os.WIFSIGNALED(status) or os.WEXITSTATUS(status) == 0, "the child failed: it did not resume"
    return not os.WIFSIGNALED(status)


def reached(folder: Path) -> int:
    """The last step that a run recorded."""
    return max((row["step"] for row in told(folder)), default=0)


def told(folder: Path) -> list[dict]:
    """What a run recorded, but for its speed."""
    rows = read_rows(folder) if (folder / "metrics.jsonl").exists() else []
    return [{name: value for name, value in row.items() if name != "samples_per_second"} for row in rows]


def test_kill_9(config: TrainConfig):
    """Killed at random, it goes on one interval back at most, and ends in the same bits."""
    began = time.monotonic()
    assert attempt(config)
    pause, dice = (time.monotonic() - began) / STEPS, random.Random(0)
    other = replace(config, run=replace(config.run, folder=config.run.folder.with_name("killed")))
    folder, saved, kills = other.run.folder, 0, 0
    for turn in range(6):
        if turn % 2:
            ended = attempt(other, flush=dice.randrange(1, 12))  # inside a save
        else:
            ended = attempt(other, step=saved + dice.randrange(1, EVERY + 1), late=dice.uniform(0, pause))
        kills += not ended
        found = steps(folder / "checkpoints")
        last = int(found[-1].name[5:]) if found else 0
        assert last >= saved and reached(folder) - last <= EVERY
        saved = last
    assert kills >= 3 and attempt(other)
    assert told(config.run.folder) == told(folder)
    for name in (f"checkpoints/step-{STEPS:08d}/model-1.safetensors", "model/model.safetensors"):
        assert (config.run.folder / name).read_bytes() == (folder / name).read_bytes()
    assert not [path for path in folder.rglob("*") if folders.TEMPORARY.fullmatch(path.name)]
