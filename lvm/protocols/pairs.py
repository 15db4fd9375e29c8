"""What is shown and what is asked for: a picture and its annotation become a pair of pictures, and back.

Bar et al. 2022, "Visual Prompting via Image Inpainting": foreground is white on black, a box is a filled
rectangle, the input of colorization is gray. docs/guides/protocols.md says what they leave open.

Letters: b pictures, h w size, s side of a square one, in pixels.
"""

import torch
import torch.nn.functional as F
from einops import reduce, repeat
from torch import Tensor

from lvm.protocols.voc import Box

LUMA = (0.299, 0.587, 0.114)  # of red, green and blue: ITU-R BT.601
HALF = 0.5  # nearer to white than to black


def foreground(picture: Tensor, labels: Tensor, number: int) -> tuple[Tensor, Tensor]:
    """Segmentation: a picture, and one class in it white on black.

    Args:
        picture: (3, s, s) in [0, 1], stretched to a square.
        labels: (h, w) uint8, classes of the pixels before it was stretched.
        number: The class; everything else is black, the border of objects too.

    Returns:
        Pictures (3, s, s) in [0, 1].
    """
    return picture, white_on_black(stretched(labels == number, picture.shape[-1]))


def boxed(picture: Tensor, box: Box, width: int, height: int) -> tuple[Tensor, Tensor]:
    """Detection: a picture, and the box of its object, filled, white on black.

    Args:
        picture: (3, s, s) in [0, 1], stretched to a square.
        box: Left, top, right and bottom edge, in pixels before it was stretched.
        width: Pixels before it was stretched.
        height: The same.

    Returns:
        Pictures (3, s, s) in [0, 1]. Edges lie between pixels; a box has at least one.
    """
    side = picture.shape[-1]
    scaled = [edge * side / size for edge, size in zip(box, (width, height) * 2, strict=True)]
    left, top = (min(round(edge), side - 1) for edge in scaled[:2])
    right, bottom = (max(round(edge), first + 1) for edge, first in zip(scaled[2:], (left, top), strict=True))
    mask = torch.zeros(side, side, dtype=torch.bool)
    mask[top:bottom, left:right] = True
    return picture, white_on_black(mask)


def grayed(picture: Tensor) -> tuple[Tensor, Tensor]:
    """Colorization: the gray of a picture (3, s, s) in [0, 1], on three channels, and the picture."""
    gray = torch.einsum("chw,c->hw", picture, torch.tensor(LUMA))
    return repeat(gray, "h w -> c h w", c=3), picture


def stretched(mask: Tensor, side: int) -> Tensor:
    """(s, s) bool of a mask (h, w) bool: where a triangular filter finds most of a pixel covered."""
    smooth = F.interpolate(mask[None, None].float(), (side, side), mode="bilinear", antialias=True)
    return smooth[0, 0] > HALF


def white_on_black(mask: Tensor) -> Tensor:
    """(3, h, w) float32 of a mask (h, w)."""
    return repeat(mask.float(), "h w -> c h w", c=3)


def masks_of(pictures: Tensor) -> Tensor:
    """Masks (b, h, w) bool of pictures (b, 3, h, w) in [0, 1]: true where white is nearer than black."""
    return reduce(pictures, "b c h w -> b h w", "mean") > HALF


def boxes_of(pictures: Tensor) -> Tensor:
    """Filled boxes (b, h, w) bool of pictures (b, 3, h, w) in [0, 1]: around each one's largest white region.

    Pixels belong together that touch, be it at a corner. A picture without white has no box, and is false
    everywhere.
    """
    regions = largest_regions(masks_of(pictures))
    rows, columns = _between(regions.any(2)), _between(regions.any(1))
    return rows[:, :, None] & columns[:, None, :]


def largest_regions(masks: Tensor) -> Tensor:
    """The largest connected region of each mask (b, h, w) bool, as a mask; of equal ones the first to end."""
    batch, height, width = masks.shape
    numbers = torch.arange(1, height * width + 1, device=masks.device).view(1, height, width) * masks
    while True:
        # Every pixel takes the largest number among its neighbors, then what the pixel of that number has.
        # So numbers travel ever faster; a thin winding region would else take a step for each of its pixels.
        near = F.max_pool2d(numbers[:, None].double(), 3, stride=1, padding=1)[:, 0].long() * masks
        table = torch.cat([near.new_zeros(batch, 1), near.flatten(1)], dim=1)
        far = table.gather(1, near.flatten(1)).view_as(near)
        if torch.equal(far, numbers):
            break
        numbers = far
    flat = numbers.flatten(1)
    sizes = flat.new_zeros(batch, height * width + 1).scatter_add_(1, flat, (flat > 0).long())
    return (numbers == sizes.argmax(1)[:, None, None]) & masks


def _between(seen: Tensor) -> Tensor:
    """(b, n) bool: all places from the first to the last true one of (b, n)."""
    count = seen.long()
    return (count.cumsum(1) > 0) & (count.flip(1).cumsum(1).flip(1) > 0)
