"""Evaluation: the figures are the metrics of the whole set, and the command writes what it says."""

import json
from pathlib import Path

import pytest
import torch
from einops import rearrange
from PIL import Image
from torch import Tensor, nn

from vqtok.data.pictures import write_picture
from vqtok.metrics.images import psnr, psnr_of_set, ssim
from vqtok.metrics.tokens import perplexity, usage
from vqtok.tokenizers import evaluate
from vqtok.tokenizers.tally import Tally
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
    assert (report["size"], report["skipped"]) == ([16, 16], {})
    assert min(report["encode_images_per_second"], report["decode_images_per_second"]) > 0
    assert Image.open(out / "reconstructions.png").size == (5 * 16, 2 * 16)
    assert Image.open(out / "worst_and_median.png").size == (5 * 16, 4 * 16)
    assert {path.name for path in out.iterdir()} == {
        "reconstructions.png",
        "report.json",
        "worst_and_median.png",
    }
    told = capsys.readouterr().out
    assert "(CPU, threads: 1, 5 at once, float32)" in told and str(out / "worst_and_median.png") in told
    assert f"{report['psnr/images']:.2f}" in told and f"{report['ssim/images']:.3f}" in told
    assert "of 32 codes occur in 80 ids" in told and "16 tokens = 80 bits an image" in told


def test_distances(tokenizer: VQTokenizer, images: Tensor, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    """FD-lite0 is told with features and images, LPIPS with its network; what cannot be had is told too."""
    tokenizer.save_pretrained(tmp_path / "model")
    monkeypatch.setattr(evaluate, "held_out", lambda split: {"a": images, "b": images[:2]})
    stand_in = nn.Module()
    stand_in.network, stand_in.forward = "alex", lambda one, other: (one - other).abs().mean((1, 2, 3))
    job = evaluate.Job(
        model=str(tmp_path / "model"), data=None, split="test", size=None, batch=3, out=tmp_path / "out"
    )
    monkeypatch.setattr(evaluate, "load_lpips", lambda: stand_in)
    monkeypatch.setattr(evaluate, "Lite0Features", Pooled)
    report = evaluate.evaluate(job)
    assert report["absent"] == {} and report["lpips_network"] == "alex" and report["fd_lite0"] > 0
    decoded = tokenizer.decode(tokenizer.encode(images))
    assert report["lpips/a"] == pytest.approx(float((decoded - images).abs().mean()), abs=1e-6)
    [line] = evaluate.distance_lines(report)
    assert line.startswith(f"FD-lite0 {report['fd_lite0']:.2f} over 7 images (1,280 features of")
    assert line.endswith("fewer images than features: compare it on these images only")
    monkeypatch.setattr(evaluate, "load_lpips", missing)
    monkeypatch.setattr(evaluate, "Lite0Features", missing)
    report = evaluate.evaluate(job)
    assert "fd_lite0" not in report and evaluate.distance_lines(report) == [
        "LPIPS is absent: no weights",
        "FD-lite0 is absent: no weights",
    ]


class Pooled(nn.Module):
    """In the place of EfficientNet-Lite0: pixels as features, 1,280 wide."""

    WIDTH = 1280

    def forward(self, images: Tensor) -> Tensor:
        """(b, 1280) of images (b, 3, 16, 16)."""
        return nn.functional.pad(images.flatten(1), (0, 512))


def missing() -> nn.Module:
    """A network that is not to be had."""
    raise ValueError("no weights")


def test_worst_and_median(tokenizer: VQTokenizer, images: Tensor):
    """Over all sets, the images of the largest errors from the left, then those about the median error."""
    sets = {"a": images[:3], "b": images[3:]}
    tally = evaluate.tallied(tokenizer, sets, Tally(tokenizer.vocab), batch=2)
    decoded = tokenizer.decode(tokenizer.encode(images))
    errors = (decoded - images).square().mean((1, 2, 3))
    torch.testing.assert_close(tally.errors(), errors)
    order = errors.argsort(descending=True)
    sheet = evaluate.worst_and_median(tokenizer, sets, tally.errors(), count=3)
    rows = [images[order[:3]], decoded[order[:3]], images[order[1:4]], decoded[order[1:4]]]
    torch.testing.assert_close(sheet, rearrange(torch.stack(rows), "r b c h w -> c (r h) (b w)"))


def test_one_image(tokenizer: VQTokenizer, pictures: Path, tmp_path: Path):
    """It has figures but no Fréchet distance, which is told."""
    tokenizer.save_pretrained(tmp_path / "model")
    for path in sorted(pictures.iterdir())[1:]:
        path.unlink()
    job = evaluate.Job(
        model=str(tmp_path / "model"), data=pictures, split="test", size=20, batch=9, out=tmp_path / "out"
    )
    report = evaluate.evaluate(job)
    assert report["absent"]["FD-lite0"] == "one image has no spread"
    assert (report["size"], report["tokens_per_image"]) == ([20, 20], 25)


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
