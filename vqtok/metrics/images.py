"""How alike two sets of images are: PSNR, SSIM, intersection over union of masks or their boxes.

Pure functions of tensors.

Letters: b images, c channels, h w pixels. Images are float in [0, 1]; a mask is bool of any shape (b, ...).
"""

import torch
from einops import reduce
from torch import Tensor

WINDOW = 11  # pixels a side of SSIM's


def psnr(images: Tensor, references: Tensor) -> Tensor:
    """Peak signal-to-noise ratio of every image, (b,) in dB; infinite where an image equals its reference.

    Args:
        images: (b, c, h, w) in [0, 1].
        references: (b, c, h, w) in [0, 1].

    Raises:
        ValueError: if the shapes disagree.
    """
    return decibels(_squared_errors(images, references))


def psnr_of_set(images: Tensor, references: Tensor) -> Tensor:
    """PSNR of the mean squared error over the whole set, () in dB.

    Never above the mean of `psnr` (Jensen), which papers on tokenizers report, and finite even when some
    images are reproduced exactly. For a set in batches, average the squared errors and call `decibels`.

    Args:
        images: (b, c, h, w) in [0, 1].
        references: (b, c, h, w) in [0, 1].

    Raises:
        ValueError: if the shapes disagree.
    """
    return decibels(_squared_errors(images, references).mean())


def decibels(squared_error: Tensor) -> Tensor:
    """PSNR in dB of mean squared errors of any shape, for values in [0, 1]: -10 log10(error)."""
    return -10 * torch.log10(squared_error)


def ssim(images: Tensor, references: Tensor) -> Tensor:
    """Structural similarity of every image, (b,), at most 1.

    The window is 11x11, Gaussian with a deviation of 1.5 pixels. The border is reflected and counted, as in
    torchmetrics; scikit-image leaves five pixels on each side out and so gives slightly other numbers.

    Args:
        images: (b, c, h, w) in [0, 1], at least 11x11.
        references: (b, c, h, w) in [0, 1].

    Raises:
        ValueError: if the shapes disagree, or the images are smaller than the window.

    Source: Wang et al. 2004, "Image quality assessment: from error visibility to structural similarity".
    """
    # Importing torchmetrics takes seconds, and training needs the rest of this file without them.
    from torchmetrics.functional.image import structural_similarity_index_measure

    _require_same_shape(images, references)
    if min(images.shape[-2:]) < WINDOW:
        height, width = images.shape[-2:]
        raise ValueError(
            f"{height}x{width} pixels do not hold SSIM's window of {WINDOW}x{WINDOW}: resize the images"
        )
    scores = structural_similarity_index_measure(
        images.float(), references.float(), data_range=1.0, reduction="none"
    )
    return scores.reshape(len(images))  # torchmetrics returns () for a batch of one


def iou(masks: Tensor, references: Tensor) -> Tensor:
    """Intersection over union of every mask, (b,) in [0, 1]; two empty masks agree: 1.

    Args:
        masks: (b, ...) bool.
        references: (b, ...) bool.

    Raises:
        ValueError: if the shapes disagree or a mask is not bool.
    """
    _require_same_shape(masks, references)
    for mask in (masks, references):
        if mask.dtype != torch.bool:
            raise ValueError(f"a mask is {mask.dtype}, not bool: compare with a threshold, as in mask > 0.5")
    common = (masks & references).flatten(1).sum(dim=1)
    either = (masks | references).flatten(1).sum(dim=1)
    return torch.where(either == 0, 1.0, common / either.clamp(min=1))


def filled_boxes(masks: Tensor) -> Tensor:
    """(b, h, w) bool: the smallest upright box around all that is true in each mask, filled.

    An empty mask has an empty box, so that by `iou` it agrees with an empty one and with no other.

    Args:
        masks: (b, h, w) bool.
    """
    rows, columns = _between(masks.any(2)), _between(masks.any(1))
    return rows[:, :, None] & columns[:, None, :]


def _between(seen: Tensor) -> Tensor:
    """(b, n) bool: all places from the first to the last true one of (b, n)."""
    count = seen.long()
    return (count.cumsum(1) > 0) & (count.flip(1).cumsum(1).flip(1) > 0)


def _squared_errors(images: Tensor, references: Tensor) -> Tensor:
    """Mean squared error of every image, (b,), in float32 whatever the inputs are."""
    _require_same_shape(images, references)
    return reduce((images.float() - references.float()).square(), "b c h w -> b", "mean")


def _require_same_shape(first: Tensor, second: Tensor) -> None:
    """Refuse to broadcast: a missing dimension would be a silent wrong number."""
    if first.shape != second.shape:
        raise ValueError(
            f"shapes {tuple(first.shape)} and {tuple(second.shape)} differ: compare tensors of one shape"
        )
