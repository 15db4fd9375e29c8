"""Training: both losses fall, captions come to matter, runs go on; what does not fit is refused."""

import json
import math
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from dalle.data import CaptionsConfig
from dalle.model import Dalle
from dalle.network import ObjectiveConfig
from dalle.train import TrainConfig, train
from vqtok.gpt.config import GPTConfig
from vqtok.tokenizers.palette import PaletteTokenizer
from vqtok.training.optim import OptimConfig
from vqtok.training.run import RunConfig
from vqtok.training.schedule import LRConfig, cosine


@pytest.fixture
def config(folder: Path, shapes: dict[str, GPTConfig], tmp_path: Path) -> TrainConfig:
    """Sixty steps of eight pairs; four are held out."""
    data = CaptionsConfig(
        shards=folder / "shards", tokenizer=str(folder / "palette"), text=str(folder / "text"), held_out=4,
        batch=8, merges_dropped=0.02,
    )  # fmt: skip
    return TrainConfig(
        run=RunConfig(folder=tmp_path / "run", log_steps=10, trackers=()),
        data=data,
        text_length=5,
        gpt=shapes["dense"],
        optim=OptimConfig(decay=0.0),
        lr=LRConfig(peak=1e-2, warmup_steps=2, steps=60),
        average=0.8,
        eval_steps=60,
        save_steps=20,
    )


def recorded(config: TrainConfig) -> list[dict]:
    """What a run recorded."""
    return [json.loads(line) for line in (config.run.folder / "metrics.jsonl").read_text().splitlines()]


@pytest.mark.parametrize("kind", ["dense", "masked"])
def test_it_learns(kind: str, config: TrainConfig, shapes: dict[str, GPTConfig]):
    """From even odds both losses fall, also on held-out pairs; the caption then says whether it is light."""
    config = replace(config, gpt=shapes[kind], run=replace(config.run, log_steps=1))
    train(config)
    rows = recorded(config)
    steps = [row for row in rows if "loss" in row]
    assert steps[0]["loss/text"] == pytest.approx(math.log(49), abs=0.2)
    assert steps[0]["loss/image"] == pytest.approx(math.log(6), abs=0.2)
    for row in steps:
        assert row["loss"] == pytest.approx(row["loss/text"] / 8 + row["loss/image"] * 7 / 8, rel=1e-4)
    held_out = next(row for row in rows if "validation/image" in row)
    assert held_out["validation/image"] < 1.2 and held_out["validation/text"] < 1.5
    model = Dalle.from_pretrained(config.run.folder / "model")
    images = model.generate(["a dark square", "a light square"], count=12)
    means = images.unflatten(0, (2, 12)).mean((1, 2, 3, 4))
    assert means[1] > means[0] + 0.3
    pictures = torch.stack([torch.zeros(3, 4, 4), torch.ones(3, 4, 4)])
    fits = model.score(pictures, ["a dark square", "a light square"])
    assert fits.argmax(1).tolist() == [0, 1]


def test_what_is_recorded(config: TrainConfig):
    """Counts of captions and tokens once, tokens seen and words a row as it goes, and a sheet of pictures."""
    train(replace(config, lr=replace(config.lr, steps=20), eval_steps=20))
    rows = recorded(config)
    assert rows[0] | {"captions/cut": 0.0, "captions/unknown": 0.0, "captions/words": 3.0} == rows[0]
    assert (rows[0]["tokens/text"], rows[0]["tokens/image"]) == (5, 16)
    seen = [row["tokens/seen"] for row in rows if "tokens/seen" in row]
    assert seen == [10 * 8 * 21, 20 * 8 * 21]
    told = [row["tokens/words"] for row in rows if "tokens/words" in row]
    assert all(2 < words < 3.5 for words in told)  # a tenth of the captions is dropped
    assert "samples_per_second" in rows[1]
    assert [*(config.run.folder / "pictures").glob("pictures-*.png")]


def test_other_weights(config: TrainConfig):
    """What each part counts, and whether padding does, are settings; the total says so."""
    objective = ObjectiveConfig(text=0.0, image=1.0, padding=False)
    config = replace(config, objective=objective, lr=replace(config.lr, steps=10), eval_steps=0)
    train(config)
    row = next(row for row in recorded(config) if "loss" in row)
    assert row["loss"] == pytest.approx(row["loss/image"], rel=1e-5)


def test_a_run_goes_on(config: TrainConfig, monkeypatch: pytest.MonkeyPatch):
    """Stopped half-way and gone on with, it ends in the same weights, dropped captions and all."""
    short = replace(config, lr=replace(config.lr, steps=12), save_steps=5, eval_steps=6)
    other = replace(short, run=replace(short.run, folder=short.run.folder.with_name("straight")))
    train(other)

    def stop(step: int, config: LRConfig) -> float:
        if step == 8:
            raise KeyboardInterrupt
        return cosine(step, config)

    monkeypatch.setattr("dalle.train.cosine", stop)
    with pytest.raises(KeyboardInterrupt):
        train(short)
    monkeypatch.undo()
    train(short)
    ended, straight = (Dalle.from_pretrained(c.run.folder / "model").state_dict() for c in (short, other))
    assert all(torch.equal(ended[name], weight) for name, weight in straight.items())


def test_memory_for_work(config: TrainConfig):
    """Blocks that are computed once more give the same weights."""
    short = replace(config, lr=replace(config.lr, steps=4), eval_steps=0)
    again = replace(short, recompute=True, run=replace(short.run, folder=short.run.folder.with_name("again")))
    train(short)
    train(again)
    models = [Dalle.from_pretrained(c.run.folder / "model").state_dict() for c in (short, again)]
    for name, weight in models[0].items():
        torch.testing.assert_close(models[1][name], weight)


def test_validation_shards(config: TrainConfig):
    """Given, all pairs are shown and some of these are measured."""
    data = replace(config.data, validation=config.data.shards, held_out=6)
    train(replace(config, data=data, lr=replace(config.lr, steps=3), eval_steps=3))
    assert any("validation/words" in row for row in recorded(config))


WRONG: dict[str, Callable[[TrainConfig], TrainConfig]] = {
    "gpt.vocab is 54, but 44 words, 5 paddings and 6 codes make 55": (
        lambda c: replace(c, gpt=replace(c.gpt, vocab=54, head=replace(c.gpt.head, ranges=())))
    ),
    "gpt.vocab is 55, but 44 words, 7 paddings": lambda c: replace(c, text_length=7),
    "data.held_out is 24 of 24 pairs: leave at least one": (
        lambda c: replace(c, data=replace(c.data, held_out=24))
    ),
}


@pytest.mark.parametrize("told", WRONG)
def test_mistakes_are_refused_before_training(told: str, config: TrainConfig):
    """Not after the hours that it takes."""
    with pytest.raises(ValueError, match=told):
        train(WRONG[told](config))
    assert not (config.run.folder / "checkpoints").exists()


def test_shards_of_another_tokenizer(config: TrainConfig, palette: PaletteTokenizer, tmp_path: Path):
    """The hash in the shards tells."""
    with torch.no_grad():
        palette.colors.mul_(0.9)
    palette.save_pretrained(tmp_path / "other")
    with pytest.raises(ValueError, match="was encoded by tokenizer .*other is .*: encode again"):
        train(replace(config, data=replace(config.data, tokenizer=str(tmp_path / "other"))))
