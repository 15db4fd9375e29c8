"""Contact sheets: every picture stands where its row and column say, unharmed."""

from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from workbench.sheets import GAP, PAPER, sheet, write_sheet

RED, GREEN, BLUE = (torch.eye(3)[channel].reshape(3, 1, 1).expand(3, 4, 6) for channel in range(3))


def colors(image: Image.Image) -> set[tuple[int, int, int]]:
    """Colors that occur in a picture."""
    return {tuple(pixel) for pixel in np.asarray(image).reshape(-1, 3).tolist()}


def test_pictures_stand_in_their_places():
    """Row by row from the top left, a gap around each, every pixel `zoom` times as large."""
    image = sheet([[RED, GREEN], [BLUE]], zoom=3)
    assert image.size == (GAP + 2 * (18 + GAP), GAP + 2 * (12 + GAP))
    for (left, top), color in {(0, 0): (255, 0, 0), (1, 0): (0, 255, 0), (0, 1): (0, 0, 255)}.items():
        x, y = GAP + left * (18 + GAP), GAP + top * (12 + GAP)
        assert colors(image.crop((x, y, x + 18, y + 12))) == {color}
    assert colors(image.crop((GAP + 18 + GAP, GAP + 12 + GAP, *image.size))) == {PAPER}


def test_empty_places_stay_empty():
    """None leaves a place as it is, and the pictures after it do not move."""
    full, sparse = sheet([[RED, GREEN, BLUE]] * 2), sheet([[RED, GREEN, BLUE], [RED, None, BLUE]])
    lower = (0, full.height // 2, full.width, full.height)
    assert sparse.size == full.size
    assert colors(sparse.crop(lower)) == {(255, 0, 0), (0, 0, 255), PAPER}
    assert np.asarray(sparse.crop(lower))[:, -20:].tolist() == np.asarray(full.crop(lower))[:, -20:].tolist()


def test_labels_and_titles_make_room_for_themselves():
    """Names are drawn outside the pictures: every pixel of the pictures is still there."""
    plain = np.asarray(sheet([[RED, GREEN]])).tolist()
    named = np.asarray(sheet([[RED, GREEN]], labels=["a longer name"], titles=["before", "after"])).tolist()
    for color in ([255, 0, 0], [0, 255, 0]):
        assert sum(row.count(color) for row in named) == sum(row.count(color) for row in plain)
    assert len(named) > len(plain)
    assert len(named[0]) > len(plain[0])


def test_values_outside_the_range_are_clipped():
    """2 is white and -1 black, not the remainders that a cast would give."""
    assert colors(sheet([[torch.full((3, 2, 2), 2.0), torch.full((3, 2, 2), -1.0)]])) == {
        (255, 255, 255),
        (0, 0, 0),
        PAPER,
    }


def test_a_sheet_is_written_as_png(tmp_path: Path):
    """What is read back is what was drawn."""
    image = sheet([[RED]])
    write_sheet(tmp_path / "sheet.png", image)
    with Image.open(tmp_path / "sheet.png") as read:
        assert read.format == "PNG"
        assert np.array_equal(np.asarray(read), np.asarray(image))


@pytest.mark.parametrize("rows", [[], [[]], [[None]]])
def test_a_sheet_of_nothing_is_refused(rows: list[list[None]]):
    """An empty sheet is a mistake of the caller."""
    with pytest.raises(ValueError, match="0 pictures"):
        sheet(rows)
