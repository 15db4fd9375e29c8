"""Fine-tuning: from a folder to adapters and a merged folder, resumed exactly, also without marks."""

import json
from dataclasses import replace
from pathlib import Path

import peft
import pytest
import torch

from lvm.adapters import AdapterConfig
from lvm.data import SentencesConfig
from lvm.layout import BareConfig
from lvm.model import LVM, LVMConfig
from lvm.tune import TrainConfig, train
from vqtok.storage.tensors import read_tensors
from vqtok.training.optim import OptimConfig
from vqtok.training.run import RunConfig
from vqtok.training.schedule import LRConfig


@pytest.fixture
def config(two_tasks: Path, lvm_folder: Path, tmp_path: Path) -> TrainConfig:
    """Six steps, a checkpoint every two."""
    return TrainConfig(
        run=RunConfig(folder=tmp_path / "run", log_steps=2, trackers=()), model=str(lvm_folder),
        data=SentencesConfig(shards=two_tasks, held_out=3, pairs=3, batch=4, spoil=0.2), optim=OptimConfig(),
        lr=LRConfig(peak=1e-2, warmup_steps=1, steps=6), adapter=AdapterConfig(rank=4, dropout=0.1),
        eval_steps=6, save_steps=2,
    )  # fmt: skip


def rows(folder: Path) -> list[dict]:
    """What a run recorded."""
    return [json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines()]


def test_a_short_tuning_ends_in_adapters_and_a_model(config: TrainConfig, lvm_folder: Path):
    """The held-out loss falls, the folder of the base is as it was, and `model/` is base and adapters."""
    before = (lvm_folder / "model.safetensors").read_bytes()
    train(config)
    folder = config.run.folder
    held_out = {row["step"]: row["validation/loss"] for row in rows(folder) if "validation/loss" in row}
    assert [*held_out] == [0, 6] and held_out[6] < held_out[0]
    assert (lvm_folder / "model.safetensors").read_bytes() == before

    base, tuned = (LVM.from_pretrained(place) for place in (lvm_folder, folder / "model"))
    assert tuned.config == base.config
    moved = {
        name
        for name, tensor in base.state_dict().items()
        if not torch.equal(tensor, tuned.state_dict()[name])
    }
    assert moved == {f"gpt.blocks.0.{name}.weight"
                     for name in ("attention.qkv", "attention.out", "mlp.gate_up", "mlp.down")}  # fmt: skip
    adapted = peft.PeftModel.from_pretrained(base.gpt, str(folder / "adapter")).eval()
    ids = torch.arange(30)[None]
    torch.testing.assert_close(tuned.gpt(ids), adapted(ids), atol=1e-5, rtol=1e-5)
    picture = torch.rand(3, 64, 64)
    assert tuned.prompt([(picture, picture)], picture).shape == (1, 3, 64, 64)


def test_a_resumed_tuning_equals_one_that_was_never_stopped(
    config: TrainConfig, monkeypatch: pytest.MonkeyPatch
):
    """Bit for bit, with dropout; checkpoints hold the adapters alone."""
    train(config)
    again = replace(config, run=replace(config.run, folder=config.run.folder.with_name("again")))
    with monkeypatch.context() as patch:
        patch.setattr("lvm.tune.cosine", stops_at(3))
        with pytest.raises(KeyboardInterrupt):
            train(again)
    checkpoint = sorted((again.run.folder / "checkpoints").iterdir())[-1]
    assert all(".lora_" in name for name in read_tensors(checkpoint / "model-0.safetensors"))
    train(again)
    files = [one.run.folder / "adapter" / "adapter_model.safetensors" for one in (config, again)]
    assert files[0].read_bytes() == files[1].read_bytes()
    assert [row.get("loss") for row in rows(config.run.folder)] == [
        row.get("loss") for row in rows(again.run.folder)
    ]


def stops_at(last: int):
    """A learning rate during whose step the run is stopped."""

    def rate(step: int, config: LRConfig) -> float:
        if step == last:
            raise KeyboardInterrupt
        return 1e-2

    return rate


@pytest.mark.parametrize("images", [8, 7])
def test_a_bare_layout_trains(model: LVM, config: TrainConfig, tmp_path: Path, images: int):
    """As the published model has it: sentences fill a context exactly, or leave what counts for nothing.

    Sentences of two pairs, of which two fit or one: with the documents apart, or with room left over.
    """
    layout = BareConfig(reserved=3)
    shape = replace(model.config.gpt, length=images * 16)
    bare = LVM(LVMConfig(tokenizer=model.config.tokenizer, gpt=shape, layout=layout))
    bare.tokenizer.load_state_dict(model.tokenizer.state_dict())
    bare.save_pretrained(tmp_path / "bare")
    data = replace(config.data, pairs=2)
    config = replace(config, model=str(tmp_path / "bare"), data=data, recompute=images == 7)
    train(config)
    losses = [row["loss"] for row in rows(config.run.folder) if "loss" in row]
    assert len(losses) == 3 and losses[-1] < losses[0]
    assert LVM.from_pretrained(config.run.folder / "model").config.layout == layout


def test_muon_is_refused(config: TrainConfig):
    """It would train no adapter, and so mean nothing."""
    with pytest.raises(ValueError, match=r"optim\.muon .* set it to false"):
        replace(config, optim=OptimConfig(muon=True))
