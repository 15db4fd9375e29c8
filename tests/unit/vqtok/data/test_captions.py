"""Sources of captions by one word, and shards with captions."""

from collections.abc import Callable
from itertools import islice
from pathlib import Path

import numpy as np
import pytest
import torch

from vqtok.data.captions import FACT, FILE, Captioned, Reading, beside, open_captions
from vqtok.data.order import Shuffled
from vqtok.data.shards import write_shard

CAPTIONS = ["a käse", 'said "so"', "back\\slash", "line\u2028break", "five"]


def write(folder: Path, captions: list[str], rows: int | None = None, mark: str | None = None) -> None:
    """A shard of three ids a row with these captions."""
    facts, files = beside(captions)
    count = len(captions) if rows is None else rows
    told = {"names": [f"{folder.name}-{row}" for row in range(count)]} | facts
    ids = np.arange(count * 3).reshape(count, 3)
    write_shard(folder, ids, 100, told | ({FACT: mark} if mark else {}), beside=files)


@pytest.fixture
def shards(tmp_path: Path) -> Path:
    """Two shards, of five captions and of two."""
    write(tmp_path / "shards" / "0", CAPTIONS)
    write(tmp_path / "shards" / "1", ["six", "seven"])
    return tmp_path / "shards"


def test_sources(tmp_path: Path, png: Callable, write_files: Callable, write_tar: Callable):
    """A folder, a tar and the embedded emoji open by a word, and are read alike."""
    write_files(tmp_path / "my", {"a.png": png(9), "a.txt": "nine"})
    write_tar(tmp_path / "a.tar", ("a.png", png(9)), ("a.json", '{"alt": "nine"}'))
    reading = Reading(size=8, caption_key="alt")
    for source in (f"folder:{tmp_path / 'my'}", f"tar:{tmp_path}/*.tar"):
        picture, caption = open_captions(source, reading)[0]
        assert picture.shape == (8, 8, 3) and (picture == 9).all() and caption == "nine"
    assert len(open_captions("emoji:train:17", reading)) == 17
    assert open_captions("emoji:test:4")[0][0].shape == (64, 64, 3)


def test_a_data_set(tmp_path: Path, png: Callable):
    """A folder that `datasets` wrote, with and without its split."""
    datasets = pytest.importorskip("datasets")
    features = datasets.Features({"image": datasets.Image(), "text": datasets.Value("string")})
    rows = {"image": [{"bytes": png(9), "path": None}], "text": ["nine"]}
    datasets.Dataset.from_dict(rows, features=features).save_to_disk(tmp_path / "saved")
    for word in (f"hub:{tmp_path / 'saved'}", f"hub:{tmp_path / 'saved'}:train"):
        assert open_captions(word)[0][1] == "nine"


@pytest.mark.parametrize("word", ["my/pictures", "zip:a.zip", "folder:", ""])
def test_unknown_sources(word: str):
    """The kinds that there are."""
    with pytest.raises(ValueError, match="is no source of captions: give one of folder:..., tar:..., hub:"):
        open_captions(word)


def test_a_folder_without_its_kind(tmp_path: Path):
    """A guess is made where the word is a folder."""
    with pytest.raises(ValueError, match=f"did you mean folder:{tmp_path}?"):
        open_captions(str(tmp_path))


def test_captioned(shards: Path):
    """Ids and caption of each row, through several shards, whatever the characters."""
    found = Captioned(shards)
    assert len(found) == 7 and found.shards.vocab == 100
    assert [found[index][1] for index in range(7)] == [*CAPTIONS, "six", "seven"]
    assert torch.equal(found[4][0], torch.tensor([12, 13, 14]))
    assert torch.equal(found[6][0], torch.tensor([3, 4, 5]))
    assert [found.name(index) for index in (0, 4, 5, 6)] == ["0-0", "0-4", "1-0", "1-1"]


def test_order(shards: Path):
    """The order of a run takes ids and captions together, each once an epoch."""
    order = Shuffled(Captioned(shards), seed=3)
    epoch = [order[index] for index in range(7)]
    assert sorted(caption for _, caption in epoch) == sorted([*CAPTIONS, "six", "seven"])
    pairs = {caption: ids for ids, caption in islice(Captioned(shards), 7)}
    assert all(torch.equal(pairs[caption], ids) for ids, caption in epoch)


def test_rows_end(shards: Path):
    """Beyond the last row there is none, so that a loop over them ends."""
    assert len([*Captioned(shards)]) == 7


@pytest.mark.parametrize("rows", [4, 6])
def test_another_number_of_captions(tmp_path: Path, rows: int):
    """More or fewer captions than rows are refused, with both numbers."""
    write(tmp_path / "0", CAPTIONS, rows=rows)
    with pytest.raises(ValueError, match=f"has 5 captions for {rows} rows: encode this shard again"):
        Captioned(tmp_path)


def test_other_captions(tmp_path: Path):
    """Captions that are not those of the manifest's facts are refused."""
    write(tmp_path / "0", CAPTIONS, mark="another")
    with pytest.raises(ValueError, match="captions.jsonl has changed since it was written"):
        Captioned(tmp_path, verify=False)


@pytest.mark.parametrize("verify", [True, False])
def test_changed_captions(shards: Path, verify: bool):
    """A caption that was changed in place is found, also where ids are not verified."""
    path = shards / "1" / FILE
    path.write_text(path.read_text().replace("seven", "eight"))
    with pytest.raises(ValueError, match="captions.jsonl has changed since it was written"):
        Captioned(shards, verify)


def test_missing_captions(shards: Path):
    """A file that is gone is named."""
    (shards / "1" / FILE).unlink()
    with pytest.raises(ValueError, match="captions.jsonl is missing"):
        Captioned(shards)


def test_shards_without_captions(tmp_path: Path):
    """Plain shards say how captions come to them."""
    write_shard(tmp_path / "0", np.zeros((2, 3), np.int64), 4, {})
    with pytest.raises(ValueError, match="has no captions: write shards with `vqtok encode --captions`"):
        Captioned(tmp_path)
