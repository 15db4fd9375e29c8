"""Origins: what rows are made of, the same every time, and belonging together as their kind says."""

import pytest
import torch

from lvm.origins import FRAMES, GROUP, Frames, Picture, Supply
from vqtok.data.emoji import HOURS, PHASES, load_emoji


@pytest.fixture(scope="module")
def supply() -> Supply:
    """Of the train split."""
    return Supply("train")


@pytest.mark.parametrize("of", ["picture", "scene", "tones", "clock", "category"])
def test_origins_are_functions_of_seed_and_index(supply: Supply, of: str):
    """The same numbers give the same one, made anew too; other numbers another."""
    first, again = (made.origin(of, 3, 4) for made in (supply, Supply("train")))
    assert first == again
    assert supply.origin(of, 3, 5) != first != supply.origin(of, 4, 4)


def test_skin_tones_are_of_one_person_in_order(supply: Supply):
    """Five frames of one name from light to dark or back, each way sometimes, at one place, size and hue."""
    found = [supply.origin("tones", 0, index) for index in range(30)]
    ways = set()
    for frames in found:
        placed = [scene.placed[0] for scene in frames.scenes]
        assert len({one.emoji.name for one in placed}) == 1 and len(placed) == FRAMES
        assert len({(one.size, one.left, one.top, one.turn, one.hue) for one in placed}) == 1
        ways.add(tuple(one.emoji.tone for one in placed))
    assert ways == {(1, 2, 3, 4, 5), (5, 4, 3, 2, 1)}


def test_clocks_and_moons_go_round(supply: Supply):
    """Five frames that follow one another in the circle, forward or back, over its end too."""
    clock = [f"{hour} {half}" for hour in HOURS for half in ("oclock", "thirty")]
    steps, ends = set(), 0
    for index in range(60):
        names = [scene.placed[0].emoji.name for scene in supply.origin("clock", 0, index).scenes]
        circle = clock if names[0] in clock else [*PHASES]
        places = [circle.index(name) for name in names]
        step = {(after - before) % len(circle) for before, after in zip(places, places[1:], strict=False)}
        assert len(step) == 1 and step <= {1, len(circle) - 1}
        steps |= {(len(circle), way) for way in step}
        ends += abs(places[-1] - places[0]) > FRAMES
    assert len(steps) == 4 and ends


def test_groups_share_a_category(supply: Supply):
    """Four different drawings of one; every category comes."""
    found = [supply.origin("category", 0, index) for index in range(100)]
    drawings = [[scene.placed[0].emoji for scene in frames.scenes] for frames in found]
    assert all(len({one.name for one in row}) == GROUP for row in drawings)
    assert all(len({one.category for one in row}) == 1 for row in drawings)
    assert {row[0].category for row in drawings} == {one.category for one in load_emoji("train")}


@pytest.mark.parametrize("split", ["train", "validation", "test"])
def test_origins_are_of_their_split(split: str):
    """Nothing of another split is shown; the clock and the moon are in one only, which the supply says."""
    supply = Supply(split)
    assert supply.has("clock") == (split == "train")
    for of in ("picture", "scene", "tones", "clock", "category"):
        for index in range(5 * supply.has(of)):
            origin = supply.origin(of, 0, index)
            scenes = origin.scenes if isinstance(origin, Frames) else [origin]
            assert {placed.emoji.split for scene in scenes for placed in scene.placed} == {split}


def test_a_picture_has_one_style():
    """Whatever is asked of it."""
    pixels = torch.rand(3, 8, 8)
    assert Picture(pixels).image("line") is pixels
