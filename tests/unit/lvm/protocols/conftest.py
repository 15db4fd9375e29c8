"""A miniature of PASCAL VOC: rectangles of one color a class, with exact masks and boxes."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from PIL import Image


def write_list(root: Path, listed: str, names: list[str]) -> None:
    """ImageSets/LISTED.txt."""
    path = root / "ImageSets" / f"{listed}.txt"
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("\n".join(names) + "\n")


@pytest.fixture
def miniature(tmp_path: Path, voc_example: Callable[..., None]) -> Path:
    """Ten pictures: four of cats, three of birds, one of both, a large cat, a mere speck of a bird."""
    root = tmp_path / "VOC2012"
    cats, birds = [f"2007_00000{k}" for k in range(4)], [f"2008_{k}" for k in (1, 2, 3)]
    for k, name in enumerate(cats):
        voc_example(root, name, [("cat", (10 + 4 * k, 20, 40 + 4 * k, 50))])
    for k, name in enumerate(birds):
        voc_example(root, name, [("bird", (30, 5 + 3 * k, 70, 20 + 3 * k))], width=80, height=120)
    voc_example(root, "both", [("cat", (5, 5, 30, 30)), ("bird", (50, 30, 80, 60))])
    voc_example(root, "large", [("cat", (10, 10, 90, 60))])
    voc_example(root, "speck", [("bird", (500, 400, 501, 401))], width=640, height=480)
    everything = [*cats, *birds, "both", "large", "speck"]
    write_list(root, "Segmentation/val", everything)
    write_list(root, "Main/train", [*cats[:2], *birds[:2], "both"])
    write_list(root, "Main/val", [*cats[2:], *birds[2:], "both", "large"])
    return root


@pytest.fixture
def photos(tmp_path: Path) -> Path:
    """Seven colored pictures in two folders of classes, one of them not square."""
    root, rng = tmp_path / "val", np.random.default_rng(3)
    for k in range(7):
        pixels = np.full((80, 100 if k == 3 else 80, 3), rng.integers(0, 256, 3), dtype=np.uint8)
        pixels[20:50, 10:60] = rng.integers(0, 256, 3)
        folder = root / f"n0{k % 2}"
        folder.mkdir(parents=True, exist_ok=True)
        Image.fromarray(pixels).save(folder / f"{k}.JPEG", quality=95)
    return root
