"""`vqtok sample` and `vqtok complete`: a model draws pictures, or the rest of some, onto one sheet.

Letters: c channels, h w pixels.
"""

import math
import textwrap
from collections.abc import Sequence
from pathlib import Path

import torch
from torch import Tensor

from vqtok.data.pictures import check_png, read_picture
from workbench.drawers import Drawer
from workbench.sheets import sheet, write_sheet

GRAY = 0.5  # of what is not shown to the model
LETTERS = 24  # of a line of a caption beside its pictures


def sample(drawer: Drawer, out: Path, count: int, classes: Sequence[str] = ()) -> None:
    """Draw `count` pictures from nothing, and write them to `out` as PNG.

    Args:
        drawer: What draws.
        out: Where the sheet goes: a square, or a row for each class.
        count: Pictures, of each class if there are any.
        classes: Names of classes, or captions.

    Raises:
        ValueError: if there is nothing to draw, a class is unknown, or `out` is no name for a PNG.
        OSError: if the sheet cannot be written.
    """
    check_png(out)
    images = _colored(drawer.sample(count * max(len(classes), 1), classes))
    if classes:  # in turn
        rows = [images[number :: len(classes)] for number in range(len(classes))]
    else:
        rows = [*images.split(math.ceil(math.sqrt(count)))]
    write_sheet(out, sheet(rows, labels=_labels(classes), zoom=_zoom(images, least=64)))


def complete(
    drawer: Drawer,
    out: Path,
    pictures: Sequence[Path],
    rows: int | None = None,
    hole: Sequence[int] | None = None,
    candidates: int = 3,
    captions: Sequence[str] = (),
) -> None:
    """Draw what is missing of some pictures in several ways, and write all to `out` as PNG.

    Args:
        drawer: What draws.
        out: Where the sheet goes, a row a picture: the picture, what is shown of it, and the answers.
        pictures: Files; they are cut and resized to the model's size.
        rows: Rows that are kept, from the top.
        hole: Top, left, bottom, right of what is filled, in pixels.
        candidates: Answers to each picture.
        captions: What the drawer was told, one for all pictures or one for each, to write beside them.

    Raises:
        ValueError: if rows or hole do not fit the model, a picture is damaged, or `out` is no name for a PNG.
        OSError: if a file cannot be opened or written.
    """
    check_png(out)
    hidden = drawer.hidden(rows, hole)
    images = torch.stack([read_picture(path, drawer.size) for path in pictures])  # (b, c, h, w)
    answers = _colored(drawer.complete(images, hidden, candidates)).unflatten(0, (len(images), candidates))
    shown = images.masked_fill(hidden, GRAY)
    lines = [[image, part, *answer] for image, part, answer in zip(images, shown, answers, strict=True)]
    titles = ["picture", "shown", *[f"answer {number + 1}" for number in range(candidates)]]
    labels = _labels(list(captions) * len(lines) if len(captions) == 1 else captions)
    write_sheet(out, sheet(lines, labels, titles, zoom=_zoom(images, least=96)))


def _labels(names: Sequence[str]) -> list[str]:
    """Names in lines that are not long."""
    return [textwrap.fill(name, LETTERS) for name in names]


def _colored(images: Tensor) -> Tensor:
    """(b, 3, h, w) on the CPU, of gray ones too."""
    return images.cpu().expand(-1, 3, -1, -1)


def _zoom(images: Tensor, least: int) -> int:
    """Pixels a side that a pixel becomes, so that pictures are at least so wide."""
    return max(1, math.ceil(least / images.shape[-1]))
