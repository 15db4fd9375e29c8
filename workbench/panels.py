"""Panels of lines as one picture, for more lines than a chart of a page has colors.

Every line has its name at its right end, in its color.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from PIL import Image, ImageDraw, ImageFont

from workbench.curves import Axis, Points, spread
from workbench.sheets import INK

WIDTH = 640  # pixels of a panel
LEFT, RIGHT, TOP, BOTTOM = 56, 230, 34, 48  # margins; names of the lines stand in the right one
TEXT, APART = 13, 15  # pixels: height of letters, least distance of two names
LEAST = 360  # pixels of a panel's height, more where names need it
COLORS = ("#1f6fb2", "#c2571a", "#2e8540", "#8a3ffc", "#b0184c", "#00798c", "#7a5c00", "#5f6a72", "#d1495b",
          "#3b5bdb")  # fmt: skip
PAPER, GRID, FAINT = "#ffffff", "#dddddd", "#666666"


@dataclass(frozen=True)
class Panel:
    """Lines over common axes.

    Args:
        title: What is shown.
        x: Name of the horizontal axis.
        lines: Name -> points in order of x; at least one point.
    """

    title: str
    x: str
    lines: Mapping[str, Points]


def panels(rows: Sequence[Sequence[Panel]]) -> Image.Image:
    """Panels beside and below one another; all of a size, which the one with most lines has.

    Raises:
        ValueError: if there is no panel, or one has no point.
    """
    every = [panel for row in rows for panel in row]
    if not every:
        raise ValueError("0 panels make no picture: give at least one")
    for panel in every:
        if not any(panel.lines.values()):
            raise ValueError(f"no points to draw for {panel.title!r}: measure some first")
    height = max(LEAST, TOP + BOTTOM + APART * max(len(panel.lines) for panel in every))
    paper = Image.new("RGB", (WIDTH * max(map(len, rows)), height * len(rows)), PAPER)
    for row, line in enumerate(rows):
        for column, panel in enumerate(line):
            paper.paste(_drawn(panel, height), (column * WIDTH, row * height))
    return paper


def _drawn(panel: Panel, height: int) -> Image.Image:
    paper = Image.new("RGB", (WIDTH, height), PAPER)
    draw, font = ImageDraw.Draw(paper), ImageFont.load_default(TEXT)
    points = [point for line in panel.lines.values() for point in line]
    across = Axis([x for x, _ in points], LEFT, WIDTH - RIGHT)
    up = Axis([y for _, y in points], height - BOTTOM, TOP)
    draw.text((LEFT, 8), panel.title, INK, font)
    draw.text((WIDTH - RIGHT, height - 8), panel.x, FAINT, font, anchor="rb")
    for value in up.ticks:
        draw.line([(LEFT, up.place(value)), (WIDTH - RIGHT, up.place(value))], GRID)
        draw.text((LEFT - 8, up.place(value)), f"{value:g}", FAINT, font, anchor="rm")
    for value in sorted({x for x, _ in points}):
        draw.text((across.place(value), height - BOTTOM + 6), f"{value:g}", FAINT, font, anchor="ma")
    ends = spread({name: up.place(line[-1][1]) for name, line in panel.lines.items()}, APART, height - BOTTOM)
    for number, (name, line) in enumerate(panel.lines.items()):
        color = COLORS[number % len(COLORS)]
        places = [(across.place(x), up.place(y)) for x, y in line]
        draw.line(places, color, 2)
        for left, top in places:
            draw.ellipse((left - 3, top - 3, left + 3, top + 3), color)
        draw.line([places[-1], (WIDTH - RIGHT + 12, ends[name])], color)
        draw.text((WIDTH - RIGHT + 16, ends[name]), name, color, font, anchor="lm")
    return paper
