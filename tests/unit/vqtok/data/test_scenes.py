"""Scenes: pure functions of (seed, index), with all styles and the mask under one composition."""

from collections import Counter
from dataclasses import replace

import numpy as np
import pytest
import torch

from vqtok.data.build_emoji import webp
from vqtok.data.emoji import SIZE, Emoji, load_emoji
from vqtok.data.scenes import COUNTS, PLAIN, SIZES, Scene, alone, nearly_alone, scene

TRAIN = load_emoji("train")
STYLES = ("shaded", "flat", "line", "mask")


def alpha(drawn: Scene, style: str) -> torch.Tensor:
    """(3, h, w) how far `drawn` covers the background in a style: what is left between black and white."""
    black, white = (replace(drawn, background=(gray,) * 3).image(style) for gray in (0.0, 1.0))
    return 1 - (white - black)


def test_pure_function_of_seed_and_index():
    """The same (seed, index) gives the same pixels, whatever was drawn before; another one does not."""
    before = scene(TRAIN, 3, 7).image("shaded")
    np.random.seed(1), torch.manual_seed(1)
    others = [scene(TRAIN, seed, index).image("shaded") for seed, index in ((3, 8), (4, 7))]
    assert torch.equal(scene(TRAIN, 3, 7).image("shaded"), before)
    assert scene(TRAIN, 3, 7) == scene(TRAIN, 3, 7)
    assert not any(torch.equal(other, before) for other in others)


def test_pixels():
    """Every style of every scene is a (3, 64, 64) float32 image in [0, 1]."""
    for index in range(30):
        for style in STYLES:
            image = scene(TRAIN, 0, index).image(style)
            assert image.shape == (3, SIZE, SIZE) and image.dtype == torch.float32
            assert image.is_contiguous() and image.min() >= 0 and image.max() <= 1


def test_all_styles_share_the_composition():
    """Where the styles of the emoji are one picture, so are those of the scene: place, size, turn and hue."""
    rng = np.random.default_rng(0)
    same = []
    for name in "abc":
        data = webp(rng.integers(0, 256, (SIZE, SIZE, 4), dtype=np.uint8))
        same.append(Emoji(name, 0, "", name, "train", dict.fromkeys(("shaded", "flat", "line"), data)))
    for index in range(20):
        drawn = scene(same, 0, index)
        assert torch.equal(drawn.image("flat"), drawn.image("shaded"))
        unhued = replace(drawn, placed=tuple(replace(placed, hue=0.0) for placed in drawn.placed))
        assert torch.equal(unhued.image("line"), unhued.image("shaded"))
        assert torch.equal(drawn.image("line"), unhued.image("line"))  # ink has no hue


def test_the_mask_is_what_the_shaded_drawing_covers():
    """Equal to the alpha between a black and a white background; outside it the background is untouched."""
    for index in range(40):
        drawn = scene(TRAIN, 1, index)
        mask = drawn.image("mask")
        torch.testing.assert_close(alpha(drawn, "shaded"), mask, atol=1e-6, rtol=0)  # differences of float32
        background = torch.tensor(drawn.background).view(3, 1, 1).expand_as(mask)
        assert torch.equal(drawn.image("shaded")[mask == 0], background[mask == 0])


def test_flat_areas_cover_what_the_mask_covers():
    """Real drawings are aligned: flat and mask overlap by nine tenths in the mean."""
    shares = []
    for index in range(60):
        drawn = scene(TRAIN, 2, index)
        flat, mask = alpha(drawn, "flat") > 0.5, drawn.image("mask") > 0.5
        shares.append(float((flat & mask).sum() / (flat | mask).sum()))
    assert np.mean(shares) > 0.9


def test_alone():
    """An emoji alone is the emoji as drawn, up to one rounding to 8 bits; its mask is exact."""
    for emoji in TRAIN[::200]:
        assert torch.equal(alone(emoji).image("mask"), emoji.image("mask"))
        for style in ("shaded", "flat", "line"):
            drawn = alone(emoji).image(style)
            torch.testing.assert_close(drawn, emoji.image(style), atol=0.51 / 255, rtol=0)


def test_nearly_alone():
    """Much like the drawing itself, on white, in its own place; half of them turned, half of them tinted."""
    rng, emoji = np.random.default_rng(0), load_emoji("train")[5]
    placed = [nearly_alone(emoji, rng).placed[0] for _ in range(100)]
    assert {one.emoji for one in placed} == {emoji}
    assert all(54 <= one.size <= 64 for one in placed)
    assert all(max(one.left, one.top) + one.size <= 64 for one in placed)
    assert 30 < sum(one.turn == 0 for one in placed) < 70 and 30 < sum(one.hue == 0 for one in placed) < 70


def test_shares():
    """One to four emoji, plain ones and colored backgrounds occur as often as the constants say."""
    scenes = [scene(TRAIN, 5, index) for index in range(2000)]
    counts = Counter(len(drawn.placed) for drawn in scenes)
    for number, share in enumerate(COUNTS, start=1):
        assert counts[number] / 2000 == pytest.approx(share, abs=0.03)  # 3 deviations of a coin
    plain = [drawn for drawn in scenes if len(drawn.placed) == 1 and drawn.placed[0].size == SIZE]
    assert len(plain) / counts[1] == pytest.approx(PLAIN, abs=0.06)  # some others are of full size too


def test_everything_stays_inside():
    """No emoji leaves the canvas, and sizes are those allowed for their number."""
    for index in range(500):
        drawn = scene(TRAIN, 6, index)
        smallest, largest = SIZES[len(drawn.placed)]
        for placed in drawn.placed:
            assert smallest <= placed.size <= largest
            assert 0 <= placed.left <= SIZE - placed.size
            assert 0 <= placed.top <= SIZE - placed.size
        assert all(0 <= channel <= 1 for channel in drawn.background)


def test_no_emoji_is_refused():
    """A scene of nothing says so."""
    with pytest.raises(ValueError, match="needs at least one emoji"):
        scene([], 0, 0)
