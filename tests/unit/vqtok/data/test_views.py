"""Views stay in [0, 1], keep the shape, and do what their names say."""

from collections.abc import Callable
from functools import partial

import numpy as np
import pytest
import torch
from torch import Tensor

from vqtok.data import views

SIZES = ((64, 64), (48, 64), (16, 16))
CERTAIN = (views.rotate, views.mirror, views.upend, views.invert, views.gray, views.blurred, views.edges)
RANDOM = (views.noisy, lambda image, rng: views.holed(image, rng)[0], views.any_view)


def random_image(height: int = 64, width: int = 64, seed: int = 0) -> Tensor:
    """(3, h, w) uniform in [0, 1]."""
    return torch.rand(3, height, width, generator=torch.Generator().manual_seed(seed))


def rng(seed: int = 0) -> np.random.Generator:
    """A generator."""
    return np.random.default_rng(seed)


@pytest.mark.parametrize("size", SIZES)
def test_ranges(size: tuple[int, int]):
    """Every view of an image is one: three channels, float32, in [0, 1]; the image itself is not touched."""
    for image in (random_image(*size), torch.zeros(3, *size), torch.ones(3, *size)):
        before = image.clone()
        for view in (*CERTAIN, *(lambda x, view=view: view(x, rng()) for view in RANDOM)):
            seen = view(image)
            assert seen.dtype == torch.float32 and len(seen) == 3 and {*seen.shape[1:]} == {*size}
            assert seen.min() >= 0 and seen.max() <= 1 + 1e-6  # sums of a kernel's weights round
        assert torch.equal(image, before)


@pytest.mark.parametrize(
    ("view", "times"), [(views.rotate, 4), (views.mirror, 2), (views.upend, 2), (views.invert, 2)]
)
def test_done_often_enough_it_is_undone(view: Callable[[Tensor], Tensor], times: int):
    """Four quarter turns, two mirrors and two negatives are nothing."""
    image = seen = random_image()
    for turn in range(times):
        assert turn == 0 or not torch.equal(seen, image)
        seen = view(seen)
    torch.testing.assert_close(seen, image, atol=1e-7, rtol=0)  # 1 - (1 - x) rounds


def test_directions():
    """Rotating is counter-clockwise; mirroring swaps left and right, upending top and bottom."""
    image = torch.zeros(3, 4, 4)
    image[:, 0, 3] = 1  # top right
    assert views.rotate(image)[0, 0, 0] == views.mirror(image)[0, 0, 0] == views.upend(image)[0, 3, 3] == 1


def test_gray():
    """All channels are the luma, and gray stays as it is."""
    seen = views.gray(random_image())
    assert torch.equal(seen[0], seen[1]) and torch.equal(seen[0], seen[2])
    torch.testing.assert_close(views.gray(seen), seen)
    pure = torch.tensor([0.0, 1.0, 0.0]).view(3, 1, 1).expand(3, 2, 2)
    torch.testing.assert_close(views.gray(pure), torch.full((3, 2, 2), 0.587))


def test_noise():
    """Deviation 0.2 about the image, the same for the same generator."""
    image = torch.full((3, 64, 64), 0.5)
    seen = views.noisy(image, rng(1))
    assert float((seen - image).std()) == pytest.approx(views.NOISE, rel=0.05)  # 12,288 samples, few clipped
    assert torch.equal(seen, views.noisy(image, rng(1)))
    assert not torch.equal(seen, views.noisy(image, rng(2)))


@pytest.mark.parametrize("size", SIZES)
def test_holes(size: tuple[int, int]):
    """One gray square of 3/8 of the shorter side, an eighth from the edges at least; the rest untouched."""
    image, side = random_image(*size), min(size) * 3 // 8
    for seed in range(20):
        covered, where = views.holed(image, rng(seed))
        inside = where.bool()
        assert torch.equal(covered[~inside], image[~inside])
        assert (covered[inside] == views.HOLE_GRAY).all() and {*where.unique().tolist()} == {0.0, 1.0}
        for extent, length in zip(inside[0].nonzero().unbind(1), size, strict=True):
            low, high = int(extent.min()), int(extent.max())
            assert high - low + 1 == side and low >= length // 8 and high < length - length // 8
        assert int(inside[0].sum()) == side**2


def test_blur():
    """A constant stays, detail goes, the mean stays."""
    torch.testing.assert_close(views.blurred(torch.full((3, 64, 64), 0.3)), torch.full((3, 64, 64), 0.3))
    image = random_image()
    seen = views.blurred(image)
    assert seen.std() < image.std() / 5
    assert float(seen.mean()) == pytest.approx(float(image.mean()), abs=0.01)  # edges count more than once


def test_edges():
    """White where nothing changes, dark along a border."""
    image = torch.zeros(3, 16, 16)
    image[:, :, 8:] = 1
    seen = views.edges(image)
    assert (seen[:, :, 7:9] < 0.5).all()
    assert (seen[:, :, :6] == 1).all() and (seen[:, :, 10:] == 1).all()


def test_hues():
    """A third of a turn exchanges the channels, a whole one changes nothing; gray stays gray."""
    image = random_image()
    torch.testing.assert_close(views.hue_turned(image, 2 * np.pi / 3), image[[2, 0, 1]], atol=1e-5, rtol=0)
    torch.testing.assert_close(views.hue_turned(image, 2 * np.pi), image, atol=1e-5, rtol=0)
    gray = views.gray(image)
    torch.testing.assert_close(views.hue_turned(gray, 1.0), gray, atol=1e-6, rtol=0)


def test_tints():
    """Black is the dark ink, white the light one, between them luma decides."""
    dark, light = np.array([0.1, 0.2, 0.3]), np.array([0.9, 0.8, 0.7])
    for gray, ink in ((0.0, dark), (1.0, light), (0.5, (dark + light) / 2)):
        seen = views.tinted(torch.full((3, 4, 6), gray), dark, light)
        torch.testing.assert_close(seen.mean((1, 2)), torch.tensor(ink, dtype=torch.float32))


@pytest.mark.parametrize("size", SIZES)
def test_shifts(size: tuple[int, int]):
    """What leaves comes in on the other side, and back again nothing has changed."""
    image = random_image(*size)
    seen = views.shifted(image, 3, 5)
    assert torch.equal(seen[:, 3, 5], image[:, 0, 0]) and torch.equal(seen[:, 0, 0], image[:, -3, -5])
    assert torch.equal(views.shifted(seen, -3, -5), image)


def test_turns():
    """90 degrees are a quarter turn, and -90 the other way; corners that come in are white."""
    image = random_image()
    torch.testing.assert_close(views.turned(image, 90), views.rotate(image), atol=1e-4, rtol=0)  # of the grid
    torch.testing.assert_close(views.turned(image, -90), views.rotate(image, 3), atol=1e-4, rtol=0)
    seen = views.turned(torch.zeros(3, 64, 64), 45)
    assert seen[0, 0, 0] == 1 and seen[:, 24:40, 24:40].max() < 1e-6


def test_turns_keep_shapes():
    """A disk in a picture that is wider than high is a disk when turned."""
    down, right = torch.meshgrid(torch.arange(48.0) - 23.5, torch.arange(64.0) - 31.5, indexing="ij")
    disk = ((down.square() + right.square()).sqrt() > 15).float().expand(3, -1, -1)
    for degrees in (30, 90, 200):
        seen = views.turned(disk, degrees)
        near = (down.abs() < 20) & (right.abs() < 20)  # corners are white like the outside
        assert float((seen - disk)[:, near].abs().mean()) < 0.03  # its rim


@pytest.mark.parametrize("size", SIZES)
def test_zooms(size: tuple[int, int]):
    """A quarter fills the picture; the whole is itself; a window at the far edge is as large as any."""
    image = random_image(*size)
    assert torch.equal(views.zoomed(image, 0.0, 0.0, 1.0), image)
    height, width = size
    quarter = image[:, height // 2 :, : width // 2]
    seen = views.zoomed(image, 0.5, 0.0, 0.5)
    assert seen.shape == image.shape
    torch.testing.assert_close(seen[:, -1, 0], quarter[:, -1, 0])
    ramp = torch.linspace(0, 1, width).expand(3, height, -1)
    for left in np.linspace(0, 0.37, 20):
        rise = views.zoomed(ramp, 0.1, float(left), 0.63)[0, 0]
        assert float(rise[-1] - rise[0]) == pytest.approx((round(0.63 * width) - 1) / (width - 1), abs=1e-5)


def test_patchwork():
    """Left of a line or above it one image, the other beyond; every pixel of one of them, in its place."""
    one, other = torch.zeros(3, 16, 16), torch.ones(3, 16, 16)
    seen = [views.patchwork(one, other, rng(seed)) for seed in range(50)]
    assert not one.any()
    assert all((mixed.diff(dim=axis) >= 0).all() for mixed in seen for axis in (1, 2))
    shares = torch.stack([mixed.mean() for mixed in seen])
    assert shares.min() >= 0.25 and shares.max() <= 0.75 and len(set(shares.tolist())) > 4


def test_any_view():
    """A pure function of the generator; mostly the image itself, and every view sometimes."""
    image = random_image(16, 16)
    seen = [views.any_view(image, rng(seed)) for seed in range(1000)]
    assert torch.equal(seen[5], views.any_view(image, rng(5)))
    assert 400 < sum(torch.equal(view, image) for view in seen) < 600
    turns = [partial(views.rotate, quarters=quarters) for quarters in (1, 2, 3)]
    for view in (*turns, views.mirror, views.invert, views.gray, views.blurred, views.edges):
        assert any(torch.equal(view(image), one) for one in seen)


def test_windows():
    """Of many windows some are cut at each place and size, and half are mirrored; all lie in the image."""
    image = torch.arange(12.0).expand(3, 12, 12) / 12  # each column has a value of its own
    seen = [views.window(image, 8, rng(seed)) for seed in range(200)]
    assert {tuple(one.shape) for one in seen} == {(3, 8, 8)}
    assert min(one.min() for one in seen) >= 0 and max(one.max() for one in seen) <= 11 / 12 + 1e-6
    unscaled = [one[0, 0] for one in seen if (one[0, 0].diff().abs() * 12 - 1).abs().max() < 1e-4]
    assert {round(float(row.min() * 12)) for row in unscaled} == {0, 1, 2, 3, 4}
    falling = sum(bool(one[0, 0, 0] > one[0, 0, -1]) for one in seen)
    assert 70 < falling < 130


def test_a_window_of_the_whole():
    """An image that is no larger is shown whole."""
    image = random_image(8, 8)
    shown = views.window(image, 8, rng())
    assert torch.equal(shown, image) or torch.equal(shown, views.mirror(image))
