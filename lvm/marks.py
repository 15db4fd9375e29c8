"""Marks of an exam: how right pictures are that were given as answers.

Letters: q questions, c h w image.
"""

import torch
import torch.nn.functional as F
from einops import reduce
from torch import Tensor

from lvm.exam import Exam
from lvm.kind import KindClassifier
from vqtok.metrics.images import decibels, filled_boxes, iou
from vqtok.metrics.lpips import LPIPS, distances

CELL = 4  # pixels: content is compared by the means of such squares, which forgive a line that is a pixel off
HALF = 0.5  # nearer to white than to black


def scores(sat: Exam, found: Tensor, judge: KindClassifier, lpips: LPIPS | None = None) -> dict[str, float]:
    """Marks of pictures (q, 3, h, w) given as answers.

    `kind`: share of which the judge names a task that fits the question. `content`: share nearer to their own
    target than to any other question's, by the mean squared error of the means of 4x4 squares. `mse`: mean
    squared error of all pixels, colors in [0, 1]. `psnr`: the same in dB. `lpips`: mean, where its network is
    given. Of masks only, `overlaps`.
    """
    targets = sat.pairs[sat.asked, 1]
    error = (found - targets).square().mean()
    marks = {"kind": kind_right(sat, found, judge), "content": content(found, targets),
             "mse": float(error), "psnr": float(decibels(error))}
    if lpips is not None:
        marks["lpips"] = float(distances(lpips, found, targets).mean())
    return marks | (overlaps(masks_of(found), masks_of(targets)) if sat.task.kind == "mask" else {})


def overlaps(masks: Tensor, right: Tensor) -> dict[str, float]:
    """Intersections over unions of masks (q, h, w) bool with the right ones; 1 where both are empty.

    `iou`: mean over pictures. `iou_foreground`, `iou_background`: of each class, its pixels in common over
    those of either, counted over the whole set; `iou_class`: the mean of these two. `iou_box`: mean over
    pictures, of the smallest upright boxes around the masks; a mask without a pixel has no box, which only
    another without one overlaps.
    """
    fore, back = (float(iou(one[None], other[None])) for one, other in ((masks, right), (~masks, ~right)))
    boxes = iou(filled_boxes(masks), filled_boxes(right))
    return {"iou": float(iou(masks, right).mean()), "iou_foreground": fore, "iou_background": back,
            "iou_class": (fore + back) / 2, "iou_box": float(boxes.mean())}


def masks_of(pictures: Tensor) -> Tensor:
    """Masks (b, h, w) bool of pictures (b, 3, h, w) in [0, 1]: true where white is nearer than black."""
    return reduce(pictures, "b c h w -> b h w", "mean") > HALF


def kind_right(sat: Exam, found: Tensor, judge: KindClassifier) -> float:
    """Share of pictures (q, 3, h, w) given as answers of which the judge names a fitting task."""
    named = judge.names(sat.pairs[sat.asked, 0], found)
    return sum(name in fit for name, fit in zip(named, sat.fit, strict=True)) / len(named)


def content(found: Tensor, targets: Tensor) -> float:
    """Share of pictures (q, 3, h, w) nearest to their own target among all; ties count as right."""
    coarse = [F.avg_pool2d(images, CELL).flatten(1) for images in (found, targets)]
    far = torch.cdist(*coarse, compute_mode="donot_use_mm_for_euclid_dist")
    return int((far.diagonal() <= far.amin(1)).sum()) / len(found)
