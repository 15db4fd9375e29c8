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
# Hue turns about the gray axis keep lightness: this matrix is the rotation generator in RGB.
GRAY_AXIS = np.array([[0, -1, 1], [1, 0, -1], [-1, 1, 0]]) / np.sqrt(3)
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


def hue_matrix(radians: float) -> np.ndarray:
    """(3, 3) float32 turn of RGB about the gray axis (Rodrigues' formula): hues turn, lightness stays."""
    turn = np.eye(3) + np.sin(radians) * GRAY_AXIS + (1 - np.cos(radians)) * GRAY_AXIS @ GRAY_AXIS
    return turn.astype(np.float32)


def hue_turned(image: Tensor, radians: float) -> Tensor:
    """Turn all hues; what leaves [0, 1] is clipped."""
    return torch.einsum("dc,chw->dhw", torch.from_numpy(hue_matrix(radians)), image).clamp(0, 1)


def tinted(image: Tensor, dark: np.ndarray, light: np.ndarray) -> Tensor:
    """Luma as a color between two, (3,) each in [0, 1]: a print in two inks."""
    luma, inks = gray(image), torch.from_numpy(np.stack([dark, light])).to(image.dtype)
    return torch.lerp(*inks[:, :, None, None].expand(-1, *image.shape), luma)


def shifted(image: Tensor, down: int, right: int) -> Tensor:
    """Move by pixels; what leaves on one side comes in on the other."""
    return image.roll((down, right), (-2, -1))


def turned(image: Tensor, degrees: float) -> Tensor:
    """Turn counter-clockwise about the middle; corners that come in are white."""
    angle = math.radians(degrees)
    cosine, sine, wide = math.cos(angle), math.sin(angle), image.shape[-1] / image.shape[-2]
    turn = torch.tensor([[cosine, -sine / wide, 0.0], [sine * wide, cosine, 0.0]])  # of a grid from -1 to 1
    grid = F.affine_grid(turn[None], [1, *image.shape], align_corners=False)
    return 1 - F.grid_sample(1 - image[None], grid, align_corners=False)[0].clamp(0, 1)


def zoomed(image: Tensor, top: float, left: float, side: float) -> Tensor:
    """Enlarge the square whose upper left corner and side are given as shares of the image's."""
    height, width = image.shape[-2:]
    rows, columns = round(height * side), round(width * side)
    first, start = min(round(height * top), height - rows), min(round(width * left), width - columns)
    part = image[..., first : first + rows, start : start + columns]
    return F.interpolate(part[None], (height, width), mode="bilinear", align_corners=False)[0].clamp(0, 1)


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
