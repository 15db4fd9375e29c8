"""From folders of shards to rows to train on and sentences to measure on."""

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from lvm.data import SentencesConfig, contexts, sources
from lvm.encode import Job, encode
from lvm.forms import PAIRS
from lvm.layout import Layout
from lvm.sentences import Mixture
from lvm.tasks import TASKS, task
from vqtok.data.pictures import write_picture
from vqtok.data.shards import Shards, write_shard
from vqtok.storage.records import decode
from vqtok.storage.records import encode as recorded
from vqtok.tokenizers.fingerprint import fingerprint
from vqtok.tokenizers.tokenizer import VQTokenizer

MakeTokenizer = Callable[..., VQTokenizer]


@pytest.fixture
def data(shards: Path, tokenizer_folder: Path) -> SentencesConfig:
    """Seven rows a task to train on, three held out; sentences of three pairs."""
    return SentencesConfig(shards=shards, tokenizer=str(tokenizer_folder), held_out=3, pairs=3, batch=4)


@pytest.mark.parametrize(
    ("setting", "told"), [({"pairs": 0}, "pairs 0"), ({"query_weight": -1.0}, "query_weight -1"),
                          ({"spoil": 1.5}, "spoil 1.5"), ({"untold": -0.1}, "untold -0.1")]
)  # fmt: skip
def test_senseless_settings_are_refused(setting: dict, told: str):
    """With what makes sense."""
    with pytest.raises(ValueError, match=rf"{told}.*(give|leaves)"):
        SentencesConfig(shards=Path("shards"), tokenizer="tokenizer", **setting)


def test_settings_come_back_from_a_recipe(data: SentencesConfig):
    """Also the weights of tasks, whose names have spaces and commas."""
    mixture = Mixture(weights={"shaded to flat": 0.5, "mirror, invert": 2.0}, by_rows=True, temperature=2.0)
    config = replace(data, mixture=mixture, untold=0.25)
    assert decode(SentencesConfig, recorded(config), "recipe") == config


def test_held_out_rows_are_the_last_and_never_trained_on(
    data: SentencesConfig, tiny_tokenizer: MakeTokenizer
):
    """Of ten rows seven are trained on; three pairs make validation sentences, each once at every place."""
    train_rows, kept = sources(data, tiny_tokenizer())
    found = Shards.by("task", data.shards)
    assert set(train_rows) == set(found) == {one.name for one in TASKS if not one.held_out}
    for name, rows in found.items():
        assert len(train_rows[name]) == 7 and torch.equal(train_rows[name][6], rows[6])
        if task(name).form == PAIRS and task(name).members == 1:
            orders = [(7, 8, 9), (9, 7, 8), (8, 9, 7)]
            wanted = torch.stack([torch.stack([rows[i] for i in order]).view(6, 16) for order in orders])
            assert torch.equal(kept[name].images, wanted) and kept[name].pairs
            assert kept[name].asked.tolist() == [False, True] * 3


def test_other_forms_are_measured_in_their_order(data: SentencesConfig, tiny_tokenizer: MakeTokenizer):
    """A film as it is, single pictures one by one; what a form gives is not asked for."""
    _, kept = sources(data, tiny_tokenizer())
    film = Shards.by("task", data.shards)["skin tones"]
    assert torch.equal(kept["skin tones"].images, torch.stack([film[row].view(5, 16) for row in (7, 8, 9)]))
    assert kept["skin tones"].asked.tolist() == [False] + [True] * 4 and not kept["skin tones"].pairs
    assert kept["single"].images.shape == (3, 1, 16) and kept["single"].asked.tolist() == [True]
    assert kept["styles of one"].images.shape == (1, 8, 16)  # of three rows two make a sentence
    assert kept["styles of one"].asked.tolist() == [False, True, True, True] * 2
    assert "recolor" not in kept  # of no member there are three rows


def test_a_validation_sentence_is_of_one_member_and_different_pictures(
    tiny_tokenizer: MakeTokenizer, tmp_path: Path
):
    """Though rows of a member come back after others, and show the same pictures then."""
    tokenizer = tiny_tokenizer()
    rows = torch.arange(24)[:, None].expand(-1, 32)
    facts = {"task": "recolor", "tokenizer": fingerprint(tokenizer), "first": 0, "rows": 24, "members": 2,
             "form": PAIRS.facts()}  # fmt: skip
    for name, pictures in (("plain", None), ("again", 8)):
        write_shard(tmp_path / name / "0", rows, 32, facts | {"pictures": pictures})
    config = SentencesConfig(shards=tmp_path / "plain", validation=tmp_path / "again", tokenizer="t", pairs=3,
                             held_out=24)  # fmt: skip
    kept = sources(config, tokenizer)[1]["recolor"].images[:, ::2, 0]
    for sentence in kept.tolist():
        assert len({row // 8 % 2 for row in sentence}) == 1 and len({row % 8 for row in sentence}) == 3
    assert len(kept) >= 3 * 5


def test_held_out_pictures_are_shown_by_no_other_row(
    tmp_path: Path, tokenizer_folder: Path, tiny_tokenizer: MakeTokenizer
):
    """Of five pictures in twelve rows a task, those of the held-out rows do not come back in training."""
    for number in range(5):
        write_picture(tmp_path / "pictures" / f"{number}.png", torch.full((3, 64, 64), number / 5))
    shards = tmp_path / "shards"
    job = Job(tokenizer=str(tokenizer_folder), out=shards, data=tmp_path / "pictures", pairs=12,
              tasks=("invert", "mirror"))  # fmt: skip
    encode(job)
    config = SentencesConfig(shards=shards, tokenizer=str(tokenizer_folder), held_out=3, pairs=2)
    train_rows, kept = sources(config, tiny_tokenizer())
    rows = Shards.by("task", shards)["invert"]
    assert train_rows["invert"].which.tolist() == [0, 1, 2, 5, 6, 7, 10, 11]  # of the pictures 0, 1 and 2
    wanted = torch.cat([rows[3], rows[4]]).view(1, 4, 16)  # of the three, two make a sentence
    assert torch.equal(kept["invert"].images[:1], wanted)
    write_picture(tmp_path / "pictures" / "5.png", torch.ones(3, 64, 64))
    with pytest.raises(ValueError, match="made with files .*, this job has"):
        encode(job)


def test_contexts_follow_the_settings(data: SentencesConfig, tiny_tokenizer: MakeTokenizer):
    """Shares are the library's unless the mixture says others; the seed decides."""
    tokenizer = tiny_tokenizer()
    tasks, _ = sources(data, tokenizer)
    layout = Layout(tokenizer.vocab, tokenizer.tokens)
    source = contexts(data, tasks, layout, 130, seed=0)
    usual = np.array([task(name).weight for name in source.names])
    assert np.allclose(source.shares, usual / usual.sum()) and source.names == [*tasks]
    chosen = Mixture(weights={name: float(name == "mirror") for name in tasks})
    only = contexts(replace(data, mixture=chosen), tasks, layout, 130, seed=0)
    assert only.names == ["mirror"] and not only[0].tasks.any()
    assert len(source[0].ids) == 130 and not torch.equal(source[0].ids, source[1].ids)


def test_shards_of_another_tokenizer_are_refused(
    data: SentencesConfig, tiny_tokenizer: MakeTokenizer, tmp_path: Path
):
    """For training and for validation alike, with the folder, both marks and the way out."""
    other = tiny_tokenizer(seed=1)
    told = r"shards was encoded by tokenizer \w{12}, .*: encode again with this one"
    with pytest.raises(ValueError, match=told):
        sources(data, other)
    other.save_pretrained(tmp_path / "other")
    validation = tmp_path / "validation"
    encode(Job(tokenizer=str(tmp_path / "other"), out=validation, pairs=3, tasks=("mirror",)))
    with pytest.raises(ValueError, match=r"validation was encoded by tokenizer"):
        sources(replace(data, validation=validation), tiny_tokenizer())


def test_a_damaged_shard_is_refused(data: SentencesConfig, tiny_tokenizer: MakeTokenizer, tmp_path: Path):
    """One flipped bit, and the file is named."""
    tokenizer = tiny_tokenizer()
    tokenizer.save_pretrained(tmp_path / "tokenizer")
    encode(Job(tokenizer=str(tmp_path / "tokenizer"), out=tmp_path / "out", pairs=4, tasks=("mirror",)))
    rows = tmp_path / "out" / "mirror" / "00000" / "rows.bin"
    content = bytearray(rows.read_bytes())
    content[11] ^= 1
    rows.write_bytes(content)
    with pytest.raises(ValueError, match=r"out/mirror/00000/rows\.bin"):
        sources(replace(data, shards=tmp_path / "out"), tokenizer)


def test_no_validation_is_refused(data: SentencesConfig, tiny_tokenizer: MakeTokenizer, tmp_path: Path):
    """Fewer held-out rows than a sentence has cannot be measured on."""
    tokenizer = tiny_tokenizer()
    tokenizer.save_pretrained(tmp_path / "tokenizer")
    encode(Job(tokenizer=str(tmp_path / "tokenizer"), out=tmp_path / "out", pairs=8, tasks=("mirror",)))
    with pytest.raises(ValueError, match="2 held-out rows a task make no sentence of 3: raise data.held_out"):
        sources(replace(data, shards=tmp_path / "out", held_out=2), tokenizer)
