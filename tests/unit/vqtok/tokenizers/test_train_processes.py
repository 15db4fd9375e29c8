"""Two processes train a tokenizer and its critic as one does on the same global batch."""

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
import torch
import yaml
from safetensors.torch import load_file

from vqtok.data.pictures import write_picture
from vqtok.storage.records import encode
from vqtok.tokenizers.critic import CriticConfig
from vqtok.tokenizers.tokenizer import TokenizerConfig
from vqtok.tokenizers.train import ImagesConfig, LossConfig, TrainConfig, train
from vqtok.training.optim import OptimConfig
from vqtok.training.run import RunConfig
from vqtok.training.schedule import LRConfig

CRITIC = CriticConfig(
    channels=4, layers=1, norm="none", train_from=1, count_from=2, ramp_steps=1, adaptive=1e4, lecam=0.1
)  # without batch norm, which is over the images of one process


@pytest.fixture
def recipe(config: TokenizerConfig, tmp_path: Path) -> TrainConfig:
    """Six steps on eight pictures, with everything that the processes exchange."""
    generator = torch.Generator().manual_seed(0)
    (tmp_path / "pictures").mkdir()
    for number in range(8):
        picture = torch.rand(3, 16, 16, generator=generator)
        write_picture(tmp_path / "pictures" / f"{number}.png", picture)
    return TrainConfig(
        run=RunConfig(folder=tmp_path / "one", trackers=(), log_steps=2),
        data=ImagesConfig(folder=tmp_path / "pictures", batch=4, workers=0, held_out=2),
        tokenizer=config,
        loss=LossConfig(),
        optim=OptimConfig(),
        lr=LRConfig(peak=1e-3, warmup_steps=0, steps=6),
        critic=CRITIC,
        codebook_steps=3,
        eval_steps=0,
        save_steps=0,
    )


def test_two_equal_one(
    recipe: TrainConfig, start_two: Callable, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    """The weights, and what is recorded of losses, critic and codebook."""
    monkeypatch.setenv("ACCELERATE_USE_CPU", "1")
    two = replace(recipe, run=replace(recipe.run, folder=tmp_path / "two"))
    (tmp_path / "two.yaml").write_text(yaml.safe_dump(encode(two)))
    join = start_two("vqtok.tokenizers.train", tmp_path / "two.yaml")
    train(recipe)
    join()
    one, other = (load_file(tmp_path / name / "model" / "model.safetensors") for name in ("one", "two"))
    for name in one:  # sums in another order, six steps of AdamW at 1e-3
        torch.testing.assert_close(other[name], one[name], atol=2e-5, rtol=1e-4, msg=name)
    rows, others = (
        [json.loads(line) for line in (tmp_path / name / "metrics.jsonl").read_text().splitlines()]
        for name in ("one", "two")
    )
    assert any("critic/weight" in row for row in rows) and any("codebook/ids" in row for row in rows)
    for row, twin in zip(rows, others, strict=True):
        row.pop("samples_per_second", None)
        assert {name: twin[name] for name in row} == pytest.approx(row, rel=1e-3, abs=1e-6)
