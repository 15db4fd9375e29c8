"""Pictures in [0, 1] and in [-1, 1]."""

import pytest
import torch

from diffusion.pixels import signed, unsigned


def test_there_and_back():
    """0 is -1, 1 is 1, and the way back cuts what is beyond and is float32."""
    images = torch.tensor([0.0, 0.25, 1.0]).view(1, 1, 1, 3)
    assert signed(images).flatten().tolist() == [-1, -0.5, 1]
    assert torch.equal(unsigned(signed(images)), images)
    assert unsigned(torch.tensor([-3.0, 3.0], dtype=torch.float64)).tolist() == [0, 1]
    assert unsigned(images.double()).dtype == signed(images.bfloat16()).dtype == torch.float32


@pytest.mark.parametrize(
    ("images", "message"),
    [
        (torch.zeros(3, 4, 4), r"must be \(b, c, h, w\) floats in \[0, 1\], got \(3, 4, 4\)"),
        (torch.zeros(0, 3, 4, 4), "must be"),
        (torch.zeros(1, 3, 4, 4, dtype=torch.uint8), "uint8"),
        (torch.full((1, 3, 4, 4), -1.0), "from -1 to -1, not within"),
        (torch.full((1, 3, 4, 4), 255.0), "divide by 255"),
        (torch.tensor(float("nan")).expand(1, 3, 4, 4), "not a number"),
        (torch.tensor(float("inf")).expand(1, 3, 4, 4), "from inf to inf"),
    ],
)
def test_what_is_no_picture(images, message):
    """Shape, type, range and NaN, each with the way out."""
    with pytest.raises(ValueError, match=message):
        signed(images)
