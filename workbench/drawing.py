"""`vqtok sample` and `vqtok complete`: an ImageGPT draws pictures, or the rest of some, onto one sheet.

Letters: c channels, h w pixels.
"""

import math
from collections.abc import Sequence
from pathlib import Path

import torch
from torch import Tensor

from imagegpt import ImageGPT
from vqtok.data.pictures import check_png, read_picture
from vqtok.gpt import Sampling
from workbench.sheets import sheet, write_sheet

GRAY = 0.5  # of what is not shown to the model


def load(model: str) -> ImageGPT:
    """The ImageGPT of a folder or hub id, on a GPU if there is one."""
    return ImageGPT.from_pretrained(model).to("cuda" if torch.cuda.is_available() else "cpu")


def sample(
    model: ImageGPT, out: Path, count: int, sampling: Sampling, seed: int = 0, classes: Sequence[str] = ()
) -> None:
    """Draw `count` pictures from nothing, and write them to `out` as PNG.

    Args:
        model: What draws; one that sees the past.
        out: Where the sheet goes: a square, or a row for each class.
        count: Pictures, of each class if there are any.
        sampling: How they are drawn.
        seed: Of the drawing.
        classes: Names of classes.

    Raises:
        ValueError: if there is nothing to draw, a class is unknown, or `out` is no name for a PNG.
        OSError: if the sheet cannot be written.
    """
    check_png(out)
    if not classes:
        images = model.sample(count, sampling, seed)
        rows = [*images.cpu().split(math.ceil(math.sqrt(count)))]
    else:
        images = model.sample(count * len(classes), sampling, seed, classes)  # classes in turn
        rows = [images[number :: len(classes)].cpu() for number in range(len(classes))]
    write_sheet(out, sheet(rows, labels=classes, zoom=_zoom(images, least=64)))


def complete(
    model: ImageGPT,
    out: Path,
    pictures: Sequence[Path],
    rows: int | None,
    hole: Sequence[int] | None,
    sampling: Sampling,
    seed: int = 0,
    candidates: int = 3,
) -> None:
    """Draw what is missing of some pictures in several ways, and write all to `out` as PNG.

    Args:
        model: What draws: after the top rows if it sees the past, into a hole if it sees both sides.
        out: Where the sheet goes, a row a picture: the picture, what is shown of it, and the answers.
        pictures: Files; they are cut and resized to the model's size.
        rows: Rows of codes that are kept, from the top; None keeps the upper half.
        hole: Top, left, bottom, right of what is filled, in pixels; None takes the middle.
        sampling: How tokens are drawn.
        seed: Of the drawing.
        candidates: Answers to each picture.

    Raises:
        ValueError: if rows or hole do not fit the model, a picture is damaged, or `out` is no name for a PNG.
        OSError: if a file cannot be opened or written.
    """
    check_png(out)
    size, causal = model.tokenizer.config.size, model.config.gpt.causal
    if (hole if causal else rows) is not None:
        told = "rows: it completes what is above" if causal else "a hole: it sees both sides"
        raise ValueError(f"this model takes {told}; leave the other one out")
    images = torch.stack([read_picture(path, size) for path in pictures])  # (b, c, h, w)
    hidden = torch.zeros(size, size, dtype=torch.bool)
    if causal:
        rows = model.layout.shape[0] // 2 if rows is None else rows
        drawn = model.complete(images, rows, sampling, seed, candidates=candidates)
        hidden[rows * model.tokenizer.factor :] = True
    else:
        top, left, bottom, right = hole or [size // 4, size // 4, size - size // 4, size - size // 4]
        if not (0 <= top < bottom <= size and 0 <= left < right <= size):
            raise ValueError(f"hole {top} {left} {bottom} {right} does not lie in {size}x{size} pixels")
        hidden[top:bottom, left:right] = True
        repeated = images.repeat_interleave(candidates, dim=0)
        drawn = model.fill(repeated, hidden, sampling=sampling, seed=seed)
    shown = images.masked_fill(hidden, GRAY)
    answers = drawn.cpu().unflatten(0, (len(images), candidates))
    lines = [[image, part, *answer] for image, part, answer in zip(images, shown, answers, strict=True)]
    titles = ["picture", "shown", *[f"answer {number + 1}" for number in range(candidates)]]
    write_sheet(out, sheet(lines, titles=titles, zoom=_zoom(images, least=96)))


def _zoom(images: Tensor, least: int) -> int:
    """Pixels a side that a pixel becomes, so that pictures are at least so wide."""
    return max(1, math.ceil(least / images.shape[-1]))
