"""Training: both objectives, classes, fine-tuning; and what does not belong together is refused first."""

import json
import math
from collections.abc import Callable
from dataclasses import fields, replace
from pathlib import Path

import pytest
import torch

from imagegpt import tune
from imagegpt.model import ImageGPT
from imagegpt.network import ObjectiveConfig
from imagegpt.rows import Rows
from imagegpt.train import LoopConfig, PicturesConfig, TrainConfig, pictures, train
from vqtok.data.shards import Shards
from vqtok.gpt.config import GPTConfig
from vqtok.gpt.sampling import Sampling
from vqtok.tokenizers.autoencoder import AutoencoderConfig
from vqtok.tokenizers.encode import Job, encode
from vqtok.tokenizers.palette import PaletteTokenizer
from vqtok.tokenizers.quantizers.residual import ResidualVQConfig
from vqtok.tokenizers.tokenizer import TokenizerConfig, VQTokenizer
from vqtok.training.optim import OptimConfig
from vqtok.training.run import RunConfig
from vqtok.training.schedule import LRConfig, cosine


@pytest.fixture
def config(shards: Path, palette_folder: Path, shapes: dict[str, GPTConfig], tmp_path: Path) -> TrainConfig:
    """Forty steps of eight pictures; four are held out."""
    return TrainConfig(
        run=RunConfig(folder=tmp_path / "run", log_steps=10, trackers=()),
        data=PicturesConfig(shards=shards, tokenizer=str(palette_folder), held_out=4, batch=8),
        gpt=shapes["past"],
        optim=OptimConfig(decay=0.0),
        lr=LRConfig(peak=1e-2, warmup_steps=2, steps=40),
        average=0.8,
        eval_steps=40,
        save_steps=20,
    )


def tuning(config: TrainConfig, start: Path) -> tune.TrainConfig:
    """The same training, but from a model that learns classes too."""
    settings = {part.name: getattr(config, part.name) for part in fields(LoopConfig)}
    settings |= {"run": replace(config.run, folder=config.run.folder.with_name("tuned"))}
    return tune.TrainConfig(**settings | {"objective": ObjectiveConfig(classes=1.0)}, start=str(start))


def told(config: LoopConfig) -> tuple[list[dict], dict]:
    """What a run recorded of training, and of its last evaluation."""
    lines = (config.run.folder / "metrics.jsonl").read_text().splitlines()
    rows = [json.loads(line) for line in lines]
    return [row for row in rows if "loss" in row], next(row for row in rows if "validation/ids" in row)


def test_autoregressive(config: TrainConfig):
    """From ln v the loss falls, also on held-out pictures; `model/` draws such pictures; a sheet is kept."""
    train(replace(config, run=replace(config.run, log_steps=1)))
    losses, held_out = told(config)
    assert losses[0]["loss"] == pytest.approx(math.log(6), abs=0.1)
    assert losses[-1]["loss"] < 1.2 and held_out["validation/ids"] < 1.2
    assert losses[-1]["loss/ids"] == pytest.approx(losses[-1]["loss"], rel=1e-4)
    assert [*(config.run.folder / "pictures").glob("pictures-*.png")]
    model = ImageGPT.from_pretrained(config.run.folder / "model")
    assert model.config.classes == () and model.sample(2).shape == (2, 3, 4, 4)
    ids, _ = Rows(Shards(config.data.shards)).evenly(None)
    assert model.nll(model.tokenizer.decode(model.layout.grid(ids))).mean() < 1.2


def test_masked(config: TrainConfig, shapes: dict[str, GPTConfig]):
    """The loss of hidden tokens falls, and holes are filled in what is around them."""
    train(replace(config, gpt=shapes["both"], objective=ObjectiveConfig(hidden=0.3)))
    losses, held_out = told(config)
    assert losses[-1]["loss"] < losses[0]["loss"] - 0.2 and held_out["validation/ids"] < 1.4
    model = ImageGPT.from_pretrained(config.run.folder / "model")
    hole = torch.zeros(4, 4, dtype=torch.bool)
    hole[1:3, 1:3] = True
    white, black = torch.ones(1, 3, 4, 4), torch.zeros(1, 3, 4, 4)
    greedy = Sampling(temperature=0.0)
    assert torch.equal(model.fill(white, hole, sampling=greedy), white)
    assert torch.equal(model.fill(black, hole, sampling=greedy), black)


def test_classes_as_prefix(config: TrainConfig, shapes: dict[str, GPTConfig]):
    """The class decides what is drawn, by its name."""
    train(replace(config, gpt=shapes["classes"]))
    model = ImageGPT.from_pretrained(config.run.folder / "model")
    assert model.config.classes == ("dark", "light")
    means = model.sample(32, classes=["light", "dark"]).mean((1, 2, 3))
    assert means[::2].mean() > means[1::2].mean() + 0.3


def test_naming_classes(config: TrainConfig):
    """Fine-tuned with both losses, it names the class of held-out pictures; both losses are recorded."""
    train(config)
    tuned = tuning(config, start=config.run.folder / "model")
    tune.train(tuned)
    losses, held_out = told(tuned)
    assert losses[0]["loss/ids"] < 1.3  # it went on from what was learned
    total = losses[-1]["loss/ids"] + losses[-1]["loss/classes"]
    assert losses[-1]["loss"] == pytest.approx(total, rel=1e-4)
    assert held_out["validation/right"] == 1.0 and held_out["validation/classes"] < 0.3
    model = ImageGPT.from_pretrained(tuned.run.folder / "model")
    assert model.classify(torch.ones(1, 3, 4, 4))[0].tolist()[model.config.classes.index("light")] > 0.7


def test_over_codes(config: TrainConfig, shards: Path, shapes: dict[str, GPTConfig], tmp_path: Path):
    """Another tokenizer in the recipe is another vocabulary; several ids of a code are tokens too."""
    torch.manual_seed(0)
    shape = AutoencoderConfig(channels=8, multipliers=(1, 1), blocks=1, latent=8, groups=4, patch=1)
    quantizer = ResidualVQConfig(stages=2, codes=8, width=4)
    tokenizer = VQTokenizer(TokenizerConfig(size=4, autoencoder=shape, quantizer=quantizer)).eval()
    tokenizer.save_pretrained(tmp_path / "vq")
    encode(Job(tokenizer=str(tmp_path / "vq"), data=shards.parent / "pictures", out=tmp_path / "codes",
               decoders=0))  # fmt: skip
    data = replace(config.data, shards=tmp_path / "codes", tokenizer=str(tmp_path / "vq"))
    gpt = replace(shapes["classes"], vocab=8, length=8)
    train(replace(config, data=data, gpt=gpt, lr=replace(config.lr, steps=3), eval_steps=3))
    model = ImageGPT.from_pretrained(config.run.folder / "model")
    assert model.layout.shape == (2, 2, 2) and model.sample(2, classes=["dark"]).shape == (2, 3, 4, 4)
    assert model.complete(torch.rand(1, 3, 4, 4), rows=1).shape == (1, 3, 4, 4)
    with pytest.raises(ValueError, match="data.mirror turns ids of pixels, and these are codes"):
        train(replace(config, data=replace(data, mirror=True), gpt=gpt))


def test_a_run_goes_on(config: TrainConfig, monkeypatch: pytest.MonkeyPatch):
    """Stopped half-way and gone on with, it ends in the same weights."""
    short = replace(config, lr=replace(config.lr, steps=12), save_steps=5, eval_steps=6)
    other = replace(short, run=replace(short.run, folder=short.run.folder.with_name("straight")))
    train(other)

    def stop(step: int, config: LRConfig) -> float:
        if step == 8:
            raise KeyboardInterrupt
        return cosine(step, config)

    monkeypatch.setattr("imagegpt.train.cosine", stop)
    with pytest.raises(KeyboardInterrupt):
        train(short)
    monkeypatch.undo()
    train(short)
    ended, straight = (ImageGPT.from_pretrained(c.run.folder / "model").state_dict() for c in (short, other))
    assert all(torch.equal(ended[name], weight) for name, weight in straight.items())


def test_validation_shards(config: TrainConfig, shards: Path, palette: PaletteTokenizer):
    """Without any, some pictures of the shards are kept and never shown; given, all are shown."""
    rows = Rows(Shards(shards))
    order, (ids, _) = pictures(config, palette, rows)
    assert len(order.chosen) == 20 and len(ids) == 4
    kept = {tuple(row.tolist()) for row in ids}
    assert not kept & {tuple(rows[number][0].tolist()) for number in order.chosen}
    given = replace(config, data=replace(config.data, validation=shards, held_out=6))
    order, (ids, _) = pictures(given, palette, rows)
    assert len(order.chosen) == 24 and torch.equal(ids[1], rows[4][0])


WRONG: dict[str, dict] = {
    "gpt.vocab is 7, but the tokenizer has 6 codes": {"gpt": {"vocab": 7}},
    "data.held_out is 24 of 24 pictures: leave at least one": {"data": {"held_out": 24}},
    "need not name it: set objective.classes to 0": {"kind": "classes", "objective": {"classes": 1.0}},
}


@pytest.mark.parametrize("wrong", WRONG)
def test_mistakes_are_refused_before_training(
    wrong: str, config: TrainConfig, shapes: dict[str, GPTConfig]
):
    """Not after the hours that it takes."""
    change = WRONG[wrong]
    gpt = replace(shapes[change.get("kind", "past")], **change.get("gpt", {}))
    objective = ObjectiveConfig(**change.get("objective", {}))
    data = replace(config.data, **change.get("data", {}))
    with pytest.raises(ValueError, match=wrong):
        train(replace(config, gpt=gpt, objective=objective, data=data))
    assert not (config.run.folder / "checkpoints").exists()


def test_another_palette(config: TrainConfig, build: Callable[..., ImageGPT], tmp_path: Path):
    """A model to go on from has the tokenizer of the shards, or is refused."""
    model = build()
    with torch.no_grad():
        model.tokenizer.colors.mul_(0.9)
    model.save_pretrained(tmp_path / "other")
    with pytest.raises(ValueError, match="other has another tokenizer than .*palette: name its own"):
        tune.train(tuning(config, start=tmp_path / "other"))
