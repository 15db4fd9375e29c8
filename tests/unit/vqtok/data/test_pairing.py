"""Folders of pictures and captions: pairs by stem, and every way of being none, listed and counted."""

import re
import warnings
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch

from vqtok.data.pairing import (
    EMPTY,
    NO_CAPTION,
    NO_PICTURE,
    NOT_TEXT,
    UNREADABLE,
    FolderPairs,
    LeftOut,
    caption_of,
)
from vqtok.data.pictures import read_pixels


@pytest.fixture
def folder(tmp_path: Path, png: Callable, write_files: Callable) -> Path:
    """Four pairs at several depths, and one of each kind of what is none."""
    files = {
        "b.png": png(20), "b.txt": "a\tdark\n thing \n",
        "deep/down/a.PNG": png(200), "deep/down/a.TXT": "\ufeffa pale käse",
        "a.b.png": png(3), "a.b.txt": "dots",
        "deep/b.jpeg": png(7), "deep/b.txt": "content decides",
        "alone.png": png(1),
        "text.txt": "about nothing",
        "void.png": png(2), "void.txt": " \n\t",
        "latin.png": png(3), "latin.txt": "käse".encode("latin-1"),
        ".hidden.png": png(4), "notes.md": "no caption",
    }  # fmt: skip
    return write_files(tmp_path / "pictures", files)


def opened(folder: Path, tolerate: float = 1.0, **options: object) -> FolderPairs:
    """The folder's pairs, without the warning."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return FolderPairs(folder, tolerate=tolerate, **options)


def test_pairs(folder: Path):
    """In the order of names, pictures (h, w, 3) uint8, captions with single spaces and no mark."""
    pairs = opened(folder)
    assert [pairs.name(index) for index in range(len(pairs))] == [
        "a.b.png",
        "b.png",
        "deep/b.jpeg",
        "deep/down/a.PNG",
    ]
    assert [pairs[index][1] for index in range(4)] == [
        "dots",
        "a dark thing",
        "content decides",
        "a pale käse",
    ]
    picture = pairs[3][0]
    assert picture.shape == (4, 6, 3) and picture.dtype == np.uint8 and (picture == 200).all()
    with pytest.raises(IndexError, match="pair 4 of 4: pairs are counted from 0 to 3"):
        pairs[4]


def test_size(folder: Path):
    """Pictures are brought to a size as files are that are read alone."""
    pairs = opened(folder, size=5, fit="pad")
    expected = read_pixels(folder / "b.png", 5, "pad").permute(1, 2, 0)
    assert torch.equal(torch.from_numpy(pairs[1][0].copy()), expected)


def test_what_is_left_out(folder: Path):
    """Each half without the other, empty captions and captions that are no UTF-8, by name and reason."""
    left_out = opened(folder).left_out
    assert left_out.kept == 4
    assert left_out.names == {
        "alone.png": NO_CAPTION,
        "text.txt": NO_PICTURE,
        "void.png": EMPTY,
        "latin.png": f"{NOT_TEXT}: invalid continuation byte at 1",
    }
    assert left_out.counts == {NO_CAPTION: 1, NO_PICTURE: 1, EMPTY: 1, NOT_TEXT: 1}


def test_a_warning_says_what_is_left_out(folder: Path):
    """Counts and names, for whoever opens the folder."""
    with pytest.warns(UserWarning, match="(?s)4 pairs, 4 left out.*1 x caption that is no UTF-8: latin.png"):
        FolderPairs(folder, tolerate=0.5)


def test_too_much_left_out_is_refused(folder: Path):
    """More than the share that is tolerated, rounded up, with the way out; up to it is not."""
    with pytest.raises(ValueError, match="(?s)4 of 8 are no pairs, 3 are tolerated.*raise tolerate from 0.3"):
        opened(folder, tolerate=0.3)
    assert len(opened(folder, tolerate=0.5)) == 4


def test_the_report_names_the_first_few():
    """Totals, then each reason with its count and at most three names, the most frequent first."""
    names = {f"{number}.png": NO_CAPTION for number in range(5)} | {"x.png": f"{UNREADABLE}: cut short"}
    assert str(LeftOut("here", 7, names)) == (
        "here: 7 pairs, 6 left out\n"
        "  5 x picture without a caption: 0.png, 1.png, 2.png, ...\n"
        "  1 x picture that cannot be read: x.png"
    )


@pytest.mark.parametrize("files", [{}, {"a.txt": "alone"}, {"a.png": "no caption"}])
def test_no_pair_at_all(tmp_path: Path, write_files: Callable, files: dict):
    """A folder without pairs is refused, whatever is tolerated, with what lies there."""
    write_files(tmp_path / "none", {"other.md": "", **files})
    with pytest.raises(ValueError, match=f"no pairs of a picture and a caption in .*{len(files)} left out"):
        opened(tmp_path / "none")


def test_no_folder(tmp_path: Path):
    """What is no folder is named."""
    with pytest.raises(ValueError, match="no folder .*: give one that holds pictures and captions"):
        opened(tmp_path / "gone")


def test_tolerate_is_a_share(folder: Path):
    """A number of files in its place is refused."""
    with pytest.raises(ValueError, match="tolerate is 3, a share of the pairs: give 0 to 1"):
        opened(folder, tolerate=3)


@pytest.mark.parametrize("workers", [0, 1])
def test_scan_leaves_out_unreadable_pictures(folder: Path, workers: int):
    """They join what is left out, with the reason, and their pairs are gone."""
    (folder / "b.png").write_bytes(b"no picture")
    pairs = opened(folder)
    with pytest.warns(UserWarning, match="1 x picture that cannot be read: b.png"):
        pairs.scan(workers)
    assert [pairs.name(index) for index in range(len(pairs))] == ["a.b.png", "deep/b.jpeg", "deep/down/a.PNG"]
    reason = pairs.left_out.names["b.png"]
    assert reason == f"{UNREADABLE}: not a PNG, JPEG or WebP picture, or damaged at its start"
    assert pairs.left_out.kept == 3 and len(pairs.left_out.names) == 5


def test_unreadable_pictures_count_with_the_others(folder: Path):
    """What is tolerated is of all that is left out, missing halves and unreadable pictures together."""
    pairs = opened(folder, tolerate=0.5)
    (folder / "b.png").write_bytes(b"no picture")
    with pytest.raises(ValueError, match="5 of 8 are no pairs, 4 are tolerated"):
        pairs.scan()


def test_an_unreadable_picture_is_an_error_when_asked_for(folder: Path):
    """With its name and the reason."""
    (folder / "b.png").write_bytes(b"no picture")
    with pytest.raises(ValueError, match=re.escape("cannot read b.png: not a PNG, JPEG or WebP picture")):
        opened(folder)[1]


def test_the_digest_changes_with_captions_and_files(folder: Path):
    """A caption or a picture that is mended shows in it; opening again does not."""
    before = opened(folder).digest(range(4))
    assert opened(folder).digest(range(4)) == before
    (folder / "b.txt").write_text("another")
    after = opened(folder).digest(range(4))
    assert after != before and opened(folder).digest(range(2, 4)) != after


def test_two_texts_of_one_stem(folder: Path):
    """One is the caption, the other is listed."""
    (folder / "b.TXT").write_text("another")
    pairs = opened(folder)
    assert pairs[1][1] == "another" and pairs.left_out.names["b.txt"] == NO_PICTURE


def test_a_link_that_leads_nowhere(folder: Path):
    """A picture that is a broken link is listed, and stops nothing."""
    (folder / "link.png").symlink_to(folder / "gone.png")
    (folder / "link.txt").write_text("to nothing")
    assert opened(folder).left_out.names["link.png"] == f"{UNREADABLE}: a file is missing"


def test_half_a_character_is_no_text():
    """JSON can spell half of a pair of surrogates, which no UTF-8 file holds."""
    with pytest.raises(ValueError, match=f"{NOT_TEXT}: surrogates not allowed at 2"):
        caption_of("a \ud800")
