"""Noise of a generator, or of a seed for each picture."""

import pytest
import torch

from diffusion.noise import Noise


def test_a_generator_is_torchs():
    """The next draw of the generator, in the shape and type asked for."""
    found = Noise((2, 3, 4, 5), torch.Generator().manual_seed(3), dtype=torch.float64).draw()
    twin = torch.Generator().manual_seed(3)
    assert torch.equal(found, torch.randn(2, 3, 4, 5, generator=twin, dtype=torch.float64))


def test_a_seed_is_a_picture():
    """Whatever stands beside it, draw after draw."""
    three, one = Noise((3, 1, 2, 2), [7, 8, 9]), Noise((1, 1, 2, 2), [8])
    for _ in range(3):
        assert torch.equal(three.draw()[1:2], one.draw())


@pytest.mark.parametrize(
    ("shape", "source", "message"),
    [
        ((2, 1, 2, 2), [1], "1 seeds for 2 pictures: give one for each"),
        ((2, 2, 2), [1, 2], r"is not \(b, c, h, w\)"),
        ((0, 1, 2, 2), [], "of at least 1 each"),
    ],
)
def test_noise_that_cannot_be(shape, source, message):
    """Too few seeds, or no shape of a picture."""
    with pytest.raises(ValueError, match=message):
        Noise(shape, source)
