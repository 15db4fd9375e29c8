"""Training of an LVM: sentences of one task, shards of its own tokenizer, and a folder that answers."""

import json
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from lvm.model import LVM
from lvm.sentences import SentencesConfig
from lvm.train import TrainConfig, train
from vqtok.training.optim import OptimConfig
from vqtok.training.run import RunConfig
from vqtok.training.schedule import LRConfig


@pytest.fixture
def data(shards: Path, tokenizer_folder: Path) -> SentencesConfig:
    """Seven pairs a task to train on, three held out; sentences of three pairs."""
    return SentencesConfig(shards=shards, tokenizer=str(tokenizer_folder), held_out=3, pairs=3, batch=4)


@pytest.fixture
def config(data: SentencesConfig, model: LVM, tmp_path: Path) -> TrainConfig:
    """Six steps."""
    return TrainConfig(
        run=RunConfig(folder=tmp_path / "run", log_steps=2, trackers=()), data=data, gpt=model.config.gpt,
        optim=OptimConfig(), lr=LRConfig(peak=1e-2, warmup_steps=1, steps=6), eval_steps=6, save_steps=2,
    )


def test_a_short_training_ends_in_a_model_that_answers(config: TrainConfig):
    """The loss falls, held-out losses and a sheet are kept, and `model/` is an LVM that answers."""
    train(config)
    folder = config.run.folder
    rows = [json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines()]
    losses = [row["loss"] for row in rows if "loss" in row]
    assert len(losses) == 3 and losses[-1] < losses[0]
    assert "validation/first_row/2_shots" in rows[-1] or "validation/first_row/2_shots" in rows[-2]
    assert [*(folder / "pictures").glob("answers-*.png")]
    model = LVM.from_pretrained(folder / "model")
    picture = torch.rand(3, 64, 64)
    assert model.prompt([(picture, picture)], picture).shape == (1, 3, 64, 64)


def test_a_wrong_vocabulary_is_refused_before_training(config: TrainConfig):
    """Not after the hours that it takes."""
    with pytest.raises(ValueError, match=r"gpt\.vocab is 99"):
        train(replace(config, gpt=replace(config.gpt, vocab=99)))
    assert not (config.run.folder / "checkpoints").exists()
