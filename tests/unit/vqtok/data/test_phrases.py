"""Captions in words: what is shown, and where, in several phrasings."""

import numpy as np
import pytest

from vqtok.data.phrases import PLAIN, STYLED, about_one, about_two, article, toned


@pytest.mark.parametrize(
    ("thing", "expected"),
    [
        ("cheese wedge", "a"),
        ("avocado", "an"),
        ("unicorn", "a"),
        ("umbrella", "an"),
        ("one oclock", "a"),
        ("hourglass", "an"),
        ("1st place medal", "a"),
        ("glasses", ""),
        ("bus", "a"),
        ("ballet shoes", ""),
        ("man with bunny ears", "a"),
        ("man lifting weights", "a"),
        ("umbrella with rain drops", "an"),
    ],
)
def test_article(thing: str, expected: str):
    """By the first sound and by the number of what comes before `with`, `of` and such."""
    assert article(thing) == expected


def test_toned():
    """A skin tone goes behind the name; 0 is none."""
    assert toned("child", 0) == "child"
    assert toned("child", 5) == "child with dark skin tone"
    assert toned("person with veil", 2) == "person with veil and medium light skin tone"


def test_one_thing():
    """The thing and, if it is said, the style are in every phrasing; all phrasings come up."""
    rng = np.random.default_rng(0)
    plain = {about_one("red apple", None, rng) for _ in range(200)}
    styled = {about_one("red apple", "line", rng) for _ in range(200)}
    assert len(plain) == len(PLAIN) and len(styled) == len(STYLED)
    assert all("red apple" in caption and "style" not in caption for caption in plain)
    assert all("red apple" in caption and "line style" in caption for caption in styled)
    assert "red apple, line style" in styled and "a red apple in line style" in styled


@pytest.mark.parametrize("place", ["left", "right", "above", "below"])
def test_two_things(place: str):
    """Both are named with their articles; where a place is said, it is the right one from either side."""
    rng = np.random.default_rng(0)
    said = {about_two(("cheese wedge", "onion"), place, None, rng) for _ in range(300)}
    words = {"left": "to the left of", "right": "to the right of", "above": "above", "below": "below"}
    other = {"left": "right", "right": "left", "above": "below", "below": "above"}[place]
    assert f"a cheese wedge {words[place]} an onion" in said
    assert f"an onion {words[other]} a cheese wedge" in said
    assert "a cheese wedge and an onion" in said
    assert not any(f"a cheese wedge {words[other]} an onion" in caption for caption in said)
    assert any("next to" in caption for caption in said) == (place in ("left", "right"))


def test_no_gaps_where_there_is_no_article():
    """Captions have single spaces, also of things in the plural."""
    rng = np.random.default_rng(0)
    for _ in range(50):
        for caption in (
            about_one("glasses", "flat", rng),
            about_two(("glasses", "scissors"), "left", "flat", rng),
        ):
            assert caption == " ".join(caption.split())
