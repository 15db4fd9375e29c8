"""Training of an LVM: whole sentences, its own tokenizer's shards, and a folder that answers."""

import json
import math
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

from lvm.data import SentencesConfig
from lvm.layout import MarkedConfig
from lvm.model import LVM
from lvm.sentences import Mixture
from lvm.train import TrainConfig, train
from vqtok.data.shards import Shards
from vqtok.training.optim import OptimConfig
from vqtok.training.run import Run, RunConfig
from vqtok.training.schedule import LRConfig

NAMES = ("invert", "mirror", "skin tones", "shaded to mask")


@pytest.fixture
def data(shards: Path, tokenizer_folder: Path) -> SentencesConfig:
    """Seven rows a task to train on, three held out; sentences of three pairs."""
    return SentencesConfig(shards=shards, tokenizer=str(tokenizer_folder), held_out=3, pairs=3, batch=4)


@pytest.fixture
def config(data: SentencesConfig, model: LVM, tmp_path: Path) -> TrainConfig:
    """Six steps."""
    return TrainConfig(
        run=RunConfig(folder=tmp_path / "run", log_steps=2, trackers=()), data=data, gpt=model.config.gpt,
        optim=OptimConfig(), lr=LRConfig(peak=1e-2, warmup_steps=1, steps=6), eval_steps=6, save_steps=2,
    )  # fmt: skip


@pytest.fixture
def few(config: TrainConfig, data: SentencesConfig, shards: Path) -> TrainConfig:
    """Four tasks only, losses balanced, and a checkpoint after three steps; nothing is measured."""
    weights = {name: float(name in NAMES) for name in Shards.by("task", shards)}
    data = replace(data, mixture=Mixture(weights=weights))
    return replace(config, data=data, balance=True, eval_steps=0, save_steps=3)


def rows_of(folder: Path) -> list[dict]:
    """What a run recorded."""
    return [json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines()]


def test_a_short_training_ends_in_a_model_that_answers(config: TrainConfig):
    """The loss falls, held-out losses and a sheet are kept, and `model/` is an LVM that answers."""
    train(config)
    folder = config.run.folder
    rows = rows_of(folder)
    losses = [row["loss"] for row in rows if "loss" in row]
    assert len(losses) == 3 and losses[-1] < losses[0]
    assert "validation/first_row/2_shots" in rows[-1] or "validation/first_row/2_shots" in rows[-2]
    assert [*(folder / "pictures").glob("answers-*.png")]
    model = LVM.from_pretrained(folder / "model")
    assert set(NAMES) <= set(model.config.trained)
    picture = torch.rand(3, 64, 64)
    assert model.prompt([(picture, picture)], picture).shape == (1, 3, 64, 64)


def test_a_wrong_vocabulary_is_refused_before_training(config: TrainConfig):
    """Not after the hours that it takes."""
    with pytest.raises(ValueError, match=r"gpt\.vocab is 99"):
        train(replace(config, gpt=replace(config.gpt, vocab=99)))
    assert not (config.run.folder / "checkpoints").exists()


def test_each_task_has_a_loss_of_its_own(few: TrainConfig):
    """Of training and of held-out rows, with perplexities, by the tasks that are trained on."""
    train(replace(few, eval_steps=6))
    rows = rows_of(few.run.folder)
    found = {name: value for row in rows for name, value in row.items()}
    assert {name for name in found if name.startswith("train/loss/")} == {f"train/loss/{n}" for n in NAMES}
    for name in NAMES:
        loss = found[f"train/loss/{name}"]
        assert 0 < loss < 8 and found[f"train/perplexity/{name}"] == pytest.approx(math.exp(loss))
        assert found[f"validation/task/{name}"] > 0


@pytest.mark.parametrize("untold", [0.0, 0.5])
def test_tasks_that_are_told_have_ids_in_the_model(few: TrainConfig, shards: Path, untold: float):
    """And so may images have boundaries: the vocabulary must have room, and the folder says it."""
    told = replace(few, layout=MarkedConfig(boundary=True), data=replace(few.data, untold=untold))
    with pytest.raises(ValueError, match=r"32 codes and the special ids make 65"):
        train(told)
    gpt = replace(few.gpt, vocab=65, length=140, period=None)
    train(replace(told, gpt=gpt, eval_steps=6, lr=replace(few.lr, steps=2)))
    model = LVM.from_pretrained(few.run.folder / "model")
    tasks = model.layout.tasks
    assert model.config.layout == MarkedConfig(boundary=True, tasks=tasks)
    assert len(tasks) == len([*shards.iterdir()]) == 28 and set(NAMES) < set(tasks)


def test_boundaries_move_the_places_of_tokens(few: TrainConfig):
    """An embedding of places in an image must count the id before it."""
    gpt = replace(few.gpt, vocab=36, length=140)
    with pytest.raises(ValueError, match=r"gpt.period 32 is no multiple of the 17 ids of an image"):
        train(replace(few, layout=MarkedConfig(boundary=True), gpt=gpt))


def test_a_resumed_training_ends_in_the_same_bits(few: TrainConfig, monkeypatch: pytest.MonkeyPatch):
    """Six steps are three, a stop and three: weights, average, and what each task's loss is divided by."""
    train(few)
    stopped = replace(few, run=replace(few.run, folder=few.run.folder.with_name("stopped")))
    save = Run.save

    def fatal(run: Run) -> None:
        save(run)
        raise KeyboardInterrupt

    monkeypatch.setattr(Run, "save", fatal)
    with pytest.raises(KeyboardInterrupt):
        train(stopped)
    monkeypatch.setattr(Run, "save", save)
    train(stopped)
    last, other = (one.run.folder / "checkpoints" / "step-00000006" for one in (few, stopped))
    for file in last.glob("*.safetensors"):
        one, two = load_file(file), load_file(other / file.name)
        assert all(torch.equal(one[name], two[name]) for name in one), file.name
    assert load_file(last / "model-1.safetensors")["mean"].isfinite().all()
    for one, two in zip(*(rows_of(config.run.folder) for config in (few, stopped)), strict=True):
        assert one | {"samples_per_second": 0} == two | {"samples_per_second": 0}
