"""Panels of lines: all lines are there, in colors of their own, with room for their names."""

import numpy as np
import pytest
from PIL import ImageColor

from workbench.panels import APART, BOTTOM, COLORS, LEAST, TOP, WIDTH, Panel, panels


def lines(count: int) -> dict[str, list[tuple[float, float]]]:
    """Lines that fall, each above the one before."""
    return {f"line {number}": [(0, number + 1.0), (1, number + 0.5)] for number in range(count)}


def test_every_line_has_its_color():
    """As many colors are in the picture as lines, of those there are."""
    picture = np.asarray(panels([[Panel("title", "x", lines(4))]])).reshape(-1, 3)
    seen = {tuple(pixel) for pixel in picture.tolist()}
    assert [ImageColor.getrgb(color) in seen for color in COLORS] == [True] * 4 + [False] * 6


def test_names_get_the_room_they_need():
    """Many lines make all panels higher; rows of panels stand below one another."""
    many = 40
    picture = panels([[Panel("a", "x", lines(2)), Panel("b", "x", lines(many))], [Panel("c", "x", lines(1))]])
    assert picture.size == (2 * WIDTH, 2 * max(LEAST, TOP + BOTTOM + APART * many))


def test_nothing_to_draw_is_refused():
    """No panel, and a panel without a point."""
    with pytest.raises(ValueError, match="0 panels make no picture"):
        panels([])
    with pytest.raises(ValueError, match="no points to draw for 'a'"):
        panels([[Panel("a", "x", {})]])
