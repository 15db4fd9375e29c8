"""A folder of pictures as a sequence of images."""

import os
import pickle
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from vqtok.data.folders import PictureFolder
from vqtok.data.pictures import read_picture

NAMES = ("b.png", "a/2.JPG", "a/10.webp", "a/deep/er/1.jpeg", "c.PNG")


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Five good pictures in nested folders, and three files that are none."""
    rng = np.random.default_rng(0)
    for name in NAMES:
        path = tmp_path / "in" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(rng.integers(0, 256, (12, 20, 3), dtype=np.uint8)).save(path)
    for name in ("readme.txt", "a/movie.gif", ".hidden.png"):
        (tmp_path / "in" / name).write_text("no picture")
    return tmp_path / "in"


def spoil(folder: Path) -> set[Path]:
    """Three broken files: cut short, not a picture, a link to nowhere."""
    whole = (folder / "b.png").read_bytes()
    (folder / "cut.png").write_bytes(whole[: len(whole) // 2])
    (folder / "a" / "text.jpg").write_text("hello")
    (folder / "gone.webp").symlink_to(folder / "nowhere.webp")
    return {folder / "cut.png", folder / "a" / "text.jpg", folder / "gone.webp"}


def test_finds_all_and_sorts(folder: Path) -> None:
    """Pictures of any depth and spelling are found, in the order of their names; other files are counted."""
    pictures = PictureFolder(folder, size=8)
    names = ["a/10.webp", "a/2.JPG", "a/deep/er/1.jpeg", "b.png", "c.PNG"]
    assert [path.relative_to(folder).as_posix() for path in pictures.paths] == names
    assert pictures.others == {".txt": 1, ".gif": 1, ".png": 1}
    assert len(pictures) == len(list(pictures)) == 5
    assert torch.equal(pictures[3], read_picture(folder / "b.png", 8))


def test_fit_is_passed_on(folder: Path) -> None:
    """The folder's images are what `read_picture` makes of each."""
    assert torch.equal(PictureFolder(folder, 16, fit="pad")[3], read_picture(folder / "b.png", 16, fit="pad"))


@pytest.mark.parametrize("workers", [0, 1, 2])
@pytest.mark.parametrize("keep", [False, True])
def test_scan_sets_corrupt_files_apart(folder: Path, workers: int, keep: bool) -> None:
    """Broken files are listed with reasons and counted; the rest keep their order; workers change nothing."""
    before = [image.clone() for image in PictureFolder(folder, size=8)]
    bad = spoil(folder)
    with pytest.warns(UserWarning, match="left out 3 of 8 pictures"):
        pictures = PictureFolder(folder, size=8, tolerate=0.5).scan(workers, keep)
    assert set(pictures.corrupt) == bad
    assert pictures.corrupt[folder / "a" / "text.jpg"].startswith("not a PNG, JPEG or WebP picture")
    assert "truncated" in pictures.corrupt[folder / "cut.png"].lower()
    assert "No such file" in pictures.corrupt[folder / "gone.webp"]
    assert len(pictures) == 5
    assert all(torch.equal(image, expected) for image, expected in zip(pictures, before, strict=True))


@pytest.mark.parametrize("workers", [0, 2])
def test_batches_of_any_pictures(folder: Path, workers: int) -> None:
    """Pixels by number, batch by batch and in order, or the reason why there are none; names go with them."""
    bad = spoil(folder)
    pictures = PictureFolder(folder, size=8)
    batches = [[7, 0], [3], [1, 2]]
    for numbers, found in zip(batches, pictures.decoded(batches, workers), strict=True):
        for number, pixels in zip(numbers, found, strict=True):
            path = folder / pictures.name(number)
            assert path == pictures.paths[number] and isinstance(pixels, str) == (path in bad)
            if path not in bad:
                assert torch.equal(torch.from_numpy(pixels) / 255, read_picture(path, 8))


def test_a_digest_sees_through_links(folder: Path) -> None:
    """A picture that changes behind a link shows in it; a link to nowhere has a digest too."""
    (folder / "gone.png").symlink_to(folder / "nowhere.png")
    (folder / "linked.png").symlink_to(folder / ".hidden.png")
    pictures = PictureFolder(folder, size=8)
    before = pictures.digest(range(len(pictures)))
    assert pictures.digest(range(len(pictures))) == before
    (folder / ".hidden.png").write_text("another picture")
    assert pictures.digest(range(len(pictures))) != before


def test_names_that_are_no_text(tmp_path: Path) -> None:
    """A name in another encoding than UTF-8 has a digest, can be printed, and the picture is read."""
    source = tmp_path / "a.png"
    Image.new("RGB", (8, 8)).save(source)
    source.rename(tmp_path / os.fsdecode(b"caf\xe9.png"))
    pictures = PictureFolder(tmp_path, size=8)
    assert pictures.name(0) == r"caf\xe9.png" and len(pictures.digest(range(1))) == 64
    assert pictures[0].shape == (3, 8, 8)


def test_kept_images_are_not_read_again(folder: Path) -> None:
    """After scan(keep=True) the files may go, and the images travel to other processes."""
    pictures = PictureFolder(folder, size=8).scan(keep=True)
    expected = read_picture(folder / "b.png", 8)
    (folder / "b.png").unlink()
    assert torch.equal(pictures[3], expected)
    assert torch.equal(pickle.loads(pickle.dumps(pictures))[3], expected)


def test_scan_leaves_randomness_alone(folder: Path) -> None:
    """Scanning takes no number from torch's global generator."""
    state = torch.get_rng_state()
    PictureFolder(folder, size=8).scan(workers=1)
    assert torch.equal(torch.get_rng_state(), state)


def test_unscanned_corrupt_file_is_an_error(folder: Path) -> None:
    """Without a scan, reading a broken file raises and names it; nothing is skipped in silence."""
    spoil(folder)
    pictures = PictureFolder(folder, size=8)
    assert len(pictures) == 8
    with pytest.raises(ValueError, match="cannot read .*text.jpg"):
        list(pictures)


def test_too_many_corrupt_files_are_refused(folder: Path) -> None:
    """More than the tolerated share: ValueError with counts, names, reasons and ways out."""
    spoil(folder)
    pictures = PictureFolder(folder, size=8)
    with pytest.raises(ValueError, match=r"(?s)3 of 8 .*1 are tolerated: .*text.jpg: not .*cut.png: .+"):
        pictures.scan()
    (folder / "cut.png").unlink()
    (folder / "gone.webp").unlink()
    with pytest.warns(UserWarning, match=r"(?s)1 of 6 .*text.jpg: not a PNG"):
        assert len(PictureFolder(folder, size=8).scan()) == 5
    with pytest.raises(ValueError, match="0 are tolerated"):
        PictureFolder(folder, size=8, tolerate=0).scan()


def test_all_corrupt_is_refused_however_tolerant(tmp_path: Path) -> None:
    """A folder without one readable picture is refused."""
    (tmp_path / "a.png").write_text("hello")
    with pytest.raises(ValueError, match="1 of 1 pictures"):
        PictureFolder(tmp_path, size=8, tolerate=1.0).scan()


def test_messages_stay_short(tmp_path: Path) -> None:
    """A folder full of broken files names twenty of them and counts the rest."""
    for number in range(30):
        (tmp_path / f"{number:02}.png").write_text("hello")
    with pytest.raises(ValueError, match="(?s)30 of 30 .*19.png: not a PNG.*and 10 more") as raised:
        PictureFolder(tmp_path, size=8).scan()
    assert "20.png" not in str(raised.value)


def test_impossible_forms_are_refused_at_once(folder: Path) -> None:
    """A misspelt fit or an empty size is no fault of the pictures."""
    with pytest.raises(ValueError, match="no fit named 'cover'"):
        PictureFolder(folder, size=8, fit="cover")
    with pytest.raises(ValueError, match="at least 1"):
        PictureFolder(folder, size=0)
    with pytest.raises(ValueError, match="tolerate is 5, a share of the pictures: give 0 to 1"):
        PictureFolder(folder, size=8, tolerate=5)


def test_empty_folders_are_refused(tmp_path: Path) -> None:
    """No pictures: ValueError that says what lies there instead; no folder: that it is missing."""
    with pytest.raises(ValueError, match="no other files"):
        PictureFolder(tmp_path, size=8)
    (tmp_path / "a.heic").write_text("photo")
    with pytest.raises(ValueError, match=r"1 \.heic"):
        PictureFolder(tmp_path, size=8)
    with pytest.raises(ValueError, match="no folder"):
        PictureFolder(tmp_path / "gone", size=8)


def test_pixel_limit_counts_as_corrupt(folder: Path) -> None:
    """A picture over the limit is set apart with the limit as reason."""
    Image.new("RGB", (100, 100)).save(folder / "large.png")
    with pytest.warns(UserWarning, match="1 of 6"):
        pictures = PictureFolder(folder, size=8, pixel_limit=9_999).scan()
    assert "limit of 9999" in pictures.corrupt[folder / "large.png"]
