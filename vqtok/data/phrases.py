"""Captions in words: things, their styles, and where they are to one another, in several phrasings.

Names are those of the emoji, so some take an article that a person would not give them ("a camping").
"""

import re
from collections.abc import Sequence

import numpy as np

TONES = (
    "",
    "light skin tone",
    "medium light skin tone",
    "medium skin tone",
    "medium dark skin tone",
    "dark skin tone",
)
PLAIN = ("{thing}", "{a} {thing}", "a picture of {a} {thing}", "a drawing of {a} {thing}")
STYLED = (
    "{thing}, {style} style",
    "{a} {thing}, {style} style",
    "{a} {thing} in {style} style",
    "{a} {thing}, drawn in {style} style",
    "a {style} style picture of {a} {thing}",
    "{style} style {thing}",
)
PLAIN_TWO = ("{two}", "a picture of {two}", "a drawing of {two}")
STYLED_TWO = (
    "{two}, {style} style",
    "{two} in {style} style",
    "{two}, drawn in {style} style",
    "a {style} style picture of {two}",
)
# Words for where the first of two things is; the same arrangement told from the second one's side.
PLACES = {"left": "to the left of", "right": "to the right of", "above": "above", "below": "below"}
OPPOSITE = {"left": "right", "right": "left", "above": "below", "below": "above"}
NEAR = {"left": "next to", "right": "next to", "above": "and", "below": "and"}
AND = 0.4  # share of captions of two things that do not say where they are
NOT_AN = ("uni", "euro", "ewe", "one")  # begin with a vowel and sound like none
SINGULAR = ("ss", "us", "is", "os", "aries", "pisces")  # ends of words that are no plurals
HEAD = re.compile(r" (?:with|of|in|on|over|holding|lifting) ")  # what the article goes with stands before


def article(thing: str) -> str:
    """`a`, `an` or nothing, by the thing's first and last letters."""
    head = HEAD.split(thing)[0]
    if head.endswith("s") and not head.endswith(SINGULAR):
        return ""
    vowel = thing.startswith(("a", "e", "i", "o", "u", "hour", "8", "11", "18"))
    return "an" if vowel and not thing.startswith(NOT_AN) else "a"


def toned(name: str, tone: int) -> str:
    """A name with its skin tone, 0 for none: `person running with dark skin tone`."""
    joined = " and " if " with " in name else " with "
    return f"{name}{joined}{TONES[tone]}" if tone else name


def about_one(thing: str, style: str | None, rng: np.random.Generator) -> str:
    """A caption of one thing, in one of several phrasings; `style` None leaves it unsaid."""
    phrases = PLAIN if style is None else STYLED
    return _said(phrases[rng.integers(len(phrases))], thing=thing, a=article(thing), style=style)


def about_two(things: Sequence[str], place: str, style: str | None, rng: np.random.Generator) -> str:
    """A caption of two things, in one of several phrasings.

    Args:
        things: First and second.
        place: Of the first to the second: left, right, above or below.
        style: None leaves it unsaid.
        rng: Decides the phrasing, which thing is named first, and whether the place is said.
    """
    phrases = PLAIN_TWO if style is None else STYLED_TWO
    first, second = (f"{article(thing)} {thing}".strip() for thing in things)
    if rng.random() < 0.5:  # tell it from the other side
        first, second, place = second, first, OPPOSITE[place]
    between = PLACES[place]
    if rng.random() < AND:
        between = ("and", NEAR[place])[rng.integers(2)]
    return _said(phrases[rng.integers(len(phrases))], two=f"{first} {between} {second}", style=style)


def _said(phrase: str, **words: str | None) -> str:
    """The phrase with its words; where there is no article, no gap."""
    return " ".join(phrase.format(**words).split())
