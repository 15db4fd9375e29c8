"""Two processes train a DDPM as one does on the same global batch."""

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
import torch
import yaml
from safetensors.torch import load_file

from diffusion.networks import UNetConfig
from diffusion.objectives import Variational
from diffusion.pictures import PicturesConfig
from diffusion.process import ProcessConfig
from diffusion.schedules import CosineConfig
from diffusion.times import LossAwareConfig
from diffusion.train import TrainConfig, train
from diffusion.variances import LearnedRange
from vqtok.storage.records import encode
from vqtok.training.optim import OptimConfig
from vqtok.training.run import RunConfig
from vqtok.training.schedule import LRConfig


def test_each_has_noise_of_its_own_and_both_know_all_losses(
    start_two: Callable, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    """Processes end alike and well: twice the same weights, and losses near those of one process.

    A process draws times and noise for its own part of a batch, so one process does not see the same noise;
    what the two agree on are weights, averages, and the times that follow from the losses of both.
    """
    monkeypatch.setenv("ACCELERATE_USE_CPU", "1")
    config = TrainConfig(
        run=RunConfig(folder=tmp_path / "one", trackers=(), log_steps=5),
        data=PicturesConfig(gallery="emoji:train:40", held_out=4, batch=8),
        size=8,
        network=UNetConfig(channels=16, multipliers=(1, 1), blocks=1, groups=4, out_channels=6),
        process=ProcessConfig(schedule=CosineConfig(steps=4), variance=LearnedRange()),
        objective=Variational(),
        times=LossAwareConfig(remembered=2),
        optim=OptimConfig(decay=0.0),
        lr=LRConfig(peak=3e-3, warmup_steps=2, steps=20),
        average=0.8,
        bound_times=2,
        eval_steps=20,
        save_steps=20,
    )
    joins = []
    for name in ("two", "again"):
        recipe = tmp_path / f"{name}.yaml"
        recipe.write_text(
            yaml.safe_dump(encode(replace(config, run=replace(config.run, folder=tmp_path / name))))
        )
        joins.append(start_two("diffusion.train", recipe))
    train(config)
    for join in joins:
        join()
    one, two, again = (
        load_file(tmp_path / name / "model" / "model.safetensors") for name in ("one", "two", "again")
    )
    for name in two:
        assert torch.equal(two[name], again[name]), name
    assert any(not torch.equal(two[name], one[name]) for name in two)
    alone, together = (_last(tmp_path / name, "validation/total") for name in ("one", "two"))
    assert together == pytest.approx(alone, rel=0.25)


def _last(folder: Path, name: str) -> float:
    rows = [json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines()]
    return [row[name] for row in rows if name in row][-1]
