"""Scenes: one to four emoji at random place, size, turn, hue and background, in every style at once.

1,300 names alone are memorized in minutes; scenes never end. A scene is a pure function of (seed, index), and
all its styles and its mask are drawn under one composition, so that any two of them are an exact pair.

Letters: c h w image.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from vqtok.data.emoji import SIZE, Emoji
from vqtok.data.views import hue_matrix

WHITE = (1.0, 1.0, 1.0)
COUNTS = (0.75, 0.13, 0.06, 0.06)  # share of scenes with one, two, three and four emoji
PLAIN = 0.65  # share of one-emoji scenes that are just the emoji as drawn: full size, upright, on white
SIZES = {1: (40, 64), 2: (28, 40), 3: (24, 32), 4: (24, 32)}  # pixels a side, by the number of emoji
ROOMS = {  # left, top, right, bottom
    1: ((0, 0, 64, 64),),
    2: ((0, 0, 40, 64), (24, 0, 64, 64)),
    4: ((0, 0, 32, 32), (32, 0, 64, 32), (0, 32, 32, 64), (32, 32, 64, 64)),
}
TURNED = 0.4  # share of emoji that are turned
HUED, COLORED = 0.15, 0.5  # shares of scenes with shifted hues, and with a colored background


@dataclass(frozen=True)
class Placed:
    """One emoji in a scene.

    Args:
        emoji: What is drawn.
        size: Pixels a side.
        left: Of its left edge, in pixels.
        top: Of its top edge, in pixels.
        turn: Degrees counter-clockwise.
        hue: Turn of the hue, in radians.
    """

    emoji: Emoji
    size: int = SIZE
    left: int = 0
    top: int = 0
    turn: float = 0.0
    hue: float = 0.0


@dataclass(frozen=True)
class Scene:
    """A composition that can be drawn in any style that all its emoji have."""

    placed: tuple[Placed, ...]
    background: tuple[float, float, float] = WHITE

    def image(self, style: str) -> Tensor:
        """(3, 64, 64) float32 in [0, 1]; style `mask` is white where any emoji is, on black."""
        drawn = "shaded" if style == "mask" else style
        canvas = np.empty((SIZE, SIZE, 3), np.float32)
        canvas[:] = (0, 0, 0) if style == "mask" else self.background
        for placed in self.placed:
            color, alpha = _layer(placed, drawn)
            window = canvas[placed.top : placed.top + placed.size, placed.left : placed.left + placed.size]
            window *= 1 - alpha
            window += alpha if style == "mask" else color
        return torch.from_numpy(canvas.clip(0, 1)).permute(2, 0, 1).contiguous()


def alone(emoji: Emoji) -> Scene:
    """The emoji as drawn: full size, upright, on white."""
    return Scene((Placed(emoji),))


def nearly_alone(emoji: Emoji, rng: np.random.Generator) -> Scene:
    """The emoji almost as drawn: up to ten pixels smaller, anywhere; half of them turned, half tinted."""
    size = int(rng.integers(SIZE - 10, SIZE + 1))
    left, top = (int(place) for place in rng.integers(SIZE - size + 1, size=2))
    turn = float(rng.uniform(-12, 12)) if rng.random() < 0.5 else 0.0
    hue = float(rng.uniform(-0.8, 0.8)) if rng.random() < 0.5 else 0.0
    return Scene((Placed(emoji, size, left, top, turn, hue),))


def scene(emoji: Sequence[Emoji], seed: int, index: int) -> Scene:
    """Scene number `index` of an endless supply made of `emoji`, a pure function of its arguments."""
    if not emoji:
        raise ValueError("a scene needs at least one emoji to draw: got none")
    rng = np.random.default_rng((seed, index))
    count = int(rng.choice(4, p=COUNTS)) + 1
    plain = count == 1 and rng.random() < PLAIN
    background = tuple(rng.uniform(0.45, 1.0, 3).tolist()) if not plain and rng.random() < COLORED else WHITE
    hued = not plain and rng.random() < HUED
    rooms = ROOMS[4 if count == 3 else count]
    placed = []
    for room in rng.permutation(len(rooms))[:count]:
        chosen = emoji[rng.integers(len(emoji))]
        size = SIZE if plain else int(rng.integers(SIZES[count][0], SIZES[count][1] + 1))
        left, top, right, bottom = rooms[room]
        turned = not plain and rng.random() < TURNED
        placed.append(
            Placed(
                chosen,
                size,
                left=int(rng.integers(left, max(left, min(right, SIZE) - size) + 1)),
                top=int(rng.integers(top, max(top, bottom - size) + 1)),
                turn=float(rng.uniform(-35, 35)) if turned else 0.0,
                hue=float(rng.uniform(-np.pi, np.pi)) if hued else 0.0,
            )
        )
    return Scene(tuple(placed), background)


def _layer(placed: Placed, style: str) -> tuple[np.ndarray, np.ndarray]:
    """Color times alpha (h, w, 3) and alpha (h, w, 1) of one emoji, float32, at its size and turn."""
    picture = _premultiplied(placed.emoji, style)
    if placed.size != SIZE:
        picture = picture.resize((placed.size, placed.size), Image.Resampling.LANCZOS)
    if placed.turn:
        picture = picture.rotate(placed.turn, Image.Resampling.BICUBIC)
    layer = np.asarray(picture, np.float32) / 255
    color, alpha = layer[..., :3], layer[..., 3:]
    if placed.hue and style != "line":
        color = color @ hue_matrix(placed.hue).T
    return color.clip(0, alpha), alpha  # resizing overshoots, and would leave a halo where alpha is zero


@lru_cache(maxsize=8192)
def _premultiplied(emoji: Emoji, style: str) -> Image.Image:
    """RGBA picture whose color is multiplied by alpha, so that resizing and turning blend no hidden color."""
    pixels = emoji.rgba(style).astype(np.float32)
    pixels[..., :3] *= pixels[..., 3:] / 255
    return Image.fromarray(pixels.round().astype(np.uint8), "RGBa")
