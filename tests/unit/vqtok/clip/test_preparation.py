"""Images of any size, as a network sees them."""

import pytest
import torch

from vqtok.clip.preparation import fitted


def test_own_size_is_untouched():
    """Images of the network's size pass as they are."""
    images = torch.rand(2, 3, 16, 16)
    assert torch.equal(fitted(images, 16), images)


@pytest.mark.parametrize("shape", [(16, 40), (40, 16)])
def test_the_middle_is_kept(shape):
    """Of what is not square the ends of the long side are cut, so that proportions stay."""
    images = torch.zeros(1, 3, *shape)
    images[..., (shape[0] - 16) // 2 : (shape[0] + 16) // 2, (shape[1] - 16) // 2 : (shape[1] + 16) // 2] = 1
    torch.testing.assert_close(fitted(images, 8), torch.ones(1, 3, 8, 8))


def test_range_stays():
    """Scaling leaves [0, 1] nowhere, not even beside sharp edges."""
    images = torch.zeros(1, 3, 64, 64)
    images[..., 20:40, 20:40] = 1
    low, high = fitted(images, 31).aminmax()
    assert low >= 0 and high <= 1


@pytest.mark.parametrize("wrong", [torch.rand(3, 8, 8), torch.rand(2, 1, 8, 8), torch.zeros(0, 3, 8, 8),
                                   torch.zeros(1, 3, 8, 8, dtype=torch.uint8)])  # fmt: skip
def test_no_images(wrong):
    """What is no batch of color images is refused with its shape and type."""
    with pytest.raises(ValueError, match="give float"):
        fitted(wrong, 8)
