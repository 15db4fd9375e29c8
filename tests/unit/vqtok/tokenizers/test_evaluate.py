"""Evaluation: the figures are the metrics of the whole set, and the command writes what it says."""

import json
from pathlib import Path

import pytest
import torch
from PIL import Image
from torch import Tensor

from vqtok.data.pictures import write_picture
from vqtok.metrics.images import psnr, psnr_of_set, ssim
from vqtok.metrics.tokens import perplexity, usage
from vqtok.tokenizers import evaluate
from vqtok.tokenizers.tokenizer import VQTokenizer


@pytest.fixture
def pictures(tmp_path: Path) -> Path:
    """A folder of five pictures of 24x20 pixels."""
    for number in range(5):
        image = torch.rand(3, 24, 20, generator=torch.Generator().manual_seed(number))
        (tmp_path / "pictures").mkdir(exist_ok=True)
        write_picture(tmp_path / "pictures" / f"{number}.png", image)
    return tmp_path / "pictures"


def test_figures(tokenizer: VQTokenizer, images: Tensor):
    """PSNR and SSIM are those of each set as a whole, usage and perplexity those of all ids."""
    sets = {"a": images, "b": images.flip(0)[:3] / 2}
    found = evaluate.measure(tokenizer, sets)
    for name, originals in sets.items():
        decoded = tokenizer.decode(tokenizer.encode(originals))
        of_set = float(psnr_of_set(decoded, originals))
        assert found[f"psnr_of_set/{name}"] == pytest.approx(of_set, abs=1e-4)
        mean = float(psnr(decoded, originals).mean())
        assert found[f"psnr/{name}"] == pytest.approx(mean, abs=1e-4) and mean > of_set
        assert found[f"ssim/{name}"] == pytest.approx(float(ssim(decoded, originals).mean()), abs=1e-5)
    ids = torch.cat([tokenizer.encode(originals).flatten() for originals in sets.values()])
    assert found["usage"] == usage(ids, 32) and found["ids"] == len(ids) == 8 * 16
    assert found["perplexity"] == pytest.approx(perplexity(ids, 32))


def test_round_trip(tokenizer: VQTokenizer, images: Tensor):
    """Decoded images and ids in the order of the images, batch by batch."""
    decoded, ids = evaluate.round_trip(tokenizer, images, batch=5)
    assert torch.equal(ids, tokenizer.encode(images)) and torch.equal(decoded, tokenizer.decode(ids))
    assert evaluate.round_trip(tokenizer, images, batch=2)[0].shape == images.shape


def test_sheet(tokenizer: VQTokenizer, images: Tensor):
    """Originals stand above what comes back, spread over the set, as many of each set."""
    sheet = evaluate.reconstructions(tokenizer, {"a": images, "b": images[:2]}, count=3)
    assert sheet.shape == (3, 4 * 16, 2 * 16)
    assert torch.equal(sheet[:, :16, :16], images[0]) and torch.equal(sheet[:, :16, 16:], images[2])


def test_held_out():
    """192 test names in three styles: 36,864 ids of 64 tokens an image, nine for each of 4,096 codes."""
    found = evaluate.held_out("test")
    assert {name: tuple(images.shape) for name, images in found.items()} == dict.fromkeys(
        ("shaded", "flat", "line"), (192, 3, 64, 64)
    )
    assert sum(map(len, found.values())) * 64 == 36_864 == 9 * 4096


def test_command(tokenizer: VQTokenizer, pictures: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    """A table on the terminal, report.json and reconstructions.png in the folder; pictures are cropped."""
    tokenizer.save_pretrained(tmp_path / "model")
    out = tmp_path / "deep" / "out"
    evaluate.main(["--model", str(tmp_path / "model"), "--data", str(pictures), "--out", str(out)])
    report = json.loads((out / "report.json").read_text())
    assert report["data"] == str(pictures) and report["images"] == {"images": 5}
    assert (report["tokens_per_image"], report["bits_per_image"], report["ids"]) == (16, 80.0, 80)
    assert {"psnr/images", "ssim/images", "usage", "perplexity", "vocab", "model"} <= {*report}
    assert Image.open(out / "reconstructions.png").size == (5 * 16, 2 * 16)
    assert sorted(path.name for path in out.iterdir()) == ["reconstructions.png", "report.json"]
    told = capsys.readouterr().out
    assert f"{report['psnr/images']:.2f}" in told and f"{report['ssim/images']:.3f}" in told
    assert "of 32 codes occur in 80 ids" in told and "16 tokens = 80 bits an image" in told


def test_command_on_the_embedded_emoji(
    tokenizer: VQTokenizer, images: Tensor, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    """Without a folder the split of the embedded emoji is measured, style by style."""
    tokenizer.save_pretrained(tmp_path / "model")
    monkeypatch.setattr(evaluate, "held_out", lambda split: {split: images})
    for options, split in (([], "test"), (["--split", "validation"], "validation")):
        evaluate.main(["--model", str(tmp_path / "model"), "--out", str(tmp_path / split), *options])
        report = json.loads((tmp_path / split / "report.json").read_text())
        assert report["data"] == f"emoji {split}" and report["images"] == {split: 5}


def test_mistakes(pictures: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    """A missing tokenizer is an error before anything is written; a folder has no splits."""
    with pytest.raises(ValueError, match="nowhere"):
        evaluate.main(["--model", str(tmp_path / "nowhere"), "--out", str(tmp_path / "out")])
    assert not (tmp_path / "out").exists()
    with pytest.raises(SystemExit) as stop:
        evaluate.main(["--data", str(pictures), "--split", "train"])
    assert stop.value.code == 2 and "not allowed with argument --data" in capsys.readouterr().err
