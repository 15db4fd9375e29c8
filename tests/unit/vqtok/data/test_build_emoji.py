"""The script that rebuilds the emoji pack: its pure functions, without npm."""

import io
import json
from collections import Counter
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from vqtok.data import build_emoji
from vqtok.data.build_emoji import family, groups, jobs, join, quality, render, split, thumbnail, webp


def entry(name: str, color: int, tone: int = 0) -> dict:
    """A drawing of one color in both styles that are compared."""
    pixels = np.full((64, 64, 4), (color, color, color, 255), dtype=np.uint8)
    return {"name": name, "tone": tone, "pixels": dict.fromkeys(build_emoji.STYLES, pixels)}


@pytest.mark.parametrize(
    ("names", "label"),
    [
        (("one-oclock", "twelve-thirty"), "clock"),
        (("full-moon", "new-moon-face"), "moon"),
        (("open-mailbox-with-raised-flag", "closed-mailbox-with-lowered-flag"), "mailbox"),
        (("man", "old-woman", "child"), "bust"),
        (("man-running", "woman-running", "person-running-facing-right"), "person-running"),
        (("pilot", "woman-pilot"), "person-pilot"),
        (("red-heart", "heart-suit"), "heart"),
        (("hollow-red-circle",), "hollow-red-circle"),
        (("cheese-wedge",), "cheese-wedge"),
    ],
)
def test_family(names: tuple[str, ...], label: str):
    """Spelling alone joins clocks, mailboxes, genders and directions, and leaves others alone."""
    assert {family(name) for name in names} == {label}


def test_groups():
    """Names of one family or of nearly the same pixels share a group, also in a chain, whatever the tone."""
    entries = [
        entry("one-oclock", 0),
        entry("two-oclock", 120),
        entry("ball", 123),  # looks like two-oclock, so it goes with both
        entry("cheese", 255),
        entry("cheese", 0, tone=1),
    ]
    found = groups(entries)
    assert found["one-oclock"] == found["two-oclock"] == found["ball"] != found["cheese"]
    assert {*found} == {"one-oclock", "two-oclock", "ball", "cheese"}


def test_twins_are_told_by_the_limit():
    """Two grays are joined just below the limit and not just above it."""
    step = 255 * build_emoji.TWIN_RMSE
    for color, twins in ((int(step) - 1, True), (int(step) + 2, False)):
        found = groups([entry("a", 0), entry("b", color)])
        assert (found["a"] == found["b"]) is twins


def test_split():
    """Whole groups fill test and validation to their shares; large families stay in train, always."""
    group_of = {f"name {i}": f"group {i // 2}" for i in range(400)}
    group_of |= {f"clock {i}": "clock" for i in range(build_emoji.LARGEST_HELD_OUT_GROUP + 1)}
    found = split(group_of)
    sizes = Counter(found[group] for group in group_of.values())
    for part, share in build_emoji.SHARES.items():
        assert share * len(group_of) <= sizes[part] < share * len(group_of) + 2
    assert found["clock"] == "train"
    shuffled = dict(sorted(group_of.items(), key=lambda item: item[0][::-1]))
    assert split(shuffled) == found


def test_a_new_name_moves_few_others():
    """The split goes by hashes of names, so that an addition does not deal all cards anew."""
    group_of = {f"name {i}": f"name {i}" for i in range(300)}
    before, after = split(group_of), split(group_of | {"another": "another"})
    assert sum(before[group] != after[group] for group in before) <= 5  # those at the borders of the shares


def test_quality():
    """3-D renders and shaded skin tones are lossy, all else is not."""
    tones = {(style, tone): quality({"tone": tone}, style) for style in ("shaded", "flat") for tone in (0, 3)}
    assert tones == {("shaded", 0): None, ("shaded", 3): 85, ("flat", 0): None, ("flat", 3): None}
    assert quality({"tone": 0}, "solid") == 85


def test_webp_keeps_what_is_seen():
    """Without a quality every pixel that is not transparent comes back as it was."""
    pixels = np.random.default_rng(0).integers(0, 256, (8, 8, 4), dtype=np.uint8)
    pixels[..., 3] |= 1
    back = np.asarray(Image.open(io.BytesIO(webp(pixels))).convert("RGBA"))
    assert np.array_equal(back, pixels)
    assert len(webp(pixels, 10)) < len(webp(pixels))


def test_thumbnail():
    """A transparent picture is white, whatever color it hides."""
    assert (thumbnail(np.zeros((64, 64, 4), dtype=np.uint8)) == 1).all()
    assert thumbnail(np.full((64, 64, 4), 255, dtype=np.uint8)).shape == (16 * 16 * 3,)


def test_code_points_join_without_the_selector():
    """The emoji variation selector, which some packages write, is left out."""
    assert join("1F468-200D-2764-FE0F") == "1f468-200d-2764"


@pytest.fixture
def modules(tmp_path: Path) -> Path:
    """A node_modules folder with two names, one of which has a skin tone and a 3-D render."""
    icons = {
        "fluent-emoji": ("ball", "ball-light", "cheese"),
        "fluent-emoji-flat": ("ball", "ball-light", "cheese"),
        "fluent-emoji-high-contrast": ("ball", "cheese", "lonely"),
    }
    for package, names in icons.items():
        place = tmp_path / "@iconify-json" / package
        place.mkdir(parents=True)
        bodies = {name: {"body": f"<{name}/>"} for name in names}
        (place / "icons.json").write_text(json.dumps({"icons": bodies}))
    flat = tmp_path / "@iconify-json" / "fluent-emoji-flat"
    (flat / "chars.json").write_text(json.dumps({"26bd": "ball", "26bd-1f3fb": "ball-light"}))
    (flat / "metadata.json").write_text(json.dumps({"categories": {"Activities": ["ball", "ball-light"]}}))
    assets = tmp_path / "@lobehub/fluent-emoji-3d/assets"
    assets.mkdir(parents=True)
    Image.new("RGBA", (256, 256), (9, 9, 9, 255)).save(assets / "26bd-fe0f.webp", lossless=True)
    return tmp_path


def test_jobs(modules: Path):
    """A row for every name and skin tone that has both colored styles, with what is to be drawn for each."""
    found = {(job["name"], job["tone"]): job for job in jobs(modules)}
    assert [*found] == [("ball", 0), ("ball", 1), ("cheese", 0)]
    assert {*found["ball", 0]["draw"]} == {"shaded", "flat", "line", "solid"}
    assert {*found["ball", 1]["draw"]} == {"shaded", "flat"}
    assert found["ball", 1]["draw"]["flat"] == ("svg", "<ball-light/>")
    assert (found["ball", 0]["point"], found["ball", 0]["category"]) == ("26bd", "Activities")
    assert (found["cheese", 0]["point"], found["cheese", 0]["category"]) == ("", "")
    assert render(found["ball", 0]["draw"]["solid"]).shape == (64, 64, 4)
