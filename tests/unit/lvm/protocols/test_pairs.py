"""Pairs: what annotations become, and that answers are read back as what they show."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from lvm.protocols.pairs import boxed, boxes_of, foreground, grayed, largest_regions, masks_of, white_on_black

PICTURE = torch.rand(3, 32, 32, generator=torch.Generator().manual_seed(0))


def test_foreground_is_white_and_all_else_black():
    """The class alone: neither another class nor the border."""
    labels = torch.zeros(64, 64, dtype=torch.uint8)
    labels[:32], labels[32:, :32], labels[32:, 32:] = 8, 255, 3
    picture, answer = foreground(PICTURE, labels, 8)
    assert picture is PICTURE and answer.shape == (3, 32, 32)
    assert bool((answer[:, :16] == 1).all() and (answer[:, 16:] == 0).all())


@pytest.mark.parametrize(("height", "width"), [(32, 32), (51, 77), (500, 333), (9, 13)])
def test_masks_follow_pictures_of_any_shape(height: int, width: int):
    """A class that fills the left half fills the left half of the square, to a pixel."""
    labels = torch.zeros(height, width, dtype=torch.uint8)
    labels[:, : round(width / 2)] = 5
    _, answer = foreground(PICTURE, labels, 5)
    mask = masks_of(answer[None])[0]
    assert bool(mask[:, :15].all()) and not bool(mask[:, 18:].any())


def test_boxes_are_scaled_and_filled():
    """Edges go where the picture's pixels go; what would vanish keeps one pixel."""
    _, answer = boxed(PICTURE, (16, 0, 64, 24), width=64, height=48)
    assert bool((answer[:, :16, 8:] == 1).all()) and float(answer.sum()) == 3 * 16 * 24
    for box in ((0, 0, 1, 1), (639, 479, 640, 480), (3.2, 100, 3.4, 480)):
        _, answer = boxed(PICTURE, box, width=640, height=480)
        assert bool(masks_of(answer[None]).any())


def test_gray_is_luma():
    """Of BT.601, on all three channels; the answer is the picture itself."""
    gray, answer = grayed(PICTURE)
    assert answer is PICTURE and bool((gray[0] == gray[1]).all() and (gray[1] == gray[2]).all())
    pure = torch.eye(3)[:, :, None]  # red, green, blue
    torch.testing.assert_close(grayed(pure)[0][0, :, 0], torch.tensor([0.299, 0.587, 0.114]))


def test_masks_are_what_is_nearer_to_white():
    """The same as the nearest of white and black by squared distance, for any color."""
    colors = torch.rand(500, 3, 1, 1, generator=torch.Generator().manual_seed(1))
    nearer = (colors - 1).square().sum(1) < colors.square().sum(1)
    assert torch.equal(masks_of(colors), nearer)


def test_a_box_is_around_the_largest_region():
    """Specks elsewhere do not count, pixels that touch at a corner do, and without white there is no box."""
    mask = torch.zeros(3, 16, 16, dtype=torch.bool)
    mask[0, 2:6, 3:9], mask[0, 12:14, 12:14] = True, True
    mask[1, range(16), range(16)] = True
    found = boxes_of(torch.stack([white_on_black(each) for each in mask]))
    expected = torch.zeros_like(mask)
    expected[0, 2:6, 3:9], expected[1] = True, True
    assert torch.equal(found, expected)


def test_a_filled_box_is_its_own_box():
    """The ceiling of detection without a tokenizer is 1."""
    _, answer = boxed(PICTURE, (100, 30, 300, 200), width=500, height=375)
    assert torch.equal(boxes_of(answer[None]), masks_of(answer[None]))


@settings(deadline=None, max_examples=60)
@given(st.integers(0, 10_000), st.integers(1, 12), st.integers(1, 12), st.floats(0.2, 0.8))
def test_regions_equal_a_walk_through_them(seed: int, height: int, width: int, share: float):
    """The largest region is as large as a flood fill finds it, and is one of those that flood fills find."""
    mask = torch.rand(height, width, generator=torch.Generator().manual_seed(seed)) < share
    found = {tuple(place) for place in largest_regions(mask[None])[0].nonzero().tolist()}
    regions = flooded({tuple(place) for place in mask.nonzero().tolist()})
    assert found in regions if regions else not found
    assert len(found) == max(map(len, regions), default=0)


def flooded(left: set[tuple[int, int]]) -> list[set[tuple[int, int]]]:
    """Regions of pixels, one after the other."""
    left, regions = set(left), []
    while left:
        region, edge = set(), [left.pop()]
        while edge:
            row, column = edge.pop()
            region.add((row, column))
            near = {(row + i, column + j) for i in (-1, 0, 1) for j in (-1, 0, 1)} & left
            left -= near
            edge += near
        regions.append(region)
    return regions


def test_a_winding_region_is_one():
    """A path through every other row of a large mask, as long as it is, beside a square that is smaller."""
    mask = torch.zeros(129, 129, dtype=torch.bool)
    mask[::2, :100] = True
    mask[1::4, 99] = mask[3::4, 0] = True
    path = mask.clone()
    mask[20:60, 102:128] = True
    assert torch.equal(largest_regions(mask[None])[0], path)
