"""Evaluation: nats of text and pictures beside those of wrong captions; scores of what is drawn."""

import json
import math
from collections.abc import Callable, Sequence
from pathlib import Path

import pytest
import torch
from torch import Tensor

from dalle.evaluate import Job, drawings, evaluate, held_out_nats, main, measured, others, told
from dalle.layout import Layout
from dalle.model import Dalle
from dalle.network import nats


def test_held_out_nats(build: Callable[..., Dalle], ids: Tensor):
    """Means over all rows, whatever the batch: of text with padding, of words and their end, of codes."""
    network = build().network
    found, again = (held_out_nats(network, ids, batch=batch) for batch in (3, 4))
    assert found == pytest.approx(again)
    text, image = nats(network, ids)
    wanted = {"text": text.mean(), "words": text[:, :4].mean(), "image": image.mean()}
    assert found == pytest.approx({f"validation/{name}": value.item() for name, value in wanted.items()})


def test_other_captions(ids: Tensor, layout: Layout):
    """Each picture's is the next one that differs from its own; one caption for all is refused."""
    twice = ids[[0, 0, 1, 2]]
    found = others(twice, layout)
    assert torch.equal(found[:, 5:], twice[:, 5:])
    assert torch.equal(found[:, :5], ids[[1, 1, 2, 0], :5])
    with pytest.raises(ValueError, match="2 pairs have one caption between them"):
        others(ids[[0, 0]], layout)


def test_floors(build: Callable[..., Dalle], ids: Tensor, layout: Layout):
    """Pictures' nats by their own caption, another's, and none; even odds are ln of the ids."""
    model = build()
    found = measured(model.network, ids, batch=3)
    silent = torch.cat([layout.padding.expand(4, -1), ids[:, 5:]], dim=1)
    wrong = others(ids, layout)
    wanted = {
        name: nats(model.network, rows)[1].mean().item()
        for name, rows in {"caption": ids, "another_caption": wrong, "no_caption": silent}.items()
    }
    assert found["image_nats"] == pytest.approx(wanted | {"uniform": math.log(6)})
    assert found["text_nats"]["uniform"] == pytest.approx(math.log(49))
    better = (nats(model.network, ids)[1].sum(1) < nats(model.network, wrong)[1].sum(1)).float().mean()
    assert found["own_caption_fits_better"] == pytest.approx(better.item())


def test_a_model_without_captions(build: Callable[..., Dalle], ids: Tensor):
    """One that does not look at text has the floors' figures, and prefers no caption."""
    model = build()
    model.gpt.embed.weight[:49] = 0.0
    found = measured(model.network, ids, batch=4)
    image = found["image_nats"]
    assert image["caption"] == pytest.approx(image["another_caption"])
    assert found["own_caption_fits_better"] == 0.0


def test_drawings(build: Callable[..., Dalle], ids: Tensor):
    """Three rows: held-out pictures, drawn by their captions, and drawn with guidance."""
    model = build()
    sheet = drawings(model, ids, seed=0, count=3)
    assert sheet.shape == (3, 12, 12)
    assert torch.equal(sheet[:, :4, :4], model.tokenizer.decode(model.layout.grid(ids[:1, 5:]))[0])
    assert not torch.equal(sheet[:, 4:8], sheet[:, 8:])


def test_the_command(
    build: Callable[..., Dalle], folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
):
    """Figures in lines and in report.json, and drawings."""
    build().save_pretrained(tmp_path / "model")
    words = ["--model", tmp_path / "model", "--shards", folder / "shards", "--count", 7,
             "--out", tmp_path / "out"]  # fmt: skip
    main([str(word) for word in words])
    printed = capsys.readouterr().out
    report = json.loads((tmp_path / "out" / "report.json").read_text())
    assert report["pairs"] == 7 and report["tokens"] == {"text": 5, "image": 16}
    assert (tmp_path / "out" / "drawings.png").is_file()
    assert f"image: {report['image_nats']['caption']:.4f} nats a token over 7 pairs" in printed
    assert "cut" not in printed


def test_scores(build: Callable[..., Dalle], folder: Path, tmp_path: Path):
    """A scorer marks what is drawn, held-out pictures, and both by other captions."""
    build().save_pretrained(tmp_path / "model")
    job = Job(model=str(tmp_path / "model"), shards=folder / "shards", count=8, guidance=2.0, batch=4, seed=0,
              out=tmp_path / "out", samples=4)  # fmt: skip

    def scorer(images: Tensor, captions: Sequence[str]) -> Tensor:
        light = torch.tensor([1.0 if "light" in caption else -1.0 for caption in captions])
        return (images.mean((1, 2, 3)) - 0.5)[:, None] * light

    report = evaluate(job, scorer)
    scores = report["scores"]
    assert scores["captions"] == 4
    assert scores["held_out"] > 0.2 > scores["held_out_another_caption"]
    assert abs(scores["drawn"]) < 0.5
    assert any(line.startswith("scores: drawn") for line in told(report))
