"""Pairs from tar files: samples as WebDataset lays them out, damage refused, nothing lost."""

import json
import warnings
from collections.abc import Callable
from pathlib import Path

import pytest

from vqtok.data.pairing import EMPTY, NO_CAPTION, NO_PICTURE, NOT_TEXT, UNREADABLE
from vqtok.data.tars import TarPairs


def opened(pattern: Path | str, caption_key: str | None = None, **options: object) -> TarPairs:
    """The pairs of some tars, whatever is left out, without the warning."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return TarPairs(str(pattern), caption_key, **{"tolerate": 1.0, **options})


@pytest.fixture
def tars(tmp_path: Path, png: Callable, write_tar: Callable) -> Path:
    """Two tars with three samples each."""
    for tar in range(2):
        members = []
        for number in range(3):
            shade = 10 * tar + number
            said = json.dumps({"caption": f"json {shade}", "alt": f"alt {shade}", "width": 6})
            members += [(f"{number:03}.png", png(shade)), (f"{number:03}.txt", f"text {shade}\n")]
            members += [(f"{number:03}.json", said), (f"{number:03}.cls", "4")]
        write_tar(tmp_path / "data" / f"train-{tar}.tar", *members)
    return tmp_path / "data" / "train-*.tar"


def test_any_pair_by_its_number(tars: Path):
    """Pairs in the order of tars and members; each can be read alone, in any order."""
    pairs = opened(tars)
    assert len(pairs) == 6 and not pairs.left_out.names
    for index in (5, 0, 3, 2, 4, 1):
        shade = 10 * (index // 3) + index % 3
        picture, caption = pairs[index]
        assert (picture == shade).all() and picture.shape == (4, 6, 3) and caption == f"text {shade}"
        assert pairs.name(index) == f"train-{index // 3}.tar/{index % 3:03}.png"


def test_captions_by_key(tars: Path):
    """A key of the JSON can be chosen."""
    assert [opened(tars, key)[4][1] for key in (None, "caption", "alt")] == ["text 11", "json 11", "alt 11"]


def test_json_in_the_place_of_text(tmp_path: Path, png: Callable, write_tar: Callable):
    """Where there is no txt, `caption` of the JSON is taken; jpg and webp are pictures; folders count."""
    path = write_tar(
        tmp_path / "a.tar",
        ("x/1.jpg", png(1)), ("x/1.json", '{"caption": "one"}'),
        ("./y/1.WEBP", png(2)), ("y/1.json", '{"caption": "two"}'),
    )  # fmt: skip
    pairs = opened(path)
    assert [(pairs.name(index), pairs[index][1]) for index in range(2)] == [
        ("a.tar/x/1.jpg", "one"),
        ("a.tar/y/1.webp", "two"),
    ]


def test_names_that_are_no_utf_8(tmp_path: Path, png: Callable, write_tar: Callable):
    """Names as old archives have them are escaped, and pair all the same."""
    path = write_tar(tmp_path / "a.tar", ("k\udce4se.png", png(1)), ("k\udce4se.txt", "cheese"))
    pairs = opened(path)
    assert pairs.name(0) == "a.tar/k\\xe4se.png" and pairs[0][1] == "cheese"
    assert pairs.digest(range(1)) == opened(path).digest(range(1))


def test_members_need_not_stand_side_by_side(tmp_path: Path, png: Callable, write_tar: Callable):
    """A sample's files are found by their name, wherever they lie in the tar."""
    first = [("1.png", png(1)), ("2.png", png(2))]
    path = write_tar(tmp_path / "a.tar", *first, ("2.txt", "two"), ("1.txt", "one"))
    assert [opened(path)[index][1] for index in range(2)] == ["one", "two"]


def test_what_is_left_out(tmp_path: Path, png: Callable, write_tar: Callable):
    """Missing halves, empty and unreadable captions, second pictures: each by name and reason."""
    path = write_tar(
        tmp_path / "a.tar",
        ("good.png", png(1)), ("good.txt", "fine"), ("good.jpg", png(1)), ("good.png", png(9)),
        ("alone.png", png(1)),
        ("text.txt", "about nothing"),
        ("void.png", png(1)), ("void.txt", " "),
        ("latin.png", png(1)), ("latin.txt", "käse".encode("latin-1")),
        ("torn.png", png(1)), ("torn.json", '{"caption'),
        ("keyless.png", png(1)), ("keyless.json", '{"caption": 3}'),
        ("half.png", png(1)), ("half.json", '{"caption": "\\ud800"}'),
    )  # fmt: skip
    pairs = opened(path)
    assert len(pairs) == 1 and (pairs[0][0] == 1).all()
    reasons = {name: reason.partition(":")[0] for name, reason in pairs.left_out.names.items()}
    doubled = next(name for name in reasons if name.startswith("a.tar/good.png at "))
    assert reasons == {
        doubled: "second file of this name in its tar",
        "a.tar/good.jpg": "second picture of its sample",
        "a.tar/alone.png": NO_CAPTION,
        "a.tar/text": NO_PICTURE,
        "a.tar/void.png": EMPTY,
        "a.tar/latin.png": NOT_TEXT,
        "a.tar/torn.png": "JSON that cannot be read",
        "a.tar/keyless.png": "JSON without text under 'caption'",
        "a.tar/half.png": NOT_TEXT,
    }


def test_unreadable_pictures(tmp_path: Path, png: Callable, write_tar: Callable):
    """They are found when they are decoded."""
    members = [("1.png", png(1)), ("1.txt", "one"), ("2.png", b"none"), ("2.txt", "two")]
    pairs = opened(write_tar(tmp_path / "a.tar", *members))
    with pytest.warns(UserWarning, match=f"1 x {UNREADABLE}"):
        pairs.scan()
    assert [pairs.name(index) for index in range(len(pairs))] == ["a.tar/1.png"]


def test_no_tar(tmp_path: Path):
    """A pattern that no file fits is named."""
    with pytest.raises(ValueError, match=r"no tar file at .*none-\*.tar: give a pattern of local ones"):
        opened(tmp_path / "none-*.tar")


def test_compressed_tars_are_refused(tmp_path: Path, png: Callable, write_tar: Callable):
    """No picture could be read alone."""
    path = write_tar(tmp_path / "a.tar", ("1.png", png(1)), ("1.txt", "one"), mode="w:gz")
    with pytest.raises(ValueError, match="a.tar is no whole, uncompressed tar"):
        opened(path)


@pytest.mark.parametrize("damage", ["cut", "cut in a header", "overwritten header", "appended"])
def test_damage_is_refused(tmp_path: Path, png: Callable, write_tar: Callable, damage: str):
    """A tar that breaks off, has a spoiled header or goes on behind its end is no whole tar."""
    members = [member for n in range(3) for member in ((f"{n}.png", png(n)), (f"{n}.txt", f"{n}"))]
    path = write_tar(tmp_path / "a.tar", *members)
    content = bytearray(path.read_bytes())
    start = content.index(b"2.png")  # of that member's header
    if damage == "overwritten header":
        content[start : start + 300] = b"x" * 300
    ends = {"cut": start + 512 + 10, "cut in a header": start + 100}
    path.write_bytes(content[: ends.get(damage)] + (content if damage == "appended" else b""))
    with pytest.raises(ValueError, match="a.tar is no whole, uncompressed tar"):
        opened(path)
