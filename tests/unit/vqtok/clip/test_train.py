"""A Clip's training: it learns, resumes, and is the one that is saved."""

from dataclasses import replace

import pytest
import torch
from accelerate.state import AcceleratorState

from vqtok.clip.loss import contrastive_loss
from vqtok.clip.model import Clip
from vqtok.clip.pairs import Samples
from vqtok.clip.retrieval import matched
from vqtok.clip.towers import Towers
from vqtok.clip.train import CaptionsConfig, TrainConfig, learn, train
from vqtok.training.journal import read_rows
from vqtok.training.optim import OptimConfig
from vqtok.training.run import Run, RunConfig
from vqtok.training.schedule import LRConfig


@pytest.fixture(autouse=True)
def cpu(monkeypatch):
    """These tests compute on the CPU."""
    monkeypatch.setenv("ACCELERATE_USE_CPU", "1")
    AcceleratorState._reset_state(reset_partial_state=True)


@pytest.fixture
def config(towers_config, tmp_path) -> TrainConfig:
    """Twelve steps of six pairs."""
    return TrainConfig(
        run=RunConfig(folder=tmp_path / "run", log_steps=1, trackers=()),
        data=CaptionsConfig(pairs="a", validation="b", text="c", held_out=18, batch=6),
        towers=towers_config,
        optim=OptimConfig(),
        lr=LRConfig(peak=3e-3, warmup_steps=1, steps=12),
        average=0.5,
        eval_steps=6,
        save_steps=6,
    )


def test_it_learns(config, tokenizer, pairs):
    """After 90 steps colors and their names find each other, whichever the phrase."""
    config = replace(config, data=replace(config.data, batch=18), eval_steps=90, save_steps=90,
                     lr=LRConfig(peak=3e-3, warmup_steps=5, steps=90))  # fmt: skip
    learn(Run(config.run), config, tokenizer, pairs, pairs)
    model = Clip.from_pretrained(config.run.folder / "model")
    images = torch.stack([torch.tensor(pairs[place][0][0, 0]) for place in range(0, 18, 3)]) / 255
    names = [pairs[place][1] for place in range(0, 18, 3)]
    assert matched(model, images[:, :, None, None].expand(-1, -1, 32, 32), names, names) >= 5 / 6


def test_records(config, tokenizer, pairs):
    """Scale, cut captions and recalls beside blind guesses are recorded."""
    learn(Run(config.run), config, tokenizer, pairs, pairs)
    rows = read_rows(config.run.folder)
    facts = {name: row[name] for row in reversed(rows) for name in row}
    assert 1 < facts["scale"] <= 100.001 and facts["captions/cut"] == 0
    assert facts["recall/chance@1"] == pytest.approx(1 / 18)
    assert {"recall/image_to_text@1", "recall/text_to_image@5"} <= facts.keys()


def test_stop_and_resume(config, tokenizer, pairs):
    """Stopped in the middle and resumed, a run ends in the same bits."""
    learn(Run(config.run), config, tokenizer, pairs, pairs)
    other = replace(config, run=replace(config.run, folder=config.run.folder.with_name("other")))

    class Stop(Exception):
        pass

    def stop(pairs: object, at: int) -> object:
        class Stopping:
            seen = 0

            def __len__(self) -> int:
                return len(pairs)

            def __getitem__(self, index: int) -> tuple:
                self.seen += 1
                if self.seen > at:
                    raise Stop
                return pairs[index]

        return Stopping()

    with pytest.raises(Stop):
        learn(Run(other.run), other, tokenizer, stop(pairs, at=6 * 8), pairs)
    learn(Run(other.run), other, tokenizer, pairs, pairs)
    one, two = ((run.folder / "model" / "model.safetensors").read_bytes() for run in (config.run, other.run))
    assert one == two


def test_scale_is_limited(config, tokenizer, pairs, monkeypatch):
    """Whatever the steps do, no step ends with cosines multiplied by more than 100, the average included."""
    monkeypatch.setattr("vqtok.clip.towers.START", 99.9)
    config = replace(config, lr=LRConfig(peak=0.5, warmup_steps=1, steps=4))
    monkeypatch.setattr("vqtok.clip.train.contrastive_loss", lambda *a: contrastive_loss(*a) - a[2] / 10)
    learn(Run(config.run), config, tokenizer, pairs, pairs)
    scales = [row["scale"] for row in read_rows(config.run.folder) if "scale" in row]
    model = Clip.from_pretrained(config.run.folder / "model")
    assert scales[-1] == pytest.approx(100, rel=1e-5) and max(scales) < 100.001
    assert model.towers.log_scale.exp() < 100.001


def test_first_loss(config, tokenizer, pairs):
    """The loss of the first step is that of drawn weights on the first samples of the order."""
    learn(Run(config.run), config, tokenizer, pairs, pairs)
    run = Run(replace(config.run, folder=config.run.folder.with_name("again")))
    towers = Towers(config.towers, tokenizer.vocab)
    samples = Samples(pairs, tokenizer, config.towers, config.data.crop)
    images, ids, captions, _ = zip(*(samples[place] for place in range(6)), strict=True)
    seen, read, scale = towers(torch.stack(images), torch.stack(ids))
    loss = contrastive_loss(seen, read, scale, torch.tensor(captions))
    run.finish()
    assert read_rows(config.run.folder)[0]["loss"] == pytest.approx(loss.item(), rel=1e-5)


def test_train_opens_what_the_recipe_names(config, tokenizer, pairs, tmp_path, monkeypatch):
    """Pairs by name, validation by name, and the text tokenizer's folder."""
    tokenizer.save_pretrained(tmp_path / "text")
    opened = []
    monkeypatch.setattr("vqtok.clip.train.open_captions", lambda name, _: opened.append(name) or pairs)
    train(replace(config, data=replace(config.data, text=str(tmp_path / "text"))))
    assert opened == ["a", "b"]
    assert (config.run.folder / "model" / "model.safetensors").is_file()


def test_micro_batches_are_refused(config):
    """Parts of a batch would have fewer captions to tell from: refused, with the way out."""
    with pytest.raises(ValueError, match="micro_batches 2 .* set it to 1"):
        replace(config, run=replace(config.run, micro_batches=2))


def test_batch_of_one(config):
    """A batch of one pair has nothing to learn from."""
    with pytest.raises(ValueError, match="batch 1"):
        replace(config.data, batch=1)
