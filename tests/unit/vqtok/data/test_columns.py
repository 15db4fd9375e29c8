"""Pairs from the columns of a data set that the library `datasets` wrote."""

import sys
import warnings
from collections.abc import Callable
from pathlib import Path

import pytest

from vqtok.data.columns import ColumnPairs
from vqtok.data.pairing import EMPTY, NO_CAPTION, NO_PICTURE


@pytest.fixture
def saved(tmp_path: Path, png: Callable) -> Path:
    """A folder with two splits of pictures, captions and more."""
    datasets = pytest.importorskip("datasets")
    kinds = {name: datasets.Value("string") for name in ("text", "other")}
    features = datasets.Features({"image": datasets.Image(), **kinds, "number": datasets.Value("int64")})
    rows = {
        "image": [{"bytes": png(shade), "path": None} for shade in range(4)] + [None],
        "text": ["zero", " one  more ", "", None, "nothing to see"],
        "other": [f"other {number}" for number in range(5)],
        "number": [*range(5)],
    }
    data = datasets.Dataset.from_dict(rows, features=features)
    splits = datasets.DatasetDict({"train": data, "test": data.select([1])})
    splits.save_to_disk(tmp_path / "saved")
    return tmp_path / "saved"


def opened(name: Path | str, **options: object) -> ColumnPairs:
    """The pairs, whatever is left out, without the warning."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return ColumnPairs(str(name), **{"tolerate": 1.0, **options})


def test_pairs(saved: Path):
    """Rows with a caption, named by their numbers; rows without, by reason."""
    pairs = opened(saved)
    assert [pairs.name(index) for index in range(len(pairs))] == ["00000000", "00000001", "00000004"]
    picture, caption = pairs[1]
    assert caption == "one more" and (picture == 1).all() and picture.shape == (4, 6, 3)
    assert pairs.left_out.names == {"00000002": EMPTY, "00000003": NO_CAPTION}


def test_rows_without_a_picture(saved: Path):
    """They are found when pictures are decoded, and told as what they are."""
    pairs = opened(saved)
    with pytest.warns(UserWarning, match=f"1 x {NO_PICTURE}: 00000004"):
        pairs.scan()
    assert len(pairs) == 2


def test_splits_and_keys(saved: Path):
    """Another split and another column of captions."""
    pairs = opened(saved, split="test", caption_key="other", picture_key="image", size=4)
    assert len(pairs) == 1 and pairs[0][1] == "other 1" and pairs[0][0].shape == (4, 4, 3)
    with pytest.raises(ValueError, match="has no split 'held out': choose of train, test"):
        opened(saved, split="held out")


def test_one_split_alone(saved: Path, tmp_path: Path):
    """A folder of rows that name no split is `train`."""
    assert opened(saved / "test")[0][1] == "one more"
    with pytest.raises(ValueError, match="has no split 'test': choose of train"):
        opened(saved / "test", split="test")


@pytest.mark.parametrize(
    ("keys", "told"),
    [
        ({"caption_key": "number"}, "no column 'number' of text: name one as the caption key, of text"),
        ({"picture_key": "text"}, "no column 'text' of pictures: name one as the picture key, of image"),
    ],
)
def test_other_columns_are_refused(saved: Path, keys: dict, told: str):
    """A column of another type, with those that would do."""
    with pytest.raises(ValueError, match=told):
        opened(saved, **keys)


def test_no_data_set(tmp_path: Path):
    """A folder that the library did not write is named."""
    pytest.importorskip("datasets")
    with pytest.raises(ValueError, match="cannot open split 'train' of the data set .*save_to_disk wrote"):
        opened(tmp_path)


def test_without_the_library(monkeypatch: pytest.MonkeyPatch):
    """It says what to install."""
    monkeypatch.setitem(sys.modules, "datasets", None)
    with pytest.raises(ValueError, match=r"`datasets` cannot be imported .*pip install vqtok\[datasets\]"):
        opened("somebody/something")
