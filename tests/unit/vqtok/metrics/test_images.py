"""Image metrics against their definitions."""

import math
import subprocess
import sys

import pytest
import torch
from torch import Tensor

from vqtok.metrics import iou, psnr, psnr_of_set, ssim
from vqtok.metrics.images import filled_boxes


def random_images(*shape: int, seed: int = 0) -> Tensor:
    """Uniform noise in [0, 1] of the given shape."""
    return torch.rand(*shape, generator=torch.Generator().manual_seed(seed))


def test_psnr_of_a_constant_error():
    """An error of 0.1 everywhere is 20 dB, one of 0.01 is 40 dB, image by image."""
    images = torch.full((2, 3, 4, 5), 0.5)
    errors = torch.tensor([0.1, 0.01]).reshape(2, 1, 1, 1)
    torch.testing.assert_close(psnr(images + errors, images), torch.tensor([20.0, 40.0]), atol=1e-3, rtol=0)


def test_psnr_of_a_set_is_that_of_its_mean_squared_error():
    """Mean squared errors of 0.01 and 0.0001 have a mean of 0.00505, which is 22.97 dB and not 30."""
    images = torch.full((2, 3, 4, 5), 0.5)
    errors = torch.tensor([0.1, 0.01]).reshape(2, 1, 1, 1)
    assert psnr_of_set(images + errors, images).item() == pytest.approx(-10 * math.log10(0.00505), abs=1e-3)


def test_psnr_of_an_exact_copy_is_infinite_but_a_set_with_another_image_is_not():
    """One exact copy does not hide the errors of the others."""
    images = random_images(2, 3, 4, 4)
    worse = torch.stack([images[0], images[1] / 2])
    assert psnr(worse, images)[0] == math.inf
    assert psnr_of_set(worse, images).isfinite()


def test_psnr_is_computed_in_float32():
    """bfloat16 inputs lose nothing more than their own rounding."""
    images, references = random_images(2, 3, 8, 8).bfloat16(), random_images(2, 3, 8, 8, seed=1).bfloat16()
    torch.testing.assert_close(psnr(images, references), psnr(images.float(), references.float()))


def by_hand(image: Tensor, reference: Tensor) -> float:
    """SSIM of one (c, h, w) pair, window by window from the paper's definition, in float64."""
    offsets = torch.arange(11, dtype=torch.float64) - 5
    line = torch.exp(-(offsets**2) / (2 * 1.5**2))
    window = torch.outer(line, line) / line.sum() ** 2
    scores = []
    framed = torch.nn.functional.pad(torch.stack([image, reference]).double(), (5, 5, 5, 5), mode="reflect")
    for x, y in zip(*framed, strict=True):
        for i in range(x.shape[0] - 10):
            for j in range(x.shape[1] - 10):
                p, q = x[i : i + 11, j : j + 11], y[i : i + 11, j : j + 11]
                mean_p, mean_q = (window * p).sum(), (window * q).sum()
                var_p, var_q = (window * (p - mean_p) ** 2).sum(), (window * (q - mean_q) ** 2).sum()
                both = (window * (p - mean_p) * (q - mean_q)).sum()
                luminance = (2 * mean_p * mean_q + 0.01**2) / (mean_p**2 + mean_q**2 + 0.01**2)
                scores.append(luminance * (2 * both + 0.03**2) / (var_p + var_q + 0.03**2))
    return torch.stack(scores).mean().item()


@pytest.mark.parametrize("size", [(11, 11), (13, 16)])
def test_ssim_equals_the_definition(size: tuple[int, int]):
    """Every image of a batch has the SSIM that the paper's sums give window by window, border reflected."""
    references = random_images(2, 3, *size)
    images = (references + 0.3 * random_images(2, 3, *size, seed=1)).clamp(0, 1)
    expected = [by_hand(image, reference) for image, reference in zip(images, references, strict=True)]
    # float32 sums of products against float64 sums of centred products
    torch.testing.assert_close(ssim(images, references), torch.tensor(expected), atol=1e-4, rtol=0)


def test_ssim_of_one_image_is_still_a_batch():
    """A batch of one gives (1,), and an image is exactly like itself."""
    images = random_images(1, 3, 12, 12)
    torch.testing.assert_close(ssim(images, images), torch.ones(1))


def test_iou_counts_pixels():
    """Two of four pixels in common are 0.5; disjoint masks 0; two empty masks 1."""
    masks = torch.tensor([[1, 1, 1, 0], [1, 0, 0, 0], [0, 0, 0, 0]], dtype=torch.bool)
    references = torch.tensor([[0, 1, 1, 1], [0, 1, 0, 0], [0, 0, 0, 0]], dtype=torch.bool)
    assert iou(masks.reshape(3, 1, 2, 2), references.reshape(3, 1, 2, 2)).tolist() == [0.5, 0.0, 1.0]


def test_a_box_is_around_all_that_is_true():
    """From the first to the last row and column with a true pixel, gaps filled; empty for an empty mask."""
    masks = torch.zeros(3, 6, 8, dtype=torch.bool)
    masks[0, 1, 2], masks[0, 4, 6], masks[2, 5, 7] = True, True, True
    expected = torch.zeros_like(masks)
    expected[0, 1:5, 2:7], expected[2, 5, 7] = True, True
    assert torch.equal(filled_boxes(masks), expected)
    none = filled_boxes(masks[1:2])
    assert iou(none, none).item() == 1 and iou(none, filled_boxes(masks[2:])).item() == 0


def test_mistakes_are_refused_with_the_way_out():
    """Shapes are never broadcast, small images and grey masks are named."""
    with pytest.raises(ValueError, match=r"\(1, 3, 4, 4\) and \(3, 4, 4\) differ"):
        psnr(torch.zeros(1, 3, 4, 4), torch.zeros(3, 4, 4))
    with pytest.raises(ValueError, match="8x12 pixels do not hold SSIM's window"):
        ssim(torch.zeros(1, 3, 8, 12), torch.zeros(1, 3, 8, 12))
    with pytest.raises(ValueError, match="is torch.float32, not bool"):
        iou(torch.zeros(1, 4), torch.zeros(1, 4))


def test_the_room_does_not_import_torchmetrics():
    """Training imports metrics without the seconds that torchmetrics takes."""
    code = "import sys, vqtok.metrics; sys.exit('torchmetrics' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code]).returncode == 0
