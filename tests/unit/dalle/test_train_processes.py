"""Two processes train a DALL-E as one does."""

from collections.abc import Callable
from pathlib import Path

import pytest
import torch
import yaml
from accelerate.state import AcceleratorState
from safetensors.torch import load_file

from dalle.data import CaptionsConfig
from dalle.network import ObjectiveConfig
from dalle.train import TrainConfig, train
from vqtok.gpt.config import GPTConfig
from vqtok.storage.records import encode
from vqtok.training.journal import read_rows
from vqtok.training.optim import OptimConfig
from vqtok.training.run import RunConfig
from vqtok.training.schedule import LRConfig

STEPS = 8


@pytest.fixture(autouse=True)
def cpu(monkeypatch: pytest.MonkeyPatch) -> None:
    """This test and the processes it starts compute on the CPU."""
    monkeypatch.setenv("ACCELERATE_USE_CPU", "1")
    AcceleratorState._reset_state(reset_partial_state=True)


def test_two_equal_one(folder: Path, shapes: dict[str, GPTConfig], start_two: Callable, tmp_path: Path):
    """On the same global batch, merges and captions dropped: weights, averages, losses and gradients."""
    data = CaptionsConfig(
        shards=folder / "shards", tokenizer=str(folder / "palette"), text=str(folder / "text"), held_out=4,
        batch=8, merges_dropped=0.05, captions_dropped=0.3,
    )  # fmt: skip
    one, two = (
        TrainConfig(
            run=RunConfig(folder=tmp_path / name, log_steps=1, trackers=()),
            data=data,
            text_length=5,
            gpt=shapes["masked"],
            optim=OptimConfig(clip=1.0),
            lr=LRConfig(peak=1e-3, warmup_steps=1, steps=STEPS),
            objective=ObjectiveConfig(padding=False),
            average=0.5,
            eval_steps=4,
            save_steps=STEPS,
        )
        for name in ("one", "two")
    )
    recipe = tmp_path / "two.yaml"
    recipe.write_text(yaml.safe_dump(encode(two)))
    join = start_two("dalle.train", recipe)
    train(one)
    join()
    ends = [folder / "checkpoints" / f"step-{STEPS:08d}" for folder in (one.run.folder, two.run.folder)]
    for name in ("model-0", "ema-0"):
        alone, together = (load_file(end / f"{name}.safetensors") for end in ends)
        for key in alone:
            # Sums of a batch in another order, eight steps of a rate of 1e-3: float32 rounding.
            torch.testing.assert_close(together[key], alone[key], atol=2e-5, rtol=1e-4)
    rows = [read_rows(folder) for folder in (one.run.folder, two.run.folder)]
    assert len(rows[0]) == len(rows[1])
    for alone, together in zip(*rows, strict=True):
        for name in alone.keys() - {"samples_per_second"}:
            assert together[name] == pytest.approx(alone[name], rel=1e-3), name
