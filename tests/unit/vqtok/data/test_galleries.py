"""Galleries: one word opens them, and each tells images, names and classes."""

import struct
from pathlib import Path

import pytest
import torch

from vqtok.data.emoji import load_emoji
from vqtok.data.galleries import EmojiGallery, IdxGallery, open_gallery
from vqtok.data.pictures import write_picture


def write_idx(folder: Path, images: int = 5, labels: int | None = 5) -> Path:
    """An idx file of images of 4x3 pixels whose values count up, and one of labels beside it."""
    folder.mkdir(exist_ok=True)
    pixels = bytes(number % 256 for number in range(images * 12))
    (folder / "t-images-idx3-ubyte").write_bytes(struct.pack(">4B3I", 0, 0, 8, 3, images, 4, 3) + pixels)
    if labels is not None:
        labels_of = bytes(number % 3 for number in range(labels))
        (folder / "t-labels-idx1-ubyte").write_bytes(struct.pack(">4BI", 0, 0, 8, 1, labels) + labels_of)
    return folder / "t-images-idx3-ubyte"


@pytest.fixture(params=["folder", "idx", "emoji:validation", "emoji:validation:7"])
def word(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    """Each kind of gallery."""
    if request.param == "folder":
        for number in range(5):
            image = torch.full((3, 9, 9), number / 5)
            write_picture(tmp_path / f"{'ab'[number % 2]}" / f"{number}.png", image)
        return str(tmp_path)
    return str(write_idx(tmp_path)) if request.param == "idx" else request.param


def test_what_every_gallery_tells(word: str):
    """Images of the size in [0, 1], the same twice; names of their own; classes; the same decoded as read."""
    gallery = open_gallery(word, 8)
    numbers = range(5)
    (decoded,) = gallery.decoded([numbers])
    again = open_gallery(word, 8)
    for number, pixels in zip(numbers, decoded, strict=True):
        image = gallery[number]
        assert image.shape == (3, 8, 8) and 0 <= image.min() <= image.max() <= 1
        assert torch.equal(image, again[number])
        assert torch.equal((image * 255).round().byte(), torch.from_numpy(pixels))
    assert len({gallery.name(number) for number in numbers}) == 5
    assert all(isinstance(gallery.label(number), str) for number in numbers)
    assert gallery.digest(numbers) == again.digest(numbers) != gallery.digest(range(1, 5))
    gallery.refuse({})


def test_classes_of_a_folder(tmp_path: Path):
    """The folder inside of it that a picture lies in; with one picture outside, there are no classes."""
    for name in ("cat/1.png", "dog/deep/2.png"):
        write_picture(tmp_path / name, torch.zeros(3, 4, 4))
    gallery = open_gallery(tmp_path, 4)
    assert [gallery.label(0), gallery.label(1)] == ["cat", "dog"]
    write_picture(tmp_path / "3.png", torch.zeros(3, 4, 4))
    assert {open_gallery(tmp_path, 4).label(number) for number in range(3)} == {None}


def test_classes_of_an_idx_file(tmp_path: Path):
    """Those of the file of labels beside it, if there is one and it is as long."""
    gallery = open_gallery(write_idx(tmp_path / "with"), 8)
    assert [gallery.label(number) for number in range(5)] == ["0", "1", "2", "0", "1"]
    assert open_gallery(write_idx(tmp_path / "without", labels=None), 8).label(0) is None
    with pytest.raises(ValueError, match="labels-idx1-ubyte has the classes of .4,. images, .* has 5 images"):
        IdxGallery(write_idx(tmp_path / "short", labels=4), 8)


def test_emoji():
    """As drawn: every name in three styles, averaged down; drawn: so many as are asked for."""
    emoji = load_emoji("validation")
    gallery = EmojiGallery("emoji:validation", 32)
    assert len(gallery) == 3 * len(emoji) and gallery.name(4) == f"{emoji[1].name} flat"
    full = emoji[1].image("flat")
    means = full.view(3, 32, 2, 32, 2).mean((2, 4))
    torch.testing.assert_close(gallery[4], means, atol=1 / 255, rtol=0)  # scenes round color times alpha
    drawn = EmojiGallery("emoji:validation:7", 32)
    assert len(drawn) == 7 and len({float(drawn[number].sum()) for number in range(7)}) == 7


@pytest.mark.parametrize(
    ("word", "size", "told"),
    [
        ("emoji:training", 8, "unknown split 'training': choose one of"),
        ("emoji:train:0", 8, "emoji:train:0 asks for '0' images: give a whole number from 1"),
        ("emoji:train:many", 8, "asks for 'many' images"),
        ("emoji:train", 65, "emoji are drawn 64 pixels wide, not 65: ask for 1 to 64"),
        ("nowhere", 8, "no folder nowhere"),
        ("train-images-idx3-ubyte.gz", 8, "Fashion-MNIST is the Debian package dataset-fashion-mnist"),
    ],
)
def test_mistakes(word: str, size: int, told: str):
    """What is wrong with the word is one sentence."""
    with pytest.raises(ValueError, match=told):
        open_gallery(word, size)
