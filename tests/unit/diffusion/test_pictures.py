"""Pictures to learn from: on 256 levels, each once an epoch, some held out, with their classes."""

from dataclasses import replace
from pathlib import Path

import pytest
import torch

from diffusion import pictures
from diffusion.pictures import PicturesConfig, open_pictures
from vqtok.data.pictures import write_picture


@pytest.fixture
def folder(tmp_path: Path) -> str:
    """Ten pictures of 4x4 pixels, white on the left, more and more so, in folders a and b."""
    for number in range(10):
        image = torch.zeros(3, 4, 4)
        image[:, :, 0] = (number + 1) / 10
        write_picture(tmp_path / "ab"[number % 2] / f"{number}.png", image)
    return str(tmp_path)


@pytest.mark.parametrize("held", [2**30, 0], ids=["in memory", "read again"])
def test_an_epoch(folder: str, held: int, monkeypatch: pytest.MonkeyPatch):
    """Shows every picture but the held-out ones once; twice the same; another seed, another order."""
    monkeypatch.setattr(pictures, "HELD", held)
    source, (kept, labels), names = open_pictures(PicturesConfig(gallery=folder, held_out=3), 4, seed=0)
    shown = [float(source[index][0][0, 0, 0]) for index in range(7)]
    grays = sorted([*shown, *kept[:, 0, 0, 0].tolist()])
    assert grays == pytest.approx([k / 10 for k in range(1, 11)], abs=3e-3)
    assert shown == [float(source[index][0][0, 0, 0]) for index in range(7)]
    assert kept.shape == (3, 3, 4, 4) and labels.tolist() == [-1] * 3 and names == ()
    other, *_ = open_pictures(PicturesConfig(gallery=folder, held_out=3), 4, seed=1)
    assert shown != [float(other[index][0][0, 0, 0]) for index in range(7)]


def test_levels_gray_and_mirrors():
    """Emoji averaged down to 8 pixels lie between levels; here they are on them, gray, half mirrored."""
    config = PicturesConfig(gallery="emoji:train:6", validation="emoji:validation", held_out=5, gray=True)
    source, (kept, _), _ = open_pictures(replace(config, mirror=True), 8, seed=0)
    assert kept.shape == (5, 1, 8, 8)
    ways: dict[tuple, set] = {}
    for index in range(60):
        image, _ = source[index]
        assert torch.allclose(image * 255, (image * 255).round(), atol=1e-4)
        here, there = (tuple(side.flatten().tolist()) for side in (image, image.flip(-1)))
        ways.setdefault(min(here, there), set()).add(here)
    assert len(ways) == 6 and max(len(way) for way in ways.values()) == 2


def test_classes(folder: str):
    """By name, for a model that knows as many; others are refused."""
    source, (_, labels), names = open_pictures(PicturesConfig(gallery=folder, held_out=4), 4, 0, classes=2)
    assert names == ("a", "b") and {int(source[index][1]) for index in range(6)} <= {0, 1}
    assert labels.shape == (4,) and labels.min() >= 0
    with pytest.raises(ValueError, match="classes.count is 3, .* has 2 classes: set it to that"):
        open_pictures(PicturesConfig(gallery=folder), 4, 0, classes=3)
    write_picture(Path(folder) / "c" / "1.png", torch.zeros(3, 4, 4))
    data = PicturesConfig(gallery=f"{folder}/a", validation=folder, held_out=11)
    with pytest.raises(ValueError, match="held_out|no classes|none of"):
        open_pictures(data, 4, 0, classes=2)


def test_nothing_left(folder: str):
    """Neither for training nor for validation."""
    for count in (0, 10):
        with pytest.raises(ValueError, match=f"data.held_out is {count} of 10 pictures"):
            open_pictures(PicturesConfig(gallery=folder, held_out=count), 4, 0)
