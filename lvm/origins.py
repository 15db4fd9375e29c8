"""What rows are made of: a plain picture, a scene of emoji, or several scenes that belong together.

Letters: c h w image.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Literal

import numpy as np
from torch import Tensor

from vqtok.data.emoji import Emoji, load_emoji, sequences
from vqtok.data.scenes import Scene, nearly_alone, scene

Of = Literal["picture", "scene", "tones", "clock", "category"]
GROUP = 4  # pictures of one category
FRAMES = 5  # of a sequence: there are five skin tones


class Picture:
    """A plain picture: it looks the same in whatever style is asked of it."""

    def __init__(self, image: Tensor) -> None:
        self.pixels = image

    def image(self, style: str) -> Tensor:  # noqa: ARG002 - the one style it has
        """(3, h, w) in [0, 1]."""
        return self.pixels


@dataclass(frozen=True)
class Frames:
    """Scenes that belong together, in order."""

    scenes: tuple[Scene, ...]

    def images(self, style: str) -> tuple[Tensor, ...]:
        """Each (3, h, w) in [0, 1]."""
        return tuple(frame.image(style) for frame in self.scenes)


Origin = Picture | Scene | Frames


class Supply:
    """Origins without end, of the emoji of a split: each a pure function of (kind, seed, index)."""

    def __init__(self, split: str) -> None:
        self.emoji = load_emoji(split)
        told = sequences(split)
        self.rows: dict[str, list[list[Emoji]]] = {
            "tones": [frames for label, frames in told.items() if label.startswith("tones of ")],
            "clock": [frames for label, frames in told.items() if not label.startswith("tones of ")],
            "category": [*_by_category(self.emoji).values()],
        }

    def has(self, of: Of) -> bool:
        """Whether the split has any: the clock and the moon are in one split only."""
        return of in ("picture", "scene") or bool(self.rows[of])

    def origin(self, of: Of, seed: int, index: int) -> Origin:
        """Number `index` of a kind."""
        if of in ("picture", "scene"):
            return scene(self.emoji, seed, index)
        rng = np.random.default_rng((seed, index, 5))
        row = self.rows[of][rng.integers(len(self.rows[of]))]
        if of == "category":
            chosen = rng.choice(len(row), GROUP, replace=False)
            return Frames(tuple(nearly_alone(row[place], rng) for place in chosen))
        return _filmed(_part(row, rng), rng)


def _by_category(emoji: Sequence[Emoji]) -> dict[str, list[Emoji]]:
    found: dict[str, list[Emoji]] = {}
    for drawing in emoji:
        found.setdefault(drawing.category, []).append(drawing)
    return {name: row for name, row in found.items() if len(row) >= GROUP}


def _part(row: Sequence[Emoji], rng: np.random.Generator) -> list[Emoji]:
    """`FRAMES` of a row in their order or against it; the clock and the moon go round."""
    forward = 1 if rng.random() < 0.5 else -1
    start = 0 if len(row) == FRAMES else int(rng.integers(len(row)))
    chosen = [row[(start + place) % len(row)] for place in range(FRAMES)]
    return chosen[::forward]


def _filmed(frames: Sequence[Emoji], rng: np.random.Generator) -> Frames:
    """All frames at the place, size, turn and hue of the first."""
    first = nearly_alone(frames[0], rng)
    placed = first.placed[0]
    return Frames(tuple(replace(first, placed=(replace(placed, emoji=emoji),)) for emoji in frames))
