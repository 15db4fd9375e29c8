"""Contact sheets: rows of small pictures with names beside and above them, as one picture.

Letters: h w pixels of a cell. Pictures are (3, h, w) float in [0, 1].
"""

import io
from collections.abc import Sequence
from itertools import zip_longest
from pathlib import Path

import numpy as np
from einops import rearrange
from PIL import Image, ImageDraw, ImageFont
from torch import Tensor

from vqtok.storage.folders import write_file

GAP = 8  # pixels between cells and around the sheet
PAPER = (236, 236, 236)  # gray, so that the edges of white pictures show
INK = (30, 30, 30)


def sheet(
    rows: Sequence[Sequence[Tensor | None]],
    labels: Sequence[str] = (),
    titles: Sequence[str] = (),
    zoom: int = 2,
    text: int = 14,
) -> Image.Image:
    """One picture with `rows` of pictures; rows may differ in length, and so may the pictures in size.

    Args:
        rows: Each picture (3, h, w) in [0, 1]; None leaves its place empty.
        labels: Names of the rows, of one line or several, on their left; rows beyond them have none.
        titles: Names of the columns, above them; columns beyond them have none.
        zoom: Pixels a side that a pixel becomes, without smoothing.
        text: Height of the letters in pixels.

    Raises:
        ValueError: if there is no picture at all.
    """
    pictures = [[None if cell is None else _image(cell, zoom) for cell in row] for row in rows]
    if not any(picture for row in pictures for picture in row):
        raise ValueError("0 pictures make no sheet: give at least one row with one picture")
    font = ImageFont.load_default(text)
    lefts, width = _places(_widths(pictures, titles, font), start=_margin(labels, font))
    tops, height = _places(_heights(pictures), start=2 * GAP + text if titles else GAP)
    paper = Image.new("RGB", (width, height), PAPER)
    draw = ImageDraw.Draw(paper)
    for left, title in zip(lefts, titles, strict=False):
        draw.text((left, GAP), title, INK, font)
    for top, row, label in zip_longest(tops, pictures, labels[: len(pictures)], fillvalue=""):
        draw.text((GAP, top), label, INK, font)
        for left, picture in zip(lefts, row, strict=False):
            if picture is not None:
                paper.paste(picture, (left, top))
    return paper


def write_sheet(path: Path | str, image: Image.Image) -> None:
    """Write a sheet as PNG, whole or not at all."""
    buffer = io.BytesIO()
    image.save(buffer, "PNG")
    write_file(path, buffer.getvalue())


def _image(picture: Tensor, zoom: int) -> Image.Image:
    """A (3, h, w) tensor in [0, 1] as an image `zoom` times as large; values outside are clipped."""
    pixels = rearrange(picture.detach().float().cpu().clamp(0, 1) * 255, "c h w -> h w c").round()
    image = Image.fromarray(np.asarray(pixels, dtype=np.uint8))
    return image.resize((image.width * zoom, image.height * zoom), Image.Resampling.NEAREST)


def _margin(labels: Sequence[str], font: ImageFont.FreeTypeFont) -> int:
    """Pixels left of the first column."""
    lines = [line for label in labels for line in label.splitlines()]
    return GAP + max((round(font.getlength(line)) + GAP for line in lines), default=0)


def _widths(
    rows: list[list[Image.Image | None]], titles: Sequence[str], font: ImageFont.FreeTypeFont
) -> list[int]:
    """Width of each column: that of its widest picture or of its title."""
    columns = zip_longest(*rows)
    widths = [max((cell.width for cell in column if cell), default=0) for column in columns]
    lengths = [round(font.getlength(title)) for title in titles]
    return [max(pair) for pair in zip_longest(widths, lengths[: len(widths)], fillvalue=0)]


def _heights(rows: list[list[Image.Image | None]]) -> list[int]:
    """Height of each row: that of its tallest picture."""
    return [max((cell.height for cell in row if cell), default=0) for row in rows]


def _places(sizes: list[int], start: int) -> tuple[list[int], int]:
    """Where each of `sizes` begins, and where the last ends, with a gap after every one."""
    ends = [start]
    for size in sizes:
        ends.append(ends[-1] + size + GAP)
    return ends[:-1], ends[-1]
