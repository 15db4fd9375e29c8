"""Learning curves as SVG, to stand inside a page: no library, no script, no file of their own.

Colors are the page's variables --line-1 to --line-4, --ink, --faint and --grid (`workbench.page`).
"""

import math
from collections.abc import Mapping, Sequence
from html import escape

Points = Sequence[tuple[float, float]]

WIDTH, HEIGHT = 560, 300  # of the whole chart, in SVG units, which are CSS pixels at full size
LEFT, RIGHT, TOP, BOTTOM = 48, 128, 46, 40  # margins; names of the lines stand in the right one
LINES = 4  # colors there are
FEW = 40  # points up to which dots are large
APART = 15  # least distance of two names, in SVG units


def chart(series: Mapping[str, Points], title: str, x: str, y: str) -> str:
    """Lines over common axes, each with its name at its right end; a point tells its numbers when pointed at.

    Args:
        series: Name -> (x, y) points in order of x; points that are not finite are left out.
        title: What is shown.
        x: Name of the horizontal axis, with its unit.
        y: Name of the vertical axis, with its unit; it need not begin at 0.

    Raises:
        ValueError: if there is no point, or more lines than colors.
    """
    finite = {name: [*filter(_finite, points)] for name, points in series.items()}
    lines = {name: points for name, points in finite.items() if points}
    if not lines:
        raise ValueError(f"no points to draw for {title!r}: log some first")
    if len(lines) > LINES:
        raise ValueError(f"{len(lines)} lines are too many for one chart of {LINES} colors: draw two charts")
    across = Axis([point[0] for points in lines.values() for point in points], LEFT, WIDTH - RIGHT)
    up = Axis([point[1] for points in lines.values() for point in points], HEIGHT - BOTTOM, TOP)
    numbered = enumerate(lines.items(), 1)
    drawn = [_line(number, name, points, across, up) for number, (name, points) in numbered]
    ends = {name: up.place(points[-1][1]) for name, points in lines.items()}
    spread_ends = spread(ends, APART, HEIGHT - BOTTOM)
    names = [_name(number, name, place) for number, (name, place) in enumerate(spread_ends.items(), 1)]
    parts = [
        _text(8, 18, title, "title"),
        _text(8, 34, y),
        *_grid(across, up),
        _text(WIDTH - RIGHT, HEIGHT - 6, x, "end"),
        *drawn,
        *names,
    ]
    return (
        f'<svg class="chart" viewBox="0 0 {WIDTH} {HEIGHT}" role="img" aria-label="{escape(title)}">'
        f"{''.join(parts)}</svg>"
    )


def ticks(low: float, high: float, about: int = 5) -> list[float]:
    """Around `about` round numbers, from the last at or below `low` to the first at or above `high`."""
    span = high - low or abs(high) or 1.0
    unit = 10.0 ** math.floor(math.log10(span / about))
    step = next(unit * factor for factor in (1, 2, 5, 10) if unit * factor * about >= span)
    first, last = math.floor(low / step + 1e-9), math.ceil(high / step - 1e-9)
    return [round(number * step, 12) for number in range(first, max(last, first + 1) + 1)]


def spread(places: Mapping[str, float], apart: float, lowest: float) -> dict[str, float]:
    """Places of names, moved down until they are `apart`, then up so that none is below `lowest`."""
    order = sorted(places, key=places.get)
    moved, least = {}, -math.inf
    for name in order:
        moved[name] = least = max(places[name], least + apart)
    most = lowest + apart
    for name in reversed(order):
        moved[name] = most = min(moved[name], most - apart)
    return {name: moved[name] for name in places}


class Axis:
    """From values to places between `start` and `end`, with round ends."""

    def __init__(self, values: list[float], start: float, end: float) -> None:
        self.ticks = ticks(min(values), max(values))
        self.start, self.end = start, end

    def place(self, value: float) -> float:
        """Where a value stands, in SVG units."""
        low, high = self.ticks[0], self.ticks[-1]
        return self.start + (value - low) / (high - low) * (self.end - self.start)


def _grid(across: Axis, up: Axis) -> list[str]:
    """Horizontal lines with their values, and the values of the horizontal axis."""
    parts = []
    for value in up.ticks:
        place = up.place(value)
        ends = f'x1="{LEFT}" x2="{WIDTH - RIGHT}" y1="{place:.1f}" y2="{place:.1f}"'
        parts += [f'<line {ends} stroke="var(--grid)"/>', _text(LEFT - 8, place + 4, f"{value:g}", "end")]
    for value in across.ticks:
        parts.append(_text(across.place(value), HEIGHT - BOTTOM + 16, f"{value:,g}", "middle"))
    return parts


def _line(number: int, name: str, points: Points, across: Axis, up: Axis) -> str:
    """One line, and a dot for every point, which tells its numbers; small dots where they are many."""
    places = [(across.place(x), up.place(y)) for x, y in points]
    path = " ".join(f"{x:.1f},{y:.1f}" for x, y in places)
    color = f"var(--line-{number})"
    radius = 3.5 if len(points) <= FEW else 1.5
    dots = [
        f'<circle cx="{x:.1f}" cy="{y:.1f}" r="{radius}" fill="{color}">'
        f"<title>{escape(name)}: {value[1]:.4g} at {value[0]:,g}</title></circle>"
        for (x, y), value in zip(places, points, strict=True)
    ]
    style = f'fill="none" stroke="{color}" stroke-width="2" stroke-linejoin="round"'
    return f'<polyline points="{path}" {style}/>{"".join(dots)}'


def _name(number: int, name: str, place: float) -> str:
    """A line's name right of its end, behind a mark of its color."""
    left = WIDTH - RIGHT + 8
    return (
        f'<rect x="{left}" y="{place - 4:.1f}" width="10" height="8" rx="2" fill="var(--line-{number})"/>'
        f"{_text(left + 15, place + 4, name, 'name')}"
    )


def _finite(point: tuple[float, float]) -> bool:
    return all(map(math.isfinite, point))


def _text(x: float, y: float, text: str, kind: str = "start") -> str:
    return f'<text class="{kind}" x="{x:.1f}" y="{y:.1f}">{escape(text)}</text>'
