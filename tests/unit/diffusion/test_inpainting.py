"""RePaint: known pixels are kept, unknown ones fit, jumps are those of the paper."""

import math

import pytest
import torch

from diffusion.inpainting import inpaint, jumps
from diffusion.noise import Noise
from diffusion.pixels import signed
from diffusion.schedules import LinearConfig
from diffusion.spacing import spaced
from diffusion.variances import SmallVariance

LEFT = torch.tensor([True, False]).view(1, 1, 1, 2)
SHARED = 0.9  # correlation of the two pixels


def test_jumps_of_the_paper():
    """250 steps, 10 long, 10 visits: 24 stretches are walked 9 times more, 4570 moves, one of them to 0."""
    moves = jumps(spaced(250, 250))
    assert all(end == start for (_, end), (start, _) in zip(moves, moves[1:], strict=False))
    assert sum(s > t for t, s in moves) == 24 * 9 * 10 and len(moves) == 250 + 2 * 24 * 9 * 10
    assert [s for _, s in moves].count(0) == 1 and moves[-1] == (1, 0)


def test_jumps_follow_the_times():
    """Up through the times the sampler visits; one visit is no jump."""
    pairs = spaced(100, 4, "leading")
    assert jumps(pairs, 2, 1) == pairs
    assert jumps(pairs, 3, 2) == [(76, 51), (51, 26), (26, 1), (1, 26), (26, 51), (51, 76), *pairs]
    with pytest.raises(ValueError, match="length 0 and visits 10 must be at least 1"):
        jumps(pairs, 0)


class Pair:
    """The exact network for pictures of two pixels, normal with variance 0.04 and correlated."""

    def __init__(self, process) -> None:
        self.schedule = process.schedule
        self.covariance = 0.04 * torch.tensor([[1, SHARED], [SHARED, 1]], dtype=torch.float64)

    def __call__(self, x, t, labels):
        """The noise."""
        bar = self.schedule.alpha_bar[int(t[0])]
        noisy = bar * self.covariance + (1 - bar) * torch.eye(2, dtype=torch.float64)
        return (1 - bar).sqrt() * x @ torch.linalg.inv(noisy)


def test_what_is_drawn_fits_what_is_known(make):
    """The unknown pixel's mean given the other comes nearer to the truth, 0.18, the more it is resampled.

    It does not arrive, 0.10, 0.13 and 0.14 with 1, 3 and 8 visits: RePaint is no exact conditioning.
    """
    process = make(schedule=LinearConfig(steps=50), variance=SmallVariance())
    network, known = Pair(process), 0.2
    images = torch.full((1500, 1, 1, 2), (known + 1) / 2, dtype=torch.float64)
    errors = []
    for visits in (1, 3, 8):
        noise = Noise(images.shape, torch.Generator().manual_seed(0), dtype=torch.float64)
        pairs = spaced(50, 50)
        found = inpaint(process, network, images, LEFT, noise, pairs, jumps(pairs, 1, visits))
        errors.append(abs(float(signed(found)[..., 1].mean()) - SHARED * known))
    assert errors[2] < errors[1] < errors[0] and errors[2] < 0.6 * errors[0]
    assert float(signed(found)[..., 1].std()) == pytest.approx(0.2 * math.sqrt(1 - SHARED**2), rel=0.1)


def test_known_pixels_are_kept_to_the_last_bit(make):
    """And unknown ones do not depend on what was in their place; the same seeds give the same picture."""
    process = make(schedule=LinearConfig(steps=50))
    images = torch.rand(2, 3, 4, 4, generator=torch.Generator().manual_seed(0))
    known = torch.rand(2, 1, 4, 4, generator=torch.Generator().manual_seed(1)) < 0.5
    pairs = spaced(50, 10)

    def complete(images):
        moves = jumps(pairs, 2, 2)
        return inpaint(process, lambda x, t, y: x, images, known, Noise(images.shape, [1, 2]), pairs, moves)

    found = complete(images)
    where = known.expand_as(images)
    assert torch.equal(found[where], images[where]) and not torch.equal(found, images)
    assert found.dtype == torch.float32 and float(found.min()) >= 0 and float(found.max()) <= 1
    assert torch.equal(complete(images.where(where, 0.0)), found)


@pytest.mark.parametrize(
    ("images", "known", "noise", "message"),
    [
        (torch.zeros(2, 3, 4, 4), torch.zeros(2, 3, 4, 4), (2, 3, 4, 4), "known is torch.float32"),
        (torch.zeros(2, 3, 4, 4), torch.zeros(2, 3, 4, 5).bool(), (2, 3, 4, 4), "give bool of shape"),
        (torch.zeros(2, 3, 4, 4), torch.zeros(4, 4).bool(), (2, 3, 4, 4), "give bool of shape"),
        (torch.zeros(2, 3, 4, 4), torch.zeros(2, 1, 4, 4).bool(), (1, 3, 4, 4), "noise is of shape"),
        (torch.full((2, 3, 4, 4), 9.0), torch.zeros(2, 1, 4, 4).bool(), (2, 3, 4, 4), "not within"),
    ],
)
def test_what_does_not_go_together(make, images, known, noise, message):
    """Masks, noise and pictures are looked at before the network is asked."""
    with pytest.raises(ValueError, match=message):
        inpaint(make(), None, images, known, Noise(noise, torch.Generator()), spaced(1000, 10))
