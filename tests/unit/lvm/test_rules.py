"""Rules: of every family of tasks a property that only the right row has."""

import numpy as np
import pytest
import torch
from torch import Tensor

from lvm.forms import PAIRS
from lvm.origins import Picture, Supply
from lvm.rules import SHIFTS, STYLES, Law, compose, recolored, shifted, tinted, turned, zoomed
from lvm.tasks import TASKS, row, task
from vqtok.data import views
from vqtok.data.emoji import load_emoji
from vqtok.data.scenes import alone

MEMBERS = (0, 1, 17, 47, 64, 100)


def law(member: int) -> Law:
    """Of some task."""
    return Law(member, number=5)


def pictures(count: int = 2, size: int = 32) -> list[Tensor]:
    """Random ones, pale enough that no turn of their hues leaves [0, 1]."""
    return [*(0.4 + 0.2 * torch.rand(count, 3, size, size))]


def far(one: Tensor, other: Tensor) -> float:
    """Mean distance of pixels."""
    return float((one - other).abs().mean())


def eighths(image: Tensor, way: tuple[int, int]) -> Tensor:
    """Rolled down and right by as many eighths."""
    return image.roll(
        tuple(steps * side // 8 for steps, side in zip(way, image.shape[1:], strict=True)), (1, 2)
    )


@pytest.fixture(scope="module")
def supply() -> Supply:
    """Of the train split."""
    return Supply("train")


@pytest.mark.parametrize("member", MEMBERS)
def test_recoloring_turns_all_hues_by_one_angle(member: int):
    """In every picture alike, and by no small one: one matrix takes all colors to the new ones."""
    found = []
    for image in pictures():
        x, y = image.flatten(1).T, recolored(image, law(member)).flatten(1).T  # (pixels, 3)
        found.append(torch.linalg.lstsq(x, y).solution.T)
    torch.testing.assert_close(*found, atol=1e-3, rtol=0)  # solved in float32
    cosine = (float(found[0].trace()) - 1) / 2
    angle = float(np.arccos(np.clip(cosine, -1, 1)))
    torch.testing.assert_close(found[0] @ found[0].T, torch.eye(3), atol=1e-3, rtol=0)
    torch.testing.assert_close(found[0].sum(1), torch.ones(3), atol=1e-3, rtol=0)  # gray stays
    assert angle >= 0.59


@pytest.mark.parametrize("member", MEMBERS)
def test_shifting_rolls_by_eighths(member: int):
    """Every picture by as many, whatever its size, and never by none."""
    image = pictures(1)[0]
    every = [(down, right) for down in range(8) for right in range(8)]
    ways = [way for way in every if torch.equal(shifted(image, law(member)), eighths(image, way))]
    assert len(ways) == 1 and ways != [(0, 0)]
    large = pictures(1, size=64)[0]
    assert torch.equal(shifted(large, law(member)), eighths(large, ways[0]))


def test_no_trained_shift_is_kept_from_training():
    """63 ways there are: trained members have different ones, and later members none of these."""
    image = torch.arange(3 * 64.0).view(3, 8, 8)
    ways = [tuple(shifted(image, law(member)).flatten().tolist()) for member in range(200)]
    assert task("shift").members == SHIFTS == len(set(ways[:SHIFTS]))
    assert not set(ways[:SHIFTS]) & set(ways[SHIFTS:]) and len(set(ways)) == 63


@pytest.mark.parametrize("member", MEMBERS)
def test_tinted_pictures_lie_between_two_inks(member: int):
    """Black becomes the dark one and white the light one, the same for all pictures."""
    dark, light = (tinted(torch.full((3, 4, 4), gray), law(member))[:, :1, :1] for gray in (0.0, 1.0))
    assert (dark <= 0.45).all() and (light >= 0.55).all()
    image = pictures(1)[0]
    expected = dark + (light - dark) * views.gray(image)
    torch.testing.assert_close(tinted(image, law(member)), expected)


@pytest.mark.parametrize("member", MEMBERS)
def test_turning_keeps_the_middle_and_zooming_a_window(member: int):
    """A disk of one color in the middle is the same when turned; a zoomed ramp rises half to 3/4 as fast."""
    axis = torch.linspace(-1, 1, 64)
    disk = ((axis[:, None].square() + axis.square()).sqrt() > 0.5).float().expand(3, -1, -1)
    assert far(turned(disk, law(member)), disk) < 0.01  # its rim, pixel by pixel
    rise = zoomed(((axis + 1) / 2).expand(3, 64, -1), law(member))[0, 0].diff()[8:-8] * 63
    assert 0.48 <= float(rise.min()) <= float(rise.max()) <= 0.77 and float(rise.std()) < 0.02


def test_compositions_are_second_after_first():
    """With parameters those of the member, for any task that ends in a picture."""
    picture = Picture(pictures(1)[0])
    for member in MEMBERS[:3]:
        both = compose(task("recolor"), task("invert"))
        assert (both.name, both.members, both.commutes) == ("recolor, invert", 64, ("mirror", "hue"))
        x, y = row(both, picture, 1, 2, member)
        again = both.make(Picture(x), np.random.default_rng(0), law(member))[1]
        expected = 1 - task("recolor").make(Picture(x), np.random.default_rng(0), law(member))[1]
        assert torch.equal(x, picture.pixels) and torch.equal(again, expected)
        assert not torch.equal(y, 1 - x)
    drawn = compose(task("shaded to line"), task("rotate"))
    scene = alone(load_emoji("train")[3])
    x, y = row(drawn, scene, 0, 0)
    assert drawn.of == "scene" and torch.equal(y, views.rotate(scene.image("line")))


@pytest.mark.parametrize("second", ["shaded to flat", "denoise", "single", "skin tones"])
def test_what_is_no_view_comes_second_to_nothing(second: str):
    """It would need a drawing, damage the answer, or has no pairs."""
    with pytest.raises(ValueError, match=f"'{second}' after 'mirror' is no task: the second must be a view"):
        compose(task("mirror"), task(second))


def test_holes_are_found_where_they_are():
    """White marks exactly the square that is gray in x, which filling shows too."""
    picture = Picture(torch.rand(3, 64, 64))
    x, y = row(task("find the hole"), picture, 0, 0)
    assert set(y.unique().tolist()) == {0.0, 1.0} and int(y[0].sum()) == 24 * 24
    assert bool((x[y > 0] == 0.5).all())
    torn, whole = row(task("fill the hole"), picture, 0, 0)
    assert (
        torch.equal(torn, x)
        and torch.equal(whole, picture.pixels)
        and torch.equal(torn[y == 0], whole[y == 0])
    )


def test_restored_pictures_are_what_was_damaged():
    """Gray has the luma of its colors, a blur is the blur of its y, noise is 0.2 about it."""
    picture = Picture(pictures(1, size=64)[0])
    for name, damage in (("colorize", views.gray), ("deblur", views.blurred)):
        x, y = row(task(name), picture, 0, 0)
        assert torch.equal(y, picture.pixels) and torch.equal(x, damage(y))
    x, y = row(task("denoise"), picture, 0, 0)
    assert float((x - y).std()) == pytest.approx(0.2, rel=0.05)  # some is clipped
    x, y = row(task("edges"), picture, 0, 0)
    assert torch.equal(y, views.edges(x))


def test_masks_of_noisy_drawings_are_exact(supply: Supply):
    """Noise is on x alone."""
    origin = supply.origin("scene", 0, 3)
    x, y = row(task("noisy to mask"), origin, 0, 0)
    assert torch.equal(y, origin.image("mask"))
    assert all(not torch.equal(x, origin.image(style)) for style in ("shaded", "flat", "line"))


def test_turning_goes_on_and_on(supply: Supply):
    """Each frame is the first turned by as much again, one way or the other; rows of a member alike."""
    first, other = (supply.origin("scene", 0, index) for index in (1, 2))
    steps = set()
    for member in MEMBERS:
        frames = row(task("turning"), first, 0, 0, member)
        step = next(one for one in np.arange(-75, 75.5, 0.5)
                    if far(views.turned(frames[0], one), frames[1]) < 0.01)  # fmt: skip
        assert 14 <= abs(step) <= 76
        for place, frame in enumerate(frames):
            near = views.turned(frames[0], step * place)
            assert far(near, frame) < 0.05  # half a degree a frame
        again = row(task("turning"), other, 0, 0, member)
        assert far(views.turned(again[0], step), again[1]) < 0.02
        steps.add(step)
    assert len(steps) == len(MEMBERS) and min(steps) < 0 < max(steps)


def test_masks_turn_with_their_frames(supply: Supply):
    """Three frames, then their masks, turned by as much, black where corners come in."""
    origin = supply.origin("scene", 0, 1)
    made = row(task("turning and masks"), origin, 0, 0, 5)
    frames, masks = made[:3], made[3:]
    torch.testing.assert_close(masks[0], origin.image("mask"), atol=1e-5, rtol=0)  # one of the turns is by 0
    angles = np.arange(-150, 150.5, 0.5)
    for place in (1, 2):
        both = ((frames[0], frames[place]), (1 - masks[0], 1 - masks[place]))
        turns = [angles[np.argmin([far(views.turned(one, angle), other) for angle in angles])]
                 for one, other in both]  # fmt: skip
        assert abs(turns[0] - turns[1]) <= 0.5
        outside = views.turned(torch.zeros(3, 64, 64), turns[0]) > 0.99
        assert outside.any() and float(masks[place][outside].max()) < 0.01


def test_sequences_and_groups_are_their_scenes(supply: Supply):
    """Frame by frame in one style; styles of one scene are all of it."""
    for name in ("skin tones", "clock and moon", "one category"):
        origin = supply.origin(task(name).of, 0, 0)
        made = row(task(name), origin, 0, 0)
        assert torch.equal(made, torch.stack([scene.image("shaded") for scene in origin.scenes]))
    scene = supply.origin("scene", 0, 0)
    made = row(task("styles of one"), scene, 0, 0)
    assert torch.equal(made, torch.stack([scene.image(style) for style in STYLES]))


def test_single_pictures_come_in_all_styles():
    """Each style sometimes."""
    scene = alone(load_emoji("train")[3])
    seen = [row(task("single"), scene, 0, index)[0] for index in range(40)]
    for style in ("shaded", "flat", "line"):
        assert any(torch.equal(one, scene.image(style)) for one in seen)


def test_only_tasks_with_members_ask_for_their_numbers(supply: Supply):
    """Else rows of one sentence would share what was meant to be their own, or the other way round."""
    for one in TASKS:
        numbers = law(3)
        before = numbers.bit_generator.state
        one.make(supply.origin(one.of, 0, 0), np.random.default_rng(0), numbers)
        asked = numbers.bit_generator.state != before or one.name == "shift"
        assert asked == (one.members > 1), one.name
    assert task("mirror").form == PAIRS
