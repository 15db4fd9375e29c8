"""The embedded emoji: the bytes are those that were shipped, and no test name has a twin in train."""

import hashlib
from collections import defaultdict

import numpy as np
import pytest
import torch

from vqtok.data.build_emoji import thumbnail
from vqtok.data.emoji import PACK, SIZE, SPLITS, STYLES, Emoji, load_emoji, sequences


def distances(split: str, style: str) -> dict[str, tuple[float, str]]:
    """Name of `split` -> RMSE at 16x16 to the nearest name of train, and that name."""
    train = [emoji for emoji in load_emoji("train") if style in emoji.webp]
    theirs = np.stack([thumbnail(emoji.rgba(style)) for emoji in train])
    found = {}
    for emoji in load_emoji(split):
        errors = np.sqrt(((theirs - thumbnail(emoji.rgba(style))) ** 2).mean(1))
        found[emoji.name] = (float(errors.min()), train[int(errors.argmin())].name)
    return found


def test_checksum():
    """The pack is the one whose hash lies beside it."""
    assert hashlib.sha256(PACK.read_bytes()).hexdigest() == (PACK.parent / "SHA256").read_text().strip()


def test_provenance_lies_beside_it():
    """Licence and origin travel with the pictures."""
    assert "Copyright (c) Microsoft Corporation" in (PACK.parent / "LICENSE").read_text()
    readme = (PACK.parent / "README.md").read_text()
    for package in ("fluent-emoji", "fluent-emoji-flat", "fluent-emoji-high-contrast", "fluent-emoji-3d"):
        assert f"/{package}`" in readme


def test_counts():
    """1,594 names, all in three styles and 1,570 in the fourth; 316 of them in five skin tones each."""
    names = load_emoji()
    assert len(names) == len({emoji.name for emoji in names}) == 1594
    styles = {style: sum(style in emoji.webp for emoji in names) for style in STYLES}
    assert styles == {"shaded": 1594, "flat": 1594, "line": 1594, "solid": 1570}
    toned = [emoji for emoji in load_emoji(tones=True) if emoji.tone]
    assert len(toned) == 316 * 5
    assert all({*emoji.webp} == {"shaded", "flat"} for emoji in toned)
    assert {split: len(load_emoji(split)) for split in SPLITS} == {
        "train": 1303,
        "validation": 99,
        "test": 192,
    }
    assert len({emoji.category for emoji in names}) == 9


def test_order_is_alphabetical():
    """The same file gives the same order everywhere."""
    names = [emoji.name for emoji in load_emoji("train")]
    assert names == sorted(names, key=lambda name: name.replace(" ", "-"))


def test_a_group_never_straddles_the_splits():
    """All styles and skin tones of look-alikes are on one side."""
    parts = defaultdict(set)
    for emoji in load_emoji(tones=True):
        parts[emoji.group].add(emoji.split)
        parts[emoji.name].add(emoji.split)
    assert all(len(split) == 1 for split in parts.values())


@pytest.mark.parametrize("style", ["shaded", "flat", "line"])
@pytest.mark.parametrize("split", ["test", "validation"])
def test_no_twin_in_train(split: str, style: str):
    """None is nearer than 0.065 to one of train; the README counts those nearer than 0.08."""
    errors = np.array([error for error, _ in distances(split, style).values()])
    assert errors.min() >= 0.065
    close = {"test": {"shaded": 5, "flat": 4, "line": 1}, "validation": {"shaded": 4, "flat": 3, "line": 0}}
    assert (errors < 0.08).sum() == close[split][style]


@pytest.mark.parametrize("style", [*STYLES, "mask"])
def test_images(style: str):
    """Every style is a (3, 64, 64) float32 image in [0, 1] on white; the mask is white on black."""
    for emoji in load_emoji("validation"):
        if style in emoji.webp or style == "mask":
            image = emoji.image(style)
            assert image.shape == (3, SIZE, SIZE) and image.dtype == torch.float32
            assert image.min() >= 0 and image.max() <= 1
    apple = next(emoji for emoji in load_emoji() if emoji.name == "red apple")
    assert torch.equal(apple.image(style)[:, 0, 0], torch.zeros(3) if style == "mask" else torch.ones(3))
    assert apple.image(style)[:, 32, 32].sum() < 3 or style == "mask"


def test_mask_is_the_alpha_of_the_shaded_drawing():
    """Exactly, in all three channels."""
    for emoji in load_emoji("validation")[:20]:
        alpha = torch.from_numpy(emoji.rgba("shaded")[..., 3] / np.float32(255))
        assert torch.equal(emoji.image("mask"), alpha.expand(3, -1, -1))


def test_sequences():
    """Skin tones from light to dark, the clock around, the moon; each whole within one split."""
    found = sequences()
    assert len(found) == 316 + 2
    assert [emoji.name for emoji in found["clock"]][:3] == ["one oclock", "one thirty", "two oclock"]
    assert (len(found["clock"]), len(found["moon"])) == (24, 8)
    for label, members in found.items():
        assert len({emoji.split for emoji in members}) == 1
        if label.startswith("tones of "):
            assert [emoji.tone for emoji in members] == [1, 2, 3, 4, 5]
            assert {emoji.name for emoji in members} == {label.removeprefix("tones of ")}
    parts = {split: sequences(split) for split in SPLITS}
    assert sum(map(len, parts.values())) == len(found)


def test_mistakes_are_named():
    """An unknown split and a style that a drawing lacks say what there is."""
    with pytest.raises(ValueError, match="unknown split 'held out': choose one of"):
        load_emoji("held out")
    with pytest.raises(ValueError, match=r"'a' \(tone 2\) has no style 'line': it has \['flat'\]"):
        Emoji("a", 2, "", "a", "train", {"flat": b""}).image("line")
