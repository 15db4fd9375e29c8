"""How right answers are: overlap of masks and boxes, errors of colors, and what becomes of many of them.

Letters: b answers, c channels, h w size.
"""

from collections.abc import Callable, Sequence

import torch
from torch import Tensor

from vqtok.metrics.images import iou
from vqtok.metrics.lpips import DEVIATION, LPIPS, distances

Marks = dict[str, Tensor]  # name -> (b,), a number for each answer


def overlap(found: Tensor, right: Tensor, read: Callable[[Tensor], Tensor]) -> Marks:
    """IoU of what two sets of pictures show, and the pixels that it is made of.

    Args:
        found: (b, 3, h, w) in [0, 1], the answers.
        right: The same, what is right.
        read: Turns such pictures into masks (b, h, w) bool.
    """
    masks, truths = read(found), read(right)
    return {
        "iou": iou(masks, truths),
        "common": (masks & truths).flatten(1).sum(1),
        "either": (masks | truths).flatten(1).sum(1),
    }


def color_errors(found: Tensor, right: Tensor, lpips: LPIPS | None = None) -> Marks:
    """Squared errors and, with its network, LPIPS of pictures (b, 3, h, w) in [0, 1].

    `mse` is of colors in [0, 1]; `mse_imagenet`, about twenty times larger, of colors divided by ImageNet's
    standard deviations, as in Bar et al.'s program.
    """
    squares = (found - right).square()
    spread = torch.tensor(DEVIATION, device=found.device).square().view(3, 1, 1)
    marks = {"mse": squares.mean((1, 2, 3)), "mse_imagenet": (squares / spread).mean((1, 2, 3))}
    if lpips is None:
        return marks
    return marks | {"lpips": distances(lpips, found, right)}


def joined(parts: Sequence[Marks]) -> Marks:
    """One set of marks of several, in their order."""
    return {name: torch.cat([part[name] for part in parts]) for name in parts[0]}


def means(marks: Marks, groups: Sequence[str]) -> dict[str, float]:
    """Means over answers; of overlaps, `iou_image` (each answer alike) and `iou_class` (each class alike)."""
    if "iou" not in marks:
        return {name: float(values.double().mean()) for name, values in marks.items()}
    by_class = class_ious(marks, groups)
    return {
        "iou_image": float(marks["iou"].double().mean()),
        "iou_class": sum(by_class.values()) / len(by_class),
    }


def class_ious(marks: Marks, groups: Sequence[str]) -> dict[str, float]:
    """Class -> IoU of all its answers together: the pixels in common over those that answers or truth have.

    Large objects count for more than small ones. 1 where there are no pixels at all.
    """
    found = {}
    for name in sorted({*groups}):
        rows = torch.tensor([group == name for group in groups])
        common, either = (int(marks[kind][rows].sum()) for kind in ("common", "either"))
        found[name] = common / either if either else 1.0
    return found
