"""Embedded emoji with captions: true ones, and combinations on the side where they belong."""

from collections import Counter

import numpy as np
import pytest
import torch

from vqtok.data.emoji import STYLES, load_emoji
from vqtok.data.emoji_pairs import EmojiPairs, Shown
from vqtok.data.phrases import TONES, toned

WORDS = ("emoji:train", "emoji:train:300", "emoji:new_styles", "emoji:new_pairs:100", "emoji:test:100")


def shown(word: str, count: int = 300) -> list[Shown]:
    """What the first pictures show."""
    pairs = EmojiPairs(word)
    return [pairs.shown(index) for index in range(min(count, len(pairs)))]


@pytest.mark.parametrize("word", WORDS)
def test_pictures_and_captions(word: str):
    """(64, 64, 3) uint8, the same twice, with a caption that names each thing with its tone; unique names."""
    pairs, again = EmojiPairs(word), EmojiPairs(word)
    for index in range(0, len(pairs), max(1, len(pairs) // 20)):
        picture, caption = pairs[index]
        assert picture.shape == (64, 64, 3) and picture.dtype == np.uint8
        assert np.array_equal(picture, again[index][0]) and caption == again[index][1]
        for one in pairs.shown(index).things:
            assert toned(one.name, one.tone) in caption
    assert len({pairs.name(index) for index in range(len(pairs))}) == len(pairs)


def test_the_whole_of_training():
    """Every drawing, with and without skin tone, in every style but the one that is held out, as drawn."""
    pairs = EmojiPairs("emoji:train")
    found = {(one.things[0].name, one.things[0].tone, one.style) for one in shown("emoji:train", len(pairs))}
    expected = {
        (one.name, one.tone, style)
        for one in load_emoji("train", tones=True)
        for style in one.webp
        if style != pairs.held_out(one)
    }
    assert found == expected and len(pairs) == len(expected)
    emoji = pairs.shown(40).things[0]
    expected = (emoji.image(pairs.shown(40).style) * 255).permute(1, 2, 0)
    torch.testing.assert_close(
        torch.from_numpy(pairs[40][0].copy()).float(), expected, atol=1.01, rtol=0
    )  # scenes round once more


def test_every_name_keeps_styles():
    """No known name loses more than one style, and each is still shown in two at least."""
    styles = {one.name: {*one.webp} for one in load_emoji("train")}
    seen: dict[str, set[str]] = {name: set() for name in styles}
    for one in shown("emoji:train", 10**6):
        seen[one.things[0].name].add(one.style)
    assert all(len(styles[name] - seen[name]) <= 1 and len(seen[name]) >= 2 for name in styles)


def test_new_styles_are_just_those_held_out():
    """Each known name in the one style that it lost, without skin tones; the caption says the style."""
    pairs = EmojiPairs("emoji:new_styles")
    listed = shown("emoji:new_styles", len(pairs))
    assert all(one.style == pairs.held_out(one.things[0]) and not one.things[0].tone for one in listed)
    lost = {one.name for one in load_emoji("train") if pairs.held_out(one) in one.webp}
    assert Counter(one.things[0].name for one in listed) == dict.fromkeys(lost, 1)
    assert all(f"{one.style} style" in one.caption for one in listed)


def test_a_count_of_new_styles_is_a_fair_part():
    """Fewer are spread over the alphabet and never repeat; more go over them again."""
    few = [one.things[0].name for one in shown("emoji:new_styles:60")]
    assert len({*few}) == 60 and len({name[0] for name in few}) > 10
    length = len(EmojiPairs("emoji:new_styles"))
    again = shown(f"emoji:new_styles:{2 * length}", 2 * length)
    assert {*Counter(one.things[0].name for one in again).values()} == {2}


def test_new_pairs_are_just_those_held_out():
    """Two known names that training never shows together, each in a style it was shown in."""
    pairs = EmojiPairs("emoji:new_pairs:200")
    for one in shown("emoji:new_pairs:200"):
        assert len(one.things) == 2 and pairs.apart(*one.things)
        assert all(pairs.held_out(thing) != one.style for thing in one.things)
        assert f"{one.style} style" in one.caption


def test_training_shows_no_held_out_combination():
    """Neither alone nor in scenes."""
    pairs = EmojiPairs("emoji:train:3000", seed=3)
    for index in range(len(pairs)):
        one = pairs.shown(index)
        assert all(pairs.held_out(thing) != one.style for thing in one.things)
        assert len(one.things) == 1 or not pairs.apart(*one.things)


def test_two_things_are_no_look_alikes():
    """Captions could not tell them apart."""
    for word in ("emoji:train:2000", "emoji:new_pairs:300", "emoji:test:1000"):
        for one in shown(word, 2000):
            assert len({thing.group for thing in one.things}) == len(one.things)


def test_places_are_true():
    """Left is left and above is above: the two do not overlap, whoever comes first."""
    seen = set()
    for one in shown("emoji:new_pairs:200"):
        first, second = one.scene.placed
        sides = {"left": (first, second), "right": (second, first)}
        if one.place in sides:
            near, far = sides[one.place]
            assert near.left + near.size <= far.left
        else:
            near, far = (first, second) if one.place == "above" else (second, first)
            assert near.top + near.size <= far.top
        assert all(0 <= edge <= 64 - at.size for at in one.scene.placed for edge in (at.left, at.top))
        seen.add(one.place)
    assert seen == {"left", "right", "above", "below"}


def test_what_training_is_made_of():
    """Two things in two of five, all styles, some skin tones, some captions without style."""
    many = shown("emoji:train:2000", 2000)
    assert sum(len(one.things) == 2 for one in many) / 2000 == pytest.approx(0.4, abs=0.04)
    assert sum("style" not in one.caption for one in many) / 2000 == pytest.approx(0.25, abs=0.04)
    assert min(Counter(one.style for one in many)[style] for style in STYLES) > 350
    tones = {thing.tone for one in many for thing in one.things}
    assert tones == {*range(len(TONES))}


def test_another_seed_draws_others():
    """And says what is drawn alike in other words."""
    assert EmojiPairs("emoji:train:50", seed=1).caption(7) != EmojiPairs("emoji:train:50").caption(7)
    one, other = EmojiPairs("emoji:train", seed=1), EmojiPairs("emoji:train")
    same = sum(one.caption(index) == other.caption(index) for index in range(200))
    assert same < 100 and one.shown(5).things == other.shown(5).things


def test_other_splits_hold_nothing_out():
    """Names that training does not know are shown in all styles and in all pairs."""
    pairs = EmojiPairs("emoji:test")
    assert len(pairs) == sum(len(one.webp) for one in load_emoji("test", tones=True))
    scenes = [one for one in shown("emoji:test:600", 600) if len(one.things) == 2]
    assert 0 < sum(pairs.apart(*one.things) for one in scenes) < len(scenes) / 3


def test_size():
    """Pictures are averaged down."""
    small = EmojiPairs("emoji:test:3", size=16)[1][0].astype(float)
    large = EmojiPairs("emoji:test:3")[1][0].astype(float)
    assert np.abs(large.reshape(16, 4, 16, 4, 3).mean((1, 3)) - small).max() <= 1


@pytest.mark.parametrize(
    ("word", "size", "told"),
    [
        ("emoji:held_out", None, "unknown pairs 'held_out': choose one of train, validation, test, "),
        ("emoji:train:0", None, "asks for '0' pairs: give a whole number from 1"),
        ("emoji:train:many", None, "asks for 'many' pairs"),
        ("emoji:new_pairs", None, "too many scenes to list: say how many, as in emoji:new_pairs:500"),
        ("emoji:train", 65, "emoji are drawn 64 pixels wide, not 65: ask for 1 to 64"),
    ],
)
def test_mistakes_are_named(word: str, size: int | None, told: str):
    """Unknown splits, counts and sizes are refused with the way out."""
    with pytest.raises(ValueError, match=told):
        EmojiPairs(word, size)
