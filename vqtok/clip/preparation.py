"""What becomes of images before a network of one size sees them: cut square in the middle, and scaled.

So does CLIP with photographs (Radford et al. 2021, section 2.5 and their code).

Letters: b images, h w size.
"""

import torch.nn.functional as F
from torch import Tensor


def fitted(images: Tensor, size: int) -> Tensor:
    """Images (b, 3, h, w) in [0, 1] as (b, 3, size, size) float32: the short side scaled, the middle kept.

    Raises:
        ValueError: if they are of another shape or type.
    """
    if images.ndim != 4 or images.shape[1] != 3 or not images.is_floating_point() or not images.numel():
        raise ValueError(
            f"images are {images.dtype} of shape {tuple(images.shape)}: give float (b, 3, h, w) in [0, 1]"
        )
    images = images.float()
    if images.shape[-2:] != (size, size):
        side = min(images.shape[-2:])
        top, left = ((length - side) // 2 for length in images.shape[-2:])
        square = images[..., top : top + side, left : left + side]
        # Bicubic may leave the range beside sharp edges.
        images = F.interpolate(square, (size, size), mode="bicubic", antialias=True).clamp(0, 1)
    return images
