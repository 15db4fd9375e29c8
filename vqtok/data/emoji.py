"""The embedded pictures: 1,594 Fluent emoji by Microsoft (MIT) in up to four aligned styles, 64x64.

Styles: `shaded` (colored, soft light), `flat` (colored areas), `line` (dark gray ink) for every name, `solid`
(the 3-D renders) for 1,570 of them. 316 names of people also exist in five skin tones, shaded and flat. The
split goes by groups of look-alikes, so a name outside train has no twin inside. `emoji_pack/README.md` says
where all this is from.

Letters: c h w image.
"""

import io
from dataclasses import dataclass
from functools import cache
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import torch
from PIL import Image
from torch import Tensor

PACK = Path(__file__).parent / "emoji_pack" / "emoji.parquet"
SIZE = 64  # pixels a side
STYLES = ("shaded", "flat", "line", "solid")
SPLITS = ("train", "validation", "test")
HOURS = ("one", "two", "three", "four", "five", "six", "seven", "eight", "nine", "ten", "eleven", "twelve")
PHASES = (
    "new moon",
    "waxing crescent moon",
    "first quarter moon",
    "waxing gibbous moon",
    "full moon",
    "waning gibbous moon",
    "last quarter moon",
    "waning crescent moon",
)


@dataclass(frozen=True, eq=False)  # one object a drawing: identity is equality, and hashes fast
class Emoji:
    """One drawing: a name, a skin tone (0 none, 1 light ... 5 dark) and its picture in each style it has.

    Args:
        name: Words of the caption, such as "cheese wedge".
        tone: Skin tone.
        category: One of nine Unicode categories.
        group: Name that stands for all look-alikes of this one.
        split: train, validation or test, the same for a whole group.
        webp: Style -> WebP bytes, RGBA.
    """

    name: str
    tone: int
    category: str
    group: str
    split: str
    webp: dict[str, bytes]

    def rgba(self, style: str) -> np.ndarray:
        """(h, w, 4) uint8 pixels of one style, color not multiplied by alpha.

        Raises:
            ValueError: if this emoji lacks the style.
        """
        if style not in self.webp:
            raise ValueError(
                f"{self.name!r} (tone {self.tone}) has no style {style!r}: it has {sorted(self.webp)}"
            )
        return np.asarray(Image.open(io.BytesIO(self.webp[style])).convert("RGBA"))

    def image(self, style: str) -> Tensor:
        """(3, 64, 64) float32 in [0, 1], on white; style `mask` is the alpha of the shaded drawing."""
        rgba = self.rgba("shaded" if style == "mask" else style)
        pixels = torch.from_numpy(rgba.copy()).permute(2, 0, 1) / 255
        color, alpha = pixels[:3], pixels[3:]
        return alpha.expand(3, -1, -1).clone() if style == "mask" else color * alpha + 1 - alpha


@cache
def load_emoji(split: str | None = None, tones: bool = False) -> tuple[Emoji, ...]:
    """All emoji of a split in alphabetical order; without `tones` one drawing a name.

    Raises:
        ValueError: if the split is unknown.
    """
    if split not in (None, *SPLITS):
        raise ValueError(f"unknown split {split!r}: choose one of {SPLITS}, or None for all")
    rows = pq.read_table(PACK).to_pylist()
    return tuple(
        Emoji(
            row["name"],
            row["tone"],
            row["category"],
            row["group"],
            row["split"],
            {style: row[style] for style in STYLES if row[style] is not None},
        )
        for row in rows
        if (split in (None, row["split"])) and (tones or row["tone"] == 0)
    )


def sequences(split: str | None = None) -> dict[str, list[Emoji]]:
    """Ordered sequences by label: 316 of five skin tones, the clock by half hours, the phases of the moon."""
    drawings = load_emoji(split, tones=True)
    plain = {emoji.name: emoji for emoji in drawings if not emoji.tone}
    found: dict[str, list[Emoji]] = {}
    for emoji in drawings:
        if emoji.tone:
            found.setdefault(f"tones of {emoji.name}", []).append(emoji)
    clock = [f"{hour} {half}" for hour in HOURS for half in ("oclock", "thirty")]
    for label, names in (("clock", clock), ("moon", PHASES)):
        if all(name in plain for name in names):
            found[label] = [plain[name] for name in names]
    return found
