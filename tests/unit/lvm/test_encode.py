"""Encoding: the same bytes however it went, and nothing of another job taken for one's own."""

import hashlib
import os
import shutil
import signal
import traceback
from collections.abc import Callable
from dataclasses import replace
from itertools import combinations
from pathlib import Path

import numpy as np
import pytest
import torch

from lvm import encode as encoding
from lvm.augment import augmented
from lvm.encode import Job, Pictures, Scenes, encode
from lvm.sentences import BLOCK, member_of, rows_of
from lvm.tasks import row, task, tasks
from vqtok.data import plan as planning
from vqtok.data.pictures import write_picture
from vqtok.data.shards import Shards
from vqtok.storage import folders
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
    names = ("denoise", "shaded to mask")
    return Job(tokenizer=str(tokenizer_folder), out=tmp_path / "shards", pairs=5, tasks=names)


def test_rows_are_the_codes_of_their_pictures(shards: Path, tiny_tokenizer: MakeTokenizer):
    """Row k of a task is the ids of its images, of member 0 for the first eight; tasks share no origins."""
    tokenizer, source, origins = tiny_tokenizer(), Scenes(Job(tokenizer="", out=shards, pairs=10)), []
    for name, rows in Shards.by("task", shards).items():
        for k in (0, 9):
            made = row(task(name), source.origin(task(name), k), 0, k, member=k // BLOCK)
            assert torch.equal(rows[k].view(len(made), -1), tokenizer.encode(made).flatten(1))
        found = rows_of(rows)
        assert (found.form, found.members) == (task(name).form, task(name).members)
        origins.append([source.origin(task(name), k) for k in range(5)])  # one alone may be alike by chance
    assert not any(one == other for one, other in combinations(origins, 2))


def test_held_out_tasks_are_encoded_by_name_only(shards: Path, job: Job):
    """One folder a training task, none of a held-out one, unless it is asked for; a kind is its tasks."""
    assert sorted(Shards.by("task", shards)) == sorted(one.name for one in tasks(held_out=False))
    encode(replace(job, pairs=1, tasks=("upend", "color", "invert")))
    assert set(Shards.by("task", job.out)) == {"upend", "invert", "recolor", "tint"}


def test_members_kept_from_training_are_encoded_on_demand(job: Job, tiny_tokenizer: MakeTokenizer):
    """Rows of them are of members that no training row is of."""
    encode(replace(job, pairs=9, tasks=("recolor",), untrained=True))
    rows, source = Shards(job.out), Scenes(replace(job, pairs=9))
    for k, member in ((0, 64), (8, 65)):
        made = row(task("recolor"), source.origin(task("recolor"), k), 0, k, member)
        assert torch.equal(rows[k], tiny_tokenizer().encode(made).flatten())


def test_augmented_rows_are_changed_alike(job: Job, tiny_tokenizer: MakeTokenizer):
    """Of three origins seven rows: the first three as they are, then the same again, changed."""
    job = replace(job, pairs=7, augment=3, tasks=("invert", "recolor"))
    encode(job)
    source = Scenes(job)
    assert source.origins == 3
    for name, rows in Shards.by("task", job.out).items():
        assert rows_of(rows).pictures.tolist() == [0, 1, 2, 0, 1, 2, 0]
        for k in range(7):
            member = int(member_of(k, task(name).members))
            made = row(task(name), source.origin(task(name), k % 3), 0, k, member)
            made = augmented(made, task(name), np.random.default_rng((0, k, 11))) if k >= 3 else made
            assert torch.equal(rows[k], tiny_tokenizer().encode(made).flatten())
    for augment in (0, 8):
        with pytest.raises(ValueError, match=rf"augment {augment} is outside \[1, 7\]"):
            replace(job, augment=augment)


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


def test_a_longer_job_goes_on_where_another_ended(job: Job):
    """Whole shards are those of the longer job, which makes the rest."""
    encode(replace(job, pairs=4))
    first = digests(job.out)
    encode(job)
    assert first.items() < digests(job.out).items() and len(Shards.by("task", job.out)["denoise"]) == 5


@pytest.mark.parametrize("moment", [1, 3, 4, 6, 9, 12])
def test_kill_9(job: Job, moment: int, monkeypatch: pytest.MonkeyPatch):
    """Killed by SIGKILL at any flush to the disk, the job leaves whole shards, and ends in the same bytes."""
    job = replace(job, tasks=("denoise", "skin tones"))
    encode(job)
    straight = digests(job.out)
    shutil.rmtree(job.out)
    assert killed(job, moment, monkeypatch)
    whole = [path for task in job.out.iterdir() for path in task.iterdir()
             if not folders.TEMPORARY.fullmatch(path.name)]  # fmt: skip
    assert all((path / name).is_file() for path in whole for name in ("rows.bin", "manifest.json"))
    encode(job)
    assert digests(job.out) == straight


def killed(job: Job, moment: int, monkeypatch: pytest.MonkeyPatch) -> bool:
    """Whether a child that encodes was killed, as it is meant to be at its `moment`th flush."""
    child = os.fork()
    if child:
        status = os.waitpid(child, 0)[1]
        return os.WIFSIGNALED(status) and os.WTERMSIG(status) == signal.SIGKILL
    try:
        count, flush = iter(range(1, 1000)), folders.flush

        def fatal(path: Path) -> None:
            if next(count) == moment:
                os.kill(os.getpid(), signal.SIGKILL)
            flush(path)

        monkeypatch.setattr(folders, "flush", fatal)
        encode(job)
    except BaseException:
        traceback.print_exc()
    finally:
        os._exit(0)


def test_shards_of_another_job_are_refused(job: Job, tmp_path: Path, tiny_tokenizer: MakeTokenizer):
    """Another tokenizer, seed, split or number of pairs is named with both values, and nothing is written."""
    encode(job)
    before = digests(job.out)
    tiny_tokenizer(seed=1).save_pretrained(tmp_path / "other")
    changes = {"tokenizer": {"tokenizer": str(tmp_path / "other")}, "seed '0', this job has '1'": {"seed": 1},
               "source 'emoji train', this job has 'emoji test'": {"split": "test"},
               "rows '1', this job has '2'": {"pairs": 6},
               "augment '1', this job has '2'": {"augment": 2}}
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
    found = Shards.by("task", tmp_path / "out")
    assert set(found) == {one.name for one in tasks(held_out=False, of="picture")}
    assert all(facts["skipped"] == skipped for shards in found.values() for facts in shards.facts)


@pytest.mark.parametrize("name", ["shaded to flat", "flat to line", "skin tones"])
def test_tasks_that_need_drawings_are_refused_of_a_folder(name: str, tokenizer_folder: Path, tmp_path: Path):
    """Trained or not, with what they need and what there is to choose from."""
    write_picture(tmp_path / "photos" / "0.png", torch.rand(3, 70, 90))
    told = f"cannot serve task '{name}', which needs (scene|tones): choose of find the hole, .*single"
    job = Job(tokenizer=str(tokenizer_folder), out=tmp_path / "out", data=tmp_path / "photos", tasks=(name,))
    with pytest.raises(ValueError, match=told):
        encode(job)
    with pytest.raises(ValueError, match="cannot serve task 'clock and moon', which needs clock"):
        Scenes(Job(tokenizer="", out=tmp_path, split="test", tasks=("clock and moon",)))


def pictures(folder: Path, seed: int = 0, **options: object) -> Pictures:
    """Of a folder, at 16 pixels."""
    return Pictures(Job(tokenizer="", out=folder, data=folder, seed=seed, decoders=0, **options), size=16)


def test_each_row_shows_another_part_of_a_picture(tmp_path: Path):
    """Other parts for other numbers, tasks and seeds; the same for the same."""
    write_picture(tmp_path / "one.png", torch.rand(3, 70, 90))
    source, other = (pictures(tmp_path, seed) for seed in (0, 1))
    first, second = source.tasks[:2]
    shown = [source.origin(*one) for one in ((first, 0), (first, 1), (second, 0))] + [other.origin(first, 0)]
    assert all(not torch.equal(a.pixels, b.pixels) for a, b in combinations(shown, 2))
    assert torch.equal(source.origin(first, 1).pixels, shown[1].pixels)


@pytest.mark.parametrize(("pairs", "augment", "origins"), [(14, 1, 14), (14, 2, 10), (12, 4, 3), (20, 4, 5)])
def test_row_k_shows_picture_k_modulo_their_number(tmp_path: Path, pairs: int, augment: int, origins: int):
    """However many rows are made of a picture: no sentence may show one twice."""
    for number in range(5):
        write_picture(tmp_path / f"{number}.png", torch.full((3, 32, 32), number / 5))
    source = pictures(tmp_path, pairs=pairs, augment=augment)
    assert source.origins == origins
    for k in range(pairs):
        shown = float(source.origin(source.tasks[0], k % origins).pixels.mean())
        assert shown == pytest.approx(k % source.facts["pictures"] / 5, abs=0.01)  # 8 bits
