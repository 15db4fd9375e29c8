"""Learning curves: every point stands where its numbers say, and names do not cover one another."""

import math
import re
from xml.etree import ElementTree

import pytest

from workbench.curves import APART, HEIGHT, LEFT, LINES, RIGHT, WIDTH, chart, ticks


def parsed(svg: str) -> ElementTree.Element:
    """The chart as XML, which also shows that it is well-formed."""
    return ElementTree.fromstring(svg)


def line(element: ElementTree.Element) -> list[tuple[float, float]]:
    """Corners of the first line."""
    return [tuple(map(float, pair.split(","))) for pair in element.find("polyline").attrib["points"].split()]


@pytest.mark.parametrize(
    ("low", "high", "expected"),
    [
        (0, 500, [0, 100, 200, 300, 400, 500]),
        (0.13, 3.4, [0, 1, 2, 3, 4]),
        (21.2, 24.9, [21, 22, 23, 24, 25]),
        (-0.04, 0.05, [-0.04, -0.02, 0, 0.02, 0.04, 0.06]),
        (5, 5, [5, 6]),
        (0, 0, [0, 0.2]),
    ],
)
def test_ticks_are_round_and_enclose(low: float, high: float, expected: list[float]) -> None:
    """Both ends lie within round numbers, of which there are a handful."""
    assert ticks(low, high) == expected


def test_points_stand_where_they_belong() -> None:
    """The first x is at the left edge, the last at the right; more is higher; equal steps are equal."""
    places = line(parsed(chart({"a": [(0, 1.0), (50, 2.0), (100, 3.0)]}, "title", "step", "nats")))
    across, up = zip(*places, strict=True)
    assert (across[0], across[-1]) == (LEFT, WIDTH - RIGHT)
    assert up[0] > up[1] > up[2]
    assert math.isclose(up[0] - up[1], up[1] - up[2])
    assert math.isclose(across[1] - across[0], across[2] - across[1])


def test_names_keep_apart() -> None:
    """Lines that end at one place have names one under another, all inside the chart."""
    svg = parsed(chart({name: [(0, 1.0), (1, 0.0)] for name in "abcd"}, "title", "step", "nats"))
    heights = sorted(float(text.attrib["y"]) for text in svg.iter("text") if text.attrib["class"] == "name")
    assert all(after - before >= APART for before, after in zip(heights, heights[1:], strict=False))
    assert heights[-1] < HEIGHT


def test_text_is_escaped() -> None:
    """Names with signs of markup stay text."""
    assert "".join(parsed(chart({"<b>&": [(0, 1)]}, "a < b", "x", "y")).itertext()).count("<b>&") == 2


def test_gaps_are_left_out() -> None:
    """A value that is no finite number is no point; a line without points is no line."""
    svg = chart({"a": [(0, 1.0), (1, math.nan), (2, 3.0)], "b": [(0, math.inf)]}, "title", "step", "nats")
    assert len(line(parsed(svg))) == 2
    assert len(re.findall("<polyline", svg)) == 1


def test_senseless_charts_are_refused() -> None:
    """No points, or more lines than colors, with the way out."""
    with pytest.raises(ValueError, match="no points to draw for 'loss': log some"):
        chart({"a": []}, "loss", "step", "nats")
    with pytest.raises(ValueError, match=f"{LINES + 1} lines are too many .*: draw two charts"):
        chart({str(number): [(0, 1)] for number in range(LINES + 1)}, "loss", "step", "nats")
