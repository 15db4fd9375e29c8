"""Pictures in [0, 1], as users have them, and in [-1, 1], as the process has them: the one conversion.

Letters: b batch, c h w picture.
"""

import math

from torch import Tensor

TOLERANCE = 1e-3  # how far pixels may leave [0, 1]: resizing in bfloat16 does
LEVELS = 256  # of a channel of a picture of 8 bits


def signed(images: Tensor) -> Tensor:
    """(b, c, h, w) within [-1, 1], in float32 or better, of images within [0, 1].

    Raises:
        ValueError: if the images have another shape or range, or pixels that are not a number.
    """
    if images.ndim != 4 or not images.is_floating_point() or not images.numel():
        raise ValueError(
            f"images must be (b, c, h, w) floats in [0, 1], got {tuple(images.shape)} {images.dtype}: "
            "read them with vqtok.data.read_picture"
        )
    low, high = float(images.amin()), float(images.amax())
    if math.isnan(low):  # amin is NaN if any pixel is
        raise ValueError("images hold pixels that are not a number: mend what made them")
    if low < -TOLERANCE or high > 1 + TOLERANCE:
        raise ValueError(
            f"pixels reach from {low:.3g} to {high:.3g}, not within [0, 1]: divide by 255, or clamp them"
        )
    return (images if images.element_size() > 2 else images.float()) * 2 - 1


def unsigned(x: Tensor) -> Tensor:
    """Images (b, c, h, w) float32 in [0, 1] of what a sampler gives; what lies beyond is cut."""
    return ((x.float() + 1) / 2).clamp(0, 1)


def levels(x: Tensor) -> Tensor:
    """The nearest of 256 levels, (b, c, h, w) int64 in [0, 256), of pixels within [-1, 1]."""
    return ((x + 1) * ((LEVELS - 1) / 2)).round().long().clamp(0, LEVELS - 1)


def check_levels(x: Tensor) -> None:
    """Raise a ValueError unless all pixels, within [-1, 1], are on one of 256 levels."""
    off = float((x - (levels(x) * (2 / (LEVELS - 1)) - 1)).abs().amax()) * (LEVELS - 1) / 2
    if off > 0.01:
        raise ValueError(
            f"pixels are up to {off:.2f} of a step away from 256 levels, and only those have a probability: "
            "round them, (images * 255).round() / 255, or measure with the decoder for continuous data"
        )
