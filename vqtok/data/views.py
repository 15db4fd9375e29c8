"""Views: what can be done to one image. Pure functions of it and, if random, of a numpy generator.

Tokenizers train on them so that whatever a task asks for can be drawn; tasks are made of them.

Letters: c h w image.
"""

import math

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

HOLE_GRAY = 0.5
NOISE = 0.2  # standard deviation of the noise, in units of white
BLUR = 2.5  # standard deviation of the blur, in pixels of a 64-pixel image


def rotate(image: Tensor, quarters: int = 1) -> Tensor:
    """Turn (..., h, w) counter-clockwise by quarters of a full turn."""
    return torch.rot90(image, quarters, (-2, -1))


def mirror(image: Tensor) -> Tensor:
    """Swap left and right."""
    return image.flip(-1)


def upend(image: Tensor) -> Tensor:
    """Swap top and bottom."""
    return image.flip(-2)


def invert(image: Tensor) -> Tensor:
    """Negative: white becomes black."""
    return 1 - image


def gray(image: Tensor) -> Tensor:
    """Luma (ITU-R BT.601) in all three channels."""
    weights = torch.tensor([0.299, 0.587, 0.114], dtype=image.dtype).view(3, 1, 1)
    return (image * weights).sum(-3, keepdim=True).expand_as(image).contiguous()


def noisy(image: Tensor, rng: np.random.Generator, deviation: float = NOISE) -> Tensor:
    """Add Gaussian noise, its deviation in units of white, and clip."""
    noise = rng.standard_normal(tuple(image.shape), dtype=np.float32)
    return (image + deviation * torch.from_numpy(noise)).clamp(0, 1)


def holed(image: Tensor, rng: np.random.Generator) -> tuple[Tensor, Tensor]:
    """Cover a gray square, near enough to the middle to hide something; also gives where, white on black.

    The square's side is 3/8 of the image's.
    """
    height, width = image.shape[-2:]
    side = round(min(height, width) * 3 / 8)
    top, left = (int(rng.integers(size // 8, size - size // 8 - side + 1)) for size in (height, width))
    square = (..., slice(top, top + side), slice(left, left + side))
    covered, where = image.clone(), torch.zeros_like(image)
    covered[square], where[square] = HOLE_GRAY, 1.0
    return covered, where


def blurred(image: Tensor, deviation: float = BLUR) -> Tensor:
    """Gaussian blur, its deviation in pixels of a 64-pixel image; edges are repeated."""
    sigma = deviation * image.shape[-1] / 64
    reach = math.ceil(3 * sigma)
    offsets = torch.arange(-reach, reach + 1, dtype=torch.float32)
    kernel = torch.exp(-0.5 * (offsets / sigma) ** 2)
    kernel = (kernel / kernel.sum()).view(1, 1, 1, -1)
    planes = F.pad(image.float().unsqueeze(1), (reach, reach, reach, reach), mode="replicate")
    return F.conv2d(F.conv2d(planes, kernel), kernel.transpose(2, 3)).squeeze(1)


def edges(image: Tensor) -> Tensor:
    """Strength of Sobel's gradient of the luma, black on white: a drawing of the outlines."""
    luma = F.pad(gray(image)[:1].unsqueeze(0), (1, 1, 1, 1), mode="replicate")
    across = torch.tensor([[-1.0, 0, 1], [-2, 0, 2], [-1, 0, 1]]).view(1, 1, 3, 3)
    horizontal, vertical = F.conv2d(luma, across), F.conv2d(luma, across.transpose(2, 3))
    strength = (horizontal.square() + vertical.square()).sqrt()[0] * 0.75
    return (1 - strength.clamp(0, 1)).expand_as(image).contiguous()


def window(image: Tensor, size: int, rng: np.random.Generator) -> Tensor:
    """(3, size, size): a random square of an image (3, h, w), scaled down, and mirrored by a coin.

    The square's side is anything from `size` to the shorter side of the image, which must not be less.
    """
    side = int(rng.integers(size, min(image.shape[-2:]) + 1))
    top, left = (int(rng.integers(0, length - side + 1)) for length in image.shape[-2:])
    part = image[..., top : top + side, left : left + side]
    if side > size:
        part = F.interpolate(part[None], (size, size), mode="bilinear", antialias=True)[0]
    return mirror(part) if rng.random() < 0.5 else part


def patchwork(one: Tensor, other: Tensor, rng: np.random.Generator) -> Tensor:
    """(3, h, w) one image beside or above the other, cut along a random line.

    Whoever has seen a thousand drawings knows them by heart, but not all halves of any two of them (CutMix,
    Yun et al. 2019).
    """
    mixed, axis = one.clone(), int(rng.integers(1, 3))
    cut = int(rng.integers(one.shape[axis] // 4, one.shape[axis] * 3 // 4 + 1))
    mixed.narrow(axis, cut, one.shape[axis] - cut).copy_(other.narrow(axis, cut, one.shape[axis] - cut))
    return mixed


def any_view(image: Tensor, rng: np.random.Generator) -> Tensor:
    """Mostly the image as it is, otherwise one of its views, with the shares that a tokenizer trains on."""
    choice = rng.random()
    views = (
        (0.5, lambda: image),
        (0.06, lambda: invert(image)),
        (0.1, lambda: rotate(image, int(rng.integers(1, 4)))),
        (0.26, lambda: mirror(image)),
        (0.02, lambda: gray(image)),
        (0.02, lambda: noisy(image, rng)),
        (0.02, lambda: holed(image, rng)[0]),
        (0.01, lambda: blurred(image)),
        (0.01, lambda: edges(image)),
    )
    for share, view in views:
        choice -= share
        if choice < 0:
            return view()
    return image
