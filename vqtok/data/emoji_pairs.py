"""The embedded emoji with captions: a name, a style, a skin tone, or two of them in one scene.

    emoji:train          each drawing of a known name in each style that training shows it in
    emoji:train:20000    so many of these, almost as drawn, and of scenes of two
    emoji:new_styles     known names in the one style that training does not show them in
    emoji:new_pairs:500  scenes of two known names that training never shows together
    emoji:validation     names that training does not know; likewise emoji:test, each with or without a count

Everything is a pure function of (seed, index). Backgrounds are white and no hue is turned, so that a caption
is true of its picture.

Letters: c h w image.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np
import torch.nn.functional as F
from torch import Tensor

from vqtok.data.combinations import Combinations
from vqtok.data.emoji import SIZE, SPLITS, STYLES, Emoji, load_emoji
from vqtok.data.order import shuffled
from vqtok.data.pairing import LeftOut, Pairs
from vqtok.data.phrases import about_one, about_two, toned
from vqtok.data.pictures import Fit
from vqtok.data.scenes import Placed, Scene, alone

EMOJI = "emoji:"
NEW_STYLES, NEW_PAIRS = "new_styles", "new_pairs"
TWO = 0.4  # share of counted samples that show two emoji
DRAWN = 0.5  # share of those of one that are just as drawn; the others are smaller, anywhere, perhaps turned
TONED = 0.3  # share of drawings in a skin tone, of names that have them
UNSTYLED = 0.25  # share of training's captions that do not say the style
SIZES = (24, 32)  # pixels a side, in scenes of two
DRIFT = 6  # pixels that two stray from the line they stand in


@dataclass(frozen=True)
class Shown:
    """What a picture shows, and its caption.

    Args:
        things: One emoji, or two.
        style: All are drawn in it.
        scene: Where they are.
        caption: Says it in words; perhaps not the style.
        place: Of the first to the second: left, right, above or below; None of one alone.
    """

    things: tuple[Emoji, ...]
    style: str
    scene: Scene
    caption: str
    place: str | None = None


class EmojiPairs(Pairs):
    """Embedded emoji with captions, as the module tells.

    Args:
        word: `emoji:SPLIT` or `emoji:SPLIT:COUNT`; the split is train, validation, test, new_styles or
            new_pairs.
        size: Height and width of the pictures, in pixels, averaged down from 64; None gives 64.
        seed: Another seed draws other samples and says them in other words.
        combinations: What is kept from training; the same in training and evaluation, or they overlap.

    Raises:
        ValueError: if there is no such split, count or size.
    """

    def __init__(
        self,
        word: str,
        size: int | None = None,
        seed: int = 0,
        combinations: Combinations | None = None,
        fit: Fit = "crop",
    ) -> None:
        super().__init__(size or SIZE, fit)
        self.split, _, count = word.removeprefix(EMOJI).partition(":")
        if self.split not in (*SPLITS, NEW_STYLES, NEW_PAIRS):
            known = ", ".join((*SPLITS, NEW_STYLES, NEW_PAIRS))
            raise ValueError(f"{word} asks for unknown pairs {self.split!r}: choose one of {known}")
        if count and not (count.isdecimal() and int(count)):
            raise ValueError(f"{word} asks for {count!r} pairs: give a whole number from 1, or leave it out")
        if self.split == NEW_PAIRS and not count:
            raise ValueError(f"{word} has too many scenes to list: say how many, as in {word}:500")
        if not 1 <= self.size <= SIZE:
            raise ValueError(f"emoji are drawn {SIZE} pixels wide, not {self.size}: ask for 1 to {SIZE}")
        self.seed, self.combinations = seed, combinations or Combinations()
        known = self.split if self.split in SPLITS else "train"
        self.emoji = load_emoji(known, tones=self.split != NEW_STYLES)
        self._count = int(count) if count else len(self._listed)
        self._shown = self._sampled if count and self.split != NEW_STYLES else self._as_listed
        self.left_out = LeftOut(word, len(self), {})

    def __len__(self) -> int:
        return self._count

    def pixels(self, index: int) -> Tensor:
        """(3, h, w) uint8 of one picture."""
        shown = self.shown(index)
        image = F.interpolate(shown.scene.image(shown.style)[None], (self.size, self.size), mode="area")[0]
        return (image * 255).round().byte()

    def caption(self, index: int) -> str:
        """The caption of one picture."""
        return self.shown(index).caption

    def name(self, index: int) -> str:
        """Its number, what it shows and its style."""
        shown = self.shown(index)
        things = " and ".join(toned(one.name, one.tone) for one in shown.things)
        return f"{index:06} {things} {shown.style}"

    def shown(self, index: int) -> Shown:
        """What picture number `index` shows."""
        return self._shown(index)

    def held_out(self, emoji: Emoji) -> str | None:
        """The style that training does not show an emoji in; None for most, and all of other splits."""
        return self.combinations.style(emoji.group, STYLES) if emoji.split == "train" else None

    def apart(self, one: Emoji, other: Emoji) -> bool:
        """Whether training never shows the two together."""
        return self.combinations.apart(one.group, other.group)

    def styles(self, *things: Emoji) -> list[str]:
        """The styles that all of these have and may be shown in."""
        return [
            style
            for style in STYLES
            if all(style in one.webp and (style == self.held_out(one)) == self._new for one in things)
        ]

    @property
    def _new(self) -> bool:
        """Whether styles are shown that training does not."""
        return self.split == NEW_STYLES

    @cached_property
    def _listed(self) -> list[tuple[Emoji, str]]:
        """Every drawing in every style that it may be shown in."""
        return [(one, style) for one in self.emoji for style in self.styles(one)]

    @cached_property
    def _named(self) -> list[list[Emoji]]:
        """For each name its drawings, the one without a skin tone first."""
        drawings: dict[str, list[Emoji]] = {}
        for one in self.emoji:
            drawings.setdefault(one.name, []).append(one)
        return [sorted(found, key=lambda one: one.tone) for found in drawings.values()]

    def _as_listed(self, index: int) -> Shown:
        """One emoji as drawn; any count is spread over the list, and goes over it again in other words."""
        length = len(self._listed)
        emoji, style = self._listed[index if self._count == length else shuffled(index, length, self.seed)]
        rng = np.random.default_rng((self.seed, index, 0))
        return self._one(emoji, style, alone(emoji), rng)

    def _sampled(self, index: int) -> Shown:
        """One emoji almost as drawn, or a scene of two."""
        rng = np.random.default_rng((self.seed, index, 1))
        if self.split != NEW_PAIRS and rng.random() >= TWO:
            emoji = self._drawing(rng)
            styles = self.styles(emoji)
            scene = alone(emoji) if rng.random() < DRAWN else _nearly(emoji, rng)
            return self._one(emoji, styles[rng.integers(len(styles))], scene, rng)
        while True:  # nine of ten pairs may be shown in training, one of ten are new
            things = (self._drawing(rng), self._drawing(rng))
            styles = self.styles(*things)
            if self._together(*things) and styles:
                return self._two(things, styles[rng.integers(len(styles))], rng)

    def _together(self, one: Emoji, other: Emoji) -> bool:
        """Whether this split shows the two in one scene; look-alikes are shown in none."""
        if one.group == other.group:
            return False
        new = self.apart(one, other)
        return new if self.split == NEW_PAIRS else self.split != "train" or not new

    def _drawing(self, rng: np.random.Generator) -> Emoji:
        """Each name as often; some in a skin tone."""
        plain, *tones = self._named[rng.integers(len(self._named))]
        return tones[rng.integers(len(tones))] if tones and rng.random() < TONED else plain

    def _one(self, emoji: Emoji, style: str, scene: Scene, rng: np.random.Generator) -> Shown:
        thing = toned(emoji.name, emoji.tone)
        return Shown((emoji,), style, scene, about_one(thing, self._said(style, rng), rng))

    def _two(self, things: tuple[Emoji, Emoji], style: str, rng: np.random.Generator) -> Shown:
        scene, place = _side_by_side(things, rng)
        names = [toned(one.name, one.tone) for one in things]
        return Shown(things, style, scene, about_two(names, place, self._said(style, rng), rng), place)

    def _said(self, style: str, rng: np.random.Generator) -> str | None:
        """The style, if the caption says it: in training mostly, where combinations are new always."""
        unsaid = rng.random() < UNSTYLED
        return None if unsaid and self.split in SPLITS else style


def _nearly(emoji: Emoji, rng: np.random.Generator) -> Scene:
    """Up to ten pixels smaller, anywhere; half of them turned a little."""
    size = int(rng.integers(SIZE - 10, SIZE + 1))
    left, top = (int(place) for place in rng.integers(SIZE - size + 1, size=2))
    turn = float(rng.uniform(-12, 12)) if rng.random() < 0.5 else 0.0
    return Scene((Placed(emoji, size, left, top, turn),))


def _side_by_side(things: Sequence[Emoji], rng: np.random.Generator) -> tuple[Scene, str]:
    """Two emoji in two halves of the picture, and where the first one is to the second."""
    upright, swapped = rng.random(2) < 0.5
    half = SIZE // 2
    placed = []
    for emoji, second in zip(things, (swapped, not swapped), strict=True):
        size = int(rng.integers(SIZES[0], SIZES[1] + 1))
        along = half * int(second) + int(rng.integers(half - size + 1))
        across = (SIZE - size) // 2 + int(rng.integers(-DRIFT, DRIFT + 1))
        left, top = (across, along) if upright else (along, across)
        placed.append(Placed(emoji, size, left, top))
    places = ("above", "below") if upright else ("left", "right")
    return Scene(tuple(placed)), places[int(swapped)]
