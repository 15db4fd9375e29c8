"""A miniature of PASCAL VOC: rectangles of one color a class, with exact masks and boxes."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from lvm.protocols.voc import CLASSES

Things = list[tuple[str, tuple[int, int, int, int]]]  # class; left, top, right, bottom

WIDTH, HEIGHT = 96, 72
SMALL, LARGE = (10, 20, 40, 50), (10, 10, 90, 60)


def write_example(root: Path, name: str, things: Things, width: int = WIDTH, height: int = HEIGHT) -> None:
    """A picture of things on gray with noise, its mask with a border of 255, and its XML."""
    rng = np.random.default_rng(sum(name.encode()))
    pixels = rng.integers(90, 110, (height, width, 3), dtype=np.uint8)
    mask = np.zeros((height, width), dtype=np.uint8)
    for kind, (left, top, right, bottom) in things:
        number = CLASSES.index(kind) + 1
        mask[max(top - 1, 0) : bottom + 1, max(left - 1, 0) : right + 1] = 255
        mask[top:bottom, left:right] = number
        pixels[top:bottom, left:right] = (12 * number, 255 - 12 * number, 60)
    for folder in ("JPEGImages", "SegmentationClass", "Annotations"):
        (root / folder).mkdir(parents=True, exist_ok=True)
    Image.fromarray(pixels).save(root / "JPEGImages" / f"{name}.jpg", quality=95)
    paletted = Image.fromarray(mask).convert("P")
    paletted.putdata(mask.ravel().tolist())
    paletted.putpalette(rng.integers(0, 256, 768, dtype=np.uint8).tobytes())
    paletted.save(root / "SegmentationClass" / f"{name}.png")
    (root / "Annotations" / f"{name}.xml").write_text(xml_of(things, width, height))


def xml_of(things: Things, width: int = WIDTH, height: int = HEIGHT) -> str:
    """As VOC writes it: pixels from 1, the last one included; a part inside each object."""
    objects = "".join(
        f"<object><name>{kind}</name><difficult>0</difficult>"
        f"<bndbox><xmax>{right}</xmax><xmin>{left + 1}</xmin>"
        f"<ymax>{bottom}</ymax><ymin>{top + 1}</ymin></bndbox>"
        "<part><name>head</name><bndbox><xmin>1</xmin></bndbox></part></object>"
        for kind, (left, top, right, bottom) in things
    )
    size = f"<size><width>{width}</width><height>{height}</height><depth>3</depth></size>"
    return f"<annotation>{size}{objects}</annotation>"


def write_list(root: Path, listed: str, names: list[str]) -> None:
    """ImageSets/LISTED.txt."""
    path = root / "ImageSets" / f"{listed}.txt"
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("\n".join(names) + "\n")


@pytest.fixture
def example() -> Callable[..., None]:
    """Write one more picture with its mask and its XML."""
    return write_example


@pytest.fixture
def xml() -> Callable[..., str]:
    """The text of an annotation."""
    return xml_of


@pytest.fixture
def miniature(tmp_path: Path) -> Path:
    """Ten pictures: four of cats, three of birds, one of both, a large cat, a mere speck of a bird."""
    root = tmp_path / "VOC2012"
    cats, birds = [f"2007_00000{k}" for k in range(4)], [f"2008_{k}" for k in (1, 2, 3)]
    for k, name in enumerate(cats):
        write_example(root, name, [("cat", (10 + 4 * k, 20, 40 + 4 * k, 50))])
    for k, name in enumerate(birds):
        write_example(root, name, [("bird", (30, 5 + 3 * k, 70, 20 + 3 * k))], width=80, height=120)
    write_example(root, "both", [("cat", (5, 5, 30, 30)), ("bird", (50, 30, 80, 60))])
    write_example(root, "large", [("cat", LARGE)])
    write_example(root, "speck", [("bird", (500, 400, 501, 401))], width=640, height=480)
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
