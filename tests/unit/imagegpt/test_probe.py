"""The probe: features of every layer as the paper has them, the layer chosen without looking at the test."""

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from torch import Tensor

from imagegpt import probe as probing
from imagegpt.model import ImageGPT
from imagegpt.probe import Job, Trial, features, pixels, probe, tapped
from vqtok.data.shards import write_shard
from vqtok.tokenizers.fingerprint import fingerprint


@pytest.mark.parametrize("kind", ["past", "both", "classes"])
def test_features_are_the_normed_streams_means(kind: str, build: Callable[..., ImageGPT], ids: Tensor):
    """Of every block's input, normed as its attention sees it, and of the last norm; whatever the batch."""
    model = build(kind)
    gpt, network = model.gpt, model.network
    x = gpt.embed(ids)
    if kind != "both":
        start = gpt.prefix(None if kind == "past" else torch.full((5,), 2), 5)
        x = torch.cat([start, x[:, :-1]], dim=1)
    x = x + gpt.positions(torch.arange(16))
    mask = torch.ones(16, 16, dtype=torch.bool)
    wanted = []
    for block in gpt.blocks:
        wanted.append(block.attention_norm(x).mean(1))
        x = block(x, None, mask if kind == "both" else mask.tril())
    wanted.append(gpt.norm(x).mean(1))
    found = features(network, ids, batch=2)
    assert found.shape == (3, 5, 16)
    torch.testing.assert_close(found, torch.stack(wanted))


def test_taps_are_taken_out(build: Callable[..., ImageGPT], ids: Tensor):
    """Also where a pass fails."""
    gpt = build().gpt
    with pytest.raises(ZeroDivisionError), tapped(gpt) as found:
        gpt(ids[:, :-1])
        assert len(found) == 3
        raise ZeroDivisionError
    gpt(ids[:, :-1])
    assert len(found) == 3


def test_pixels(build: Callable[..., ImageGPT], images: Tensor):
    """Those that the tokenizer gives back."""
    model = build()
    ids = model.tokenizer.encode(images).flatten(1)
    assert torch.equal(pixels(model, ids, batch=2), images.flatten(1))


def test_settings_are_chosen_on_held_out_pictures():
    """The test decides nothing: with its classes turned around, all but its own accuracy stays."""
    generator = torch.Generator().manual_seed(0)
    labels = torch.randint(2, (200,), generator=generator)
    x = torch.randn(200, 3, generator=generator) + 2 * labels[:, None]
    job = Job(model="", train=Path(), test=Path(), held_out=0.2)
    order = torch.randperm(150, generator=generator)
    right = Trial(job, 2, order, labels[:150], labels[150:]).run(x[:150], x[150:])
    wrong = Trial(job, 2, order, labels[:150], 1 - labels[150:]).run(x[:150], x[150:])
    assert right["held_out"] == wrong["held_out"] and right["setting"] == wrong["setting"]
    assert right["test"] > 0.9 and wrong["test"] == pytest.approx(1 - right["test"])
    assert right["setting"] in probing.DECAYS


@pytest.fixture
def job(build: Callable[..., ImageGPT], tmp_path: Path) -> Job:
    """Pictures of two classes, of two colors each, encoded for an untrained model."""
    model = build()
    model.save_pretrained(tmp_path / "model")
    mark = fingerprint(model.tokenizer)
    for name, count in (("train", 60), ("test", 20)):
        labels = torch.arange(count) % 2
        ids = torch.randint(2, (count, 16)) + 4 * labels[:, None]
        facts = {"tokenizer": mark, "grid": [4, 4], "labels": [["cat", "dog"][label] for label in labels]}
        write_shard(tmp_path / name / "00000", ids.numpy(), 6, facts)
    return Job(model=str(tmp_path / "model"), train=tmp_path / "train", test=tmp_path / "test")


@pytest.mark.parametrize("solver", ["lbfgs", "sgd"])
def test_a_report(solver: str, job: Job):
    """Every layer, pixels, and the layer that is best on held-out pictures; colors are told apart."""
    report = probe(replace(job, solver=solver, steps=30, count=50, test_count=19))
    assert (report["train_pictures"], report["test_pictures"], report["classes"]) == (50, 19, 2)
    assert len(report["layers"]) == 3
    best = [layer["held_out"] for layer in report["layers"]]
    assert report["layer"] == best.index(max(best))
    assert report["test"] == report["layers"][report["layer"]]["test"] > 0.9
    assert report["pixels"]["test"] > 0.9


def test_no_classes(job: Job):
    """Shards that tell no classes are refused."""
    ids = torch.zeros(3, 16, dtype=torch.int64).numpy()
    mark = fingerprint(ImageGPT.from_pretrained(job.model).tokenizer)
    write_shard(job.train.with_name("plain") / "00000", ids, 6, {"tokenizer": mark, "grid": [4, 4]})
    with pytest.raises(ValueError, match="plain does not tell the classes of its pictures: encode a gallery"):
        probe(replace(job, train=job.train.with_name("plain")))
    with pytest.raises(ValueError, match="held_out 1.5 is a share of the training pictures"):
        replace(job, held_out=1.5)
