"""Encoding: the same bytes however it went, and nothing of another job taken for one's own."""

import hashlib
import os
import shutil
from collections.abc import Callable
from dataclasses import replace
from itertools import combinations
from pathlib import Path

import pytest
import torch

from lvm import encode as encoding
from lvm.encode import Job, Pictures, encode
from lvm.tasks import pair, task, tasks
from vqtok.data import plan as planning
from vqtok.data.emoji import load_emoji
from vqtok.data.pictures import write_picture
from vqtok.data.scenes import scene
from vqtok.data.shards import Shards
from vqtok.tokenizers.tokenizer import VQTokenizer

MakeTokenizer = Callable[..., VQTokenizer]


def digests(folder: Path) -> dict[str, str]:
    """File -> hash of its bytes."""
    return {str(file.relative_to(folder)): hashlib.sha256(file.read_bytes()).hexdigest()
            for file in sorted(folder.rglob("*")) if file.is_file()}


@pytest.fixture
def job(tokenizer_folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Job:
    """Three shards of two tasks, of two, two and one pairs."""
    monkeypatch.setattr(encoding, "SHARD", 2)
    monkeypatch.setattr(encoding, "tasks", lambda **_: [task("denoise"), task("shaded to mask")])
    return Job(tokenizer=str(tokenizer_folder), out=tmp_path / "shards", pairs=5)


def test_rows_are_the_codes_of_pairs(shards: Path, tiny_tokenizer: MakeTokenizer):
    """Row k of a task is the ids of x and y of its pair k; no two tasks share a scene."""
    tokenizer, emoji, trained = tiny_tokenizer(), load_emoji("train"), tasks(held_out=False)
    for name, rows in Shards(shards).by("task").items():
        scenes = {k: scene(emoji, 0, k * len(trained) + trained.index(task(name))) for k in (0, 9)}
        made = torch.stack([pair(task(name), source, 0, k) for k, source in scenes.items()])
        ids = tokenizer.encode(made.flatten(0, 1)).view(2, -1)
        assert torch.equal(torch.stack([rows[0], rows[9]]), ids)


def test_held_out_tasks_are_never_encoded(shards: Path):
    """One folder a training task, none of a held-out one."""
    assert sorted(Shards(shards).by("task")) == sorted(one.name for one in tasks(held_out=False))


def test_an_interrupted_job_ends_in_the_same_bytes(job: Job, monkeypatch: pytest.MonkeyPatch):
    """Stopped before any shard, then started again: what is done is not done twice, and all is equal."""
    encode(job)
    straight = digests(job.out)
    assert len(straight) == 2 * 3 * 2
    write = planning.write_shard
    for stop in range(6):
        shutil.rmtree(job.out)
        written = []

        def failing(*arguments: object, stop: int = stop, written: list = written) -> None:
            if len(written) == stop:
                raise KeyboardInterrupt
            written.append(write(*arguments))

        monkeypatch.setattr(planning, "write_shard", failing)
        with pytest.raises(KeyboardInterrupt):
            encode(job)
        counted = []
        monkeypatch.setattr(planning, "write_shard", lambda *a, c=counted: c.append(write(*a)))
        encode(job)
        assert digests(job.out) == straight and len(written) + len(counted) == 6


def test_workers_share_a_job(job: Job):
    """Three processes that each do their part write what one writes."""
    encode(job)
    straight = digests(job.out)
    shutil.rmtree(job.out)
    for worker in (2, 0, 1):
        encode(replace(job, worker=worker, workers=3))
    assert digests(job.out) == straight
    with pytest.raises(ValueError, match="worker 3 is not one of 3"):
        replace(job, worker=3, workers=3)


def test_shards_of_another_job_are_refused(job: Job, tmp_path: Path, tiny_tokenizer: MakeTokenizer):
    """Another tokenizer, seed, split or number of pairs is named with both values, and nothing is written."""
    encode(job)
    before = digests(job.out)
    tiny_tokenizer(seed=1).save_pretrained(tmp_path / "other")
    changes = {"tokenizer": {"tokenizer": str(tmp_path / "other")}, "seed '0', this job has '1'": {"seed": 1},
               "source 'emoji train', this job has 'emoji test'": {"split": "test"},
               "pairs '1', this job has '2'": {"pairs": 6}}
    for told, change in changes.items():
        with pytest.raises(ValueError, match=f"was made with {told}.*: give another --out, or remove"):
            encode(replace(job, **change))
    assert digests(job.out) == before


@pytest.mark.parametrize("pairs", [0, -3])
def test_no_pairs_are_refused(job: Job, pairs: int):
    """With the least that makes sense."""
    with pytest.raises(ValueError, match=rf"{pairs} pairs.*at least 1"):
        encode(replace(job, pairs=pairs))


@pytest.mark.filterwarnings("ignore:left out 1 of 4")
def test_a_folder_gives_tasks_that_need_no_drawing(tokenizer_folder: Path, tmp_path: Path):
    """Pictures of any size are cropped; damaged ones are told, and kept in the manifest."""
    photos = tmp_path / "photos"
    for number in range(3):
        write_picture(photos / f"{number}.png", torch.rand(3, 70, 90))
    (photos / os.fsdecode(b"broken\xff.png")).write_bytes(b"no picture")  # a name that is no UTF-8
    skipped = encode(Job(tokenizer=str(tokenizer_folder), out=tmp_path / "out", data=photos, pairs=4))
    assert [Path(path).name for path in skipped] == [r"broken\xff.png"]
    found = Shards(tmp_path / "out")
    assert set(found.by("task")) == {one.name for one in tasks(held_out=False, drawn=False)}
    assert all(facts["skipped"] == skipped for facts in found.facts)


def test_each_pair_shows_another_part_of_a_picture(tmp_path: Path):
    """Other parts for other numbers, tasks and seeds; the same for the same."""
    write_picture(tmp_path / "one.png", torch.rand(3, 70, 90))
    sources, other = (Pictures(tmp_path, 16, decoders=0, seed=seed) for seed in (0, 1))
    first, second = sources.tasks[:2]
    shown = [sources.source(*one) for one in ((first, 0), (first, 1), (second, 0))] + [other.source(first, 0)]
    assert all(not torch.equal(a.pixels, b.pixels) for a, b in combinations(shown, 2))
    assert torch.equal(sources.source(first, 1).pixels, shown[1].pixels)
