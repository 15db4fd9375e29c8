"""Fitting a text tokenizer as a run: a folder with the tokenizer and what it makes of the captions."""

import json
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from dalle.fit_text import TrainConfig, train
from vqtok.text import TextConfig, load_text_tokenizer


@pytest.fixture
def config(tmp_path: Path) -> TrainConfig:
    """Twelve captions in a file."""
    things = ("fox", "hen", "cat", "egg")
    lines = [f"A {color} {thing}" for color in ("red", "green", "blue") for thing in things]
    data = tmp_path / "captions.txt"
    data.write_text("\n".join([*lines, ""]) + "\n")
    return TrainConfig(folder=tmp_path / "fit", data=str(data), text=TextConfig(vocab=30))


def test_a_fit(config: TrainConfig):
    """The tokenizer lies in model/, and fit.json says how long captions are; again it is the same."""
    tokenizer = train(config)
    loaded = load_text_tokenizer(config.folder / "model")
    assert torch.equal(loaded.model, tokenizer.model) and loaded.vocab == 30
    report = json.loads((config.folder / "fit.json").read_text())
    lengths = (tokenizer.encode([f"a {color} egg" for color in ("red", "green", "blue")]).ids >= 0).sum(1)
    assert (report["captions"], report["blank"], report["unknown"], report["vocab"]) == (12, 1, 0, 30)
    assert 0 < report["tokens_mean"] <= report["tokens_99th"] <= report["tokens_most"]
    assert report["tokens_most"] >= int(lengths.max())
    assert torch.equal(train(config).model, tokenizer.model)


def test_another_fit_is_refused(config: TrainConfig):
    """A folder that holds the fit of other settings or captions is left alone."""
    train(config)
    with pytest.raises(ValueError, match="holds a fit with vocab 30, this one has 29: give another folder"):
        train(replace(config, text=TextConfig(vocab=29)))
    Path(config.data).write_text("A red fox\n" * 12)
    with pytest.raises(ValueError, match="holds a fit with sha256"):
        train(config)


def test_too_few_captions(config: TrainConfig):
    """More ids than they hold are refused, and nothing is written."""
    with pytest.raises(ValueError, match=r"vocab 16384 is more than these captions hold: set it to \d+"):
        train(replace(config, text=TextConfig()))
    assert not config.folder.exists()


def test_captions_of_pictures(config: TrainConfig):
    """A source of pictures with captions is read for its captions alone."""
    train(replace(config, data="emoji:train:300", text=TextConfig(vocab=120)))
    report = json.loads((config.folder / "fit.json").read_text())
    assert (report["captions"], report["blank"], report["unknown"]) == (300, 0, 0)
