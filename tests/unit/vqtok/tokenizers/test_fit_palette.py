"""Fitting a palette: k-means of all pixels, the same however it went, refused where it cannot be."""

import json
import os
import shutil
import signal
import traceback
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from vqtok.data.pictures import write_picture
from vqtok.storage import folders
from vqtok.tokenizers import load_tokenizer
from vqtok.tokenizers.fit_palette import Colors, TrainConfig, add, improved, scaled, spread, train
from vqtok.tokenizers.palette import PaletteConfig


@pytest.fixture
def config(tmp_path: Path) -> TrainConfig:
    """Six pictures of 8 pixels a side, in colors around four."""
    rng = np.random.default_rng(0)
    around = np.array([[20, 30, 40], [200, 30, 40], [20, 220, 40], [120, 130, 240]])
    for number in range(6):
        pixels = around[rng.integers(4, size=(8, 8))] + rng.integers(-9, 10, size=(8, 8, 3))
        image = torch.from_numpy(pixels).permute(2, 0, 1) / 255
        write_picture(tmp_path / "pictures" / f"{number}.png", image)
    palette = PaletteConfig(codes=4, size=8)
    return TrainConfig(folder=tmp_path / "fit", data=str(tmp_path / "pictures"), palette=palette, decoders=0,
                       save_images=2)  # fmt: skip


@pytest.fixture
def colors() -> Colors:
    """300 different colors, some of them frequent."""
    values = torch.randint(256, (300, 3)).unique(dim=0)
    return Colors(values, torch.randint(1, 1000, (len(values),)))


def test_it_finds_the_colors(config: TrainConfig):
    """Four crowds of colors give their four means; the report tells how near pixels come."""
    palette = train(config)
    pixels = ((palette.colors + 1) * 127.5).round().int()
    around = torch.tensor([[20, 30, 40], [200, 30, 40], [20, 220, 40], [120, 130, 240]])
    nearest = torch.cdist(around.double(), pixels.double()).min(1)
    assert nearest.values.max() < 4 and len({*nearest.indices.tolist()}) == 4
    assert torch.equal(load_tokenizer(config.folder / "model").colors, palette.colors)
    report = json.loads((config.folder / "fit.json").read_text())
    assert report["pixels"] == 6 * 64 and report["codes"] == 4 and 30 < report["psnr"] < 40


def test_counting():
    """Every pixel is counted at its color, whatever the batches."""
    rng = np.random.default_rng(0)
    images = [rng.integers(0, 256, (3, 4, 5), np.uint8) // 99 for _ in range(3)]
    together, apart = (torch.zeros(2**24, dtype=torch.int64) for _ in range(2))
    add(together, images)
    for image in images:
        add(apart, [image])
    assert torch.equal(together, apart) and together.sum() == 3 * 20
    red, green, blue = images[0][:, 1, 2].tolist()
    assert together[(red * 256 + green) * 256 + blue] > 0


def test_a_step_is_lloyds(colors: Colors):
    """Means of all pixels that are nearest to a center, in float64 one by one, and their error."""
    centers = spread(colors, 7, seed=0)
    moved, error = improved(colors, centers)
    pixels = scaled(colors.values).double().repeat_interleave(colors.counts, dim=0)
    far = (pixels[:, None] - centers.double()).square().sum(-1)
    ids = far.argmin(1)
    means = torch.stack([pixels[ids == number].mean(0) for number in range(7)])
    torch.testing.assert_close(moved.double(), means, atol=1e-6, rtol=0)  # float32 means, float32 pixels
    assert error == pytest.approx(far.min(1).values.mean().item() / 12)


def test_no_step_is_uphill(colors: Colors):
    """The error never rises, and ends where nothing moves."""
    centers, errors = spread(colors, 7, seed=0), []
    for _ in range(200):
        moved, error = improved(colors, centers)
        errors.append(error)
        if torch.equal(moved, centers):
            break
        centers = moved
    assert len(errors) < 200
    assert all(later <= earlier * (1 + 1e-6) for earlier, later in zip(errors, errors[1:], strict=False))


def test_an_idle_center_moves_to_the_worst_color():
    """A center that nobody chooses becomes the color whose pixels cost most."""
    colors = Colors(torch.tensor([[0, 0, 0], [10, 0, 0], [255, 255, 255]]), torch.tensor([50, 30, 1]))
    moved, _ = improved(colors, scaled(torch.tensor([[0, 0, 0], [255, 0, 255]]) * 1.0).clamp(-1, 0.5)[[0, 0]])
    assert torch.equal(moved[1], torch.ones(3))


def test_the_start(colors: Colors):
    """Different colors of the data, the same for a seed; frequent and far ones are likelier."""
    one, same, other = (spread(colors, 20, seed) for seed in (0, 0, 1))
    assert torch.equal(one, same) and not torch.equal(one, other)
    assert len(one.unique(dim=0)) == 20
    assert torch.isin(((one + 1) * 127.5).round() @ torch.tensor([65536.0, 256, 1]),
                      colors.values.float() @ torch.tensor([65536.0, 256, 1])).all()  # fmt: skip
    rare = Colors(torch.tensor([[0, 0, 0], [1, 0, 0], [9, 9, 9]]), torch.tensor([10**6, 1, 1]))
    starts = [spread(rare, 2, seed) for seed in range(20)]
    black, far = -torch.ones(3), scaled(torch.tensor([9, 9, 9]))
    assert sum(torch.equal(start[0], black) for start in starts) == 20
    assert sum(torch.equal(start[1], far) for start in starts) >= 18  # 243 times as likely as the other


def test_all_colors_are_kept(config: TrainConfig, tmp_path: Path):
    """As many codes as there are colors lose nothing; one more is refused."""
    for number in range(2):
        image = torch.zeros(3, 8, 8)
        image[0, :4], image[2, number] = 1.0, 1.0
        write_picture(tmp_path / "few" / f"{number}.png", image)
    few = replace(config, data=str(tmp_path / "few"), palette=PaletteConfig(codes=3, size=8))
    train(few)
    assert json.loads((config.folder / "fit.json").read_text())["psnr"] == 100
    with pytest.raises(ValueError, match="has 3 colors, fewer than 4: set palette.codes to 3 or less"):
        train(replace(few, folder=tmp_path / "other", palette=PaletteConfig(codes=4, size=8)))


@pytest.mark.parametrize("moment", [2, 5, 9, 14, 20, 27, 35])
def test_kill_9(config: TrainConfig, moment: int, monkeypatch: pytest.MonkeyPatch):
    """Killed by SIGKILL at any flush to the disk, a fit goes on and ends in the same colors."""
    monkeypatch.setattr("vqtok.tokenizers.fit_palette.BATCH", 1)
    straight = train(config).colors
    shutil.rmtree(config.folder)
    assert killed(config, moment, monkeypatch)
    assert torch.equal(train(config).colors, straight)


def killed(config: TrainConfig, moment: int, monkeypatch: pytest.MonkeyPatch) -> bool:
    """Whether a child that fits was killed, as it is meant to be at its `moment`th flush."""
    child = os.fork()
    if child:
        status = os.waitpid(child, 0)[1]
        return os.WIFSIGNALED(status) and os.WTERMSIG(status) == signal.SIGKILL
    try:
        count, flush = iter(range(1, 1000)), folders.flush

        def fatal(path: Path) -> None:
            if next(count) == moment:
                os.kill(os.getpid(), signal.SIGKILL)
            flush(path)

        monkeypatch.setattr(folders, "flush", fatal)
        train(config)
    except BaseException:
        traceback.print_exc()
    finally:
        os._exit(0)


@pytest.mark.parametrize(
    ("change", "told"),
    [({"seed": 1}, "holds a fit with seed 0, this one has 1: give another folder"),
     ({"palette": PaletteConfig(codes=5, size=8)}, "holds a fit with codes 4, this one has 5"),
     ({"palette": PaletteConfig(codes=4, size=4)}, "holds a fit with size 8, this one has 4")],
)  # fmt: skip
def test_another_fit_is_refused(change: dict, told: str, config: TrainConfig):
    """A folder that holds a fit with other settings is not gone on with."""
    train(config)
    with pytest.raises(ValueError, match=told):
        train(replace(config, **change))


def test_nothing_is_left_to_do(config: TrainConfig):
    """A fit that is done comes out the same when it is asked for again."""
    assert torch.equal(train(config).colors, train(config).colors)


def test_damaged_pictures(config: TrainConfig):
    """A few are left out, too many are refused by name."""
    for number in (1, 3):
        path = Path(config.data) / f"{number}.png"
        path.write_bytes(path.read_bytes()[:40])
    with pytest.raises(ValueError, match=r"2 of 6 pictures under .* cannot be read, 1 are tolerated"):
        train(config)
    train(replace(config, folder=config.folder.with_name("again"), tolerate=0.3))
    report = json.loads((config.folder.with_name("again") / "fit.json").read_text())
    assert report["pixels"] == 4 * 64
