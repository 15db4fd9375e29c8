"""What is shown and what is asked for: a picture and its annotation become a pair of pictures, and back.

Bar et al. 2022, "Visual Prompting via Image Inpainting": foreground is white on black, a box is a filled
rectangle, the input of colorization is gray. docs/guides/protocols.md says what they leave open.

Letters: b pictures, h w size, s side of a square one, in pixels.
"""

import torch
import torch.nn.functional as F
from einops import repeat
from torch import Tensor

from lvm.marks import HALF, masks_of
from lvm.protocols.voc import Box
from vqtok.metrics.images import filled_boxes

LUMA = (0.299, 0.587, 0.114)  # of red, green and blue: ITU-R BT.601


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


def boxes_of(pictures: Tensor) -> Tensor:
    """Filled boxes (b, h, w) bool of pictures (b, 3, h, w) in [0, 1]: around each one's largest white region.

    Pixels belong together that touch, be it at a corner. A picture without white has no box, and is false
    everywhere.
    """
    return filled_boxes(largest_regions(masks_of(pictures)))


def largest_regions(masks: Tensor) -> Tensor:
    """The largest connected region of each mask (b, h, w) bool, as a mask; of equal ones the first to end."""
    batch, height, width = masks.shape
    places = torch.arange(1, height * width + 1, device=masks.device)
    parents = torch.cat([places.new_zeros(1), places]) * F.pad(masks.flatten(1), (1, 0)).long()  # 0: no pixel
    while True:
        # Trees of pixels, each pointing to one of its region with a number not below its own. A root is hung
        # under the largest number that any of its pixels sees beside itself, and all pointers are shortened:
        # numbers that merely spread from neighbor to neighbor need a step for each pixel of a winding region.
        above = parents.gather(1, parents)
        grid = above[:, 1:].view(batch, 1, height, width)
        seen = F.max_pool2d(grid.double(), 3, stride=1, padding=1).long().flatten(1) * masks.flatten(1)
        seen = torch.maximum(above, F.pad(seen, (1, 0)))
        moved = above.scatter_reduce(1, parents, seen, "amax")
        moved[:, 0] = 0
        moved = torch.maximum(moved, seen)
        if torch.equal(moved, parents):
            break
        parents = moved
    sizes = torch.zeros_like(parents).scatter_add_(1, parents, (parents > 0).long())
    return (parents[:, 1:] == sizes.argmax(1, keepdim=True)).view_as(masks) & masks
