"""Token shards: whole or absent, and never mixed."""

import json
import multiprocessing
import os
import pickle
import random
import signal
import sys
import time
from pathlib import Path

import numpy as np
import pytest
import torch

from vqtok.data import shards as module
from vqtok.data.shards import Shards, write_shard


def ids(rows: int, width: int, vocab: int, seed: int = 0) -> np.ndarray:
    """(rows, width) int64 in [0, vocab)."""
    return np.random.default_rng(seed).integers(0, vocab, (rows, width))


@pytest.fixture
def shard(tmp_path: Path) -> Path:
    """One finished shard of 5 rows of 4 ids."""
    write_shard(tmp_path / "all" / "one", ids(5, 4, 1024), 1024, {"tokenizer": "abc", "task": "flat"})
    return tmp_path / "all" / "one"


def test_layout_on_disk(shard: Path) -> None:
    """Rows are plain little-endian integers that numpy alone can read; the manifest says all it takes."""
    manifest = json.loads((shard / "manifest.json").read_text())
    assert [manifest[key] for key in ("rows", "width", "vocab", "dtype")] == [5, 4, 1024, "uint16"]
    assert manifest["facts"] == {"tokenizer": "abc", "task": "flat"}
    assert np.array_equal(np.fromfile(shard / "rows.bin", "<u2").reshape(5, 4), ids(5, 4, 1024))
    assert sorted(path.name for path in shard.iterdir()) == ["manifest.json", "rows.bin"]


def test_wide_vocabularies_take_four_bytes(tmp_path: Path) -> None:
    """65,536 ids fit two bytes; one more takes four."""
    for vocab, size in ((65_536, 2), (65_537, 4)):
        rows = np.array([[0, vocab - 1]])
        write_shard(tmp_path / str(vocab), rows, vocab)
        assert (tmp_path / str(vocab) / "rows.bin").stat().st_size == 2 * size
        assert Shards(tmp_path / str(vocab))[0].tolist() == [0, vocab - 1]


def test_shards_are_one_sequence(tmp_path: Path) -> None:
    """Shards of any depth line up in the order of their names; a tensor is as good as an array."""
    parts = [ids(count, 4, 100, seed=count) for count in (3, 1, 6)]
    for name, part in zip(("b/0", "a", "b/1"), parts, strict=True):
        write_shard(tmp_path / name, torch.from_numpy(part), 100, {"name": name})
    rows = Shards(tmp_path)
    expected = torch.from_numpy(np.concatenate([parts[1], parts[0], parts[2]]))
    assert len(rows) == 10 and (rows.vocab, rows.width, rows.tokenizer) == (100, 4, None)
    assert torch.equal(torch.stack(list(rows)), expected) and rows[0].dtype == torch.int64
    assert [facts["name"] for facts in rows.facts] == ["a", "b/0", "b/1"]
    assert [folder.relative_to(tmp_path).as_posix() for folder in rows.folders] == ["a", "b/0", "b/1"]
    for index in (-1, 10):
        with pytest.raises(IndexError, match=f"row {index} of 10"):
            rows[index]


def test_by_groups_shards(shard: Path) -> None:
    """`by` splits the sequence by a fact; a fact that a shard lacks is named."""
    write_shard(shard.parent / "two", ids(2, 4, 1024, 1), 1024, {"tokenizer": "abc", "task": "line"})
    write_shard(shard.parent / "three", ids(3, 4, 1024, 2), 1024, {"tokenizer": "abc", "task": "flat"})
    tasks = Shards.by("task", shard.parent)
    assert {task: len(rows) for task, rows in tasks.items()} == {"flat": 8, "line": 2}
    assert torch.equal(tasks["line"][1], torch.from_numpy(ids(2, 4, 1024, 1)[1]))
    with pytest.raises(ValueError, match="'style', only task, tokenizer"):
        Shards.by("style", shard.parent)


@pytest.mark.parametrize(
    ("rows", "message"),
    [
        ([[0, 1], [7, 10]], r"id 10 \(row 1, place 1; 1 such\) is outside a vocabulary of 10: pass"),
        ([[-1, 1]], r"id -1 \(row 0, place 0; 1 such\)"),
        ([[0.5]], "float64 rows"),
        ([1, 2], r"shape \(2,\)"),
        (np.zeros((4, 0), dtype=int), r"shape \(4, 0\)"),
    ],
)
def test_wrong_rows_are_refused(tmp_path: Path, rows: object, message: str) -> None:
    """Ids outside the vocabulary and wrong shapes raise, and nothing is written."""
    with pytest.raises(ValueError, match=message):
        write_shard(tmp_path / "shard", rows, vocab=10)
    assert not list(tmp_path.iterdir())


def test_vocabulary_must_fit(tmp_path: Path) -> None:
    """No uint32 holds an id of a vocabulary beyond 2^32."""
    with pytest.raises(ValueError, match="give 1 to 4294967296"):
        write_shard(tmp_path / "shard", [[0]], vocab=2**32 + 1)


def test_unjsonable_facts_leave_nothing(tmp_path: Path) -> None:
    """Facts that are no JSON raise, and no folder appears."""
    with pytest.raises(TypeError):
        write_shard(tmp_path / "shard", [[0]], 1, {"tokenizer": torch.zeros(1)})
    assert not list(tmp_path.iterdir())


def test_existing_shard_is_kept_unless_replaced(shard: Path) -> None:
    """Writing over a shard needs `replace`; readers of the old one keep it, or hear that it is gone."""
    opened, unread = Shards(shard), Shards(shard)
    first = opened[0]
    with pytest.raises(FileExistsError):
        write_shard(shard, ids(1, 4, 1024, seed=9), 1024)
    write_shard(shard, ids(1, 4, 1024, seed=9), 1024, replace=True)
    assert torch.equal(torch.stack(list(Shards(shard))), torch.from_numpy(ids(1, 4, 1024, seed=9)))
    assert torch.equal(opened[0], first)
    with pytest.raises(ValueError, match="rows.bin was replaced after it was opened"):
        unread[0]


def test_groups_may_differ(tmp_path: Path) -> None:
    """In width, vocabulary or tokenizer; shards of one group may not, and each must say its group."""
    for name, task, width in (("0", "pairs", 4), ("1", "films", 10), ("2", "pairs", 4)):
        write_shard(tmp_path / "all" / name, ids(3, width, 50), 50, {"task": task})
    found = Shards.by("task", tmp_path / "all")
    shapes = {task: (len(rows), rows.width) for task, rows in found.items()}
    assert shapes == {"films": (3, 10), "pairs": (6, 4)}
    assert [folder.name for folder in found["pairs"].folders] == ["0", "2"]
    assert torch.equal(found["films"][1], torch.from_numpy(ids(3, 10, 50))[1])
    with pytest.raises(ValueError, match="different width do not mix"):
        Shards(tmp_path / "all")
    with pytest.raises(ValueError, match="does not say its 'form', only task"):
        Shards.by("form", tmp_path / "all")
    write_shard(tmp_path / "all" / "3", ids(3, 5, 50), 50, {"task": "pairs"})
    with pytest.raises(ValueError, match="different width do not mix"):
        Shards.by("task", tmp_path / "all")
    with pytest.raises(ValueError, match="no finished shard under"):
        (tmp_path / "none").mkdir(), Shards.by("task", tmp_path / "none")


@pytest.mark.parametrize(
    ("vocab", "width", "tokenizer"), [(1025, 4, "abc"), (1024, 5, "abc"), (1024, 4, "xyz")]
)
def test_shards_that_differ_do_not_mix(shard: Path, vocab: int, width: int, tokenizer: str) -> None:
    """Another vocabulary, width or tokenizer is refused, naming both shards."""
    write_shard(shard.parent / "two", ids(2, width, vocab), vocab, {"tokenizer": tokenizer})
    with pytest.raises(ValueError, match=r"different (vocab|width|tokenizer) do not mix: .*one.*two"):
        Shards(shard.parent)


def test_unknown_tokenizer_does_not_mix_with_a_known_one(shard: Path) -> None:
    """A shard that does not say its tokenizer is not taken for one of the others'."""
    write_shard(shard.parent / "two", ids(2, 4, 1024), 1024)
    with pytest.raises(ValueError, match="different tokenizer"):
        Shards(shard.parent)


@pytest.mark.parametrize("name", ["rows.bin", "manifest.json"])
def test_every_flipped_byte_is_refused(shard: Path, name: str) -> None:
    """One flipped bit anywhere in the rows or in the manifest's meaning is found on opening."""
    whole = (shard / name).read_bytes()
    expected = torch.stack(list(Shards(shard)))
    survived = []
    for place in range(len(whole)):
        damaged = whole[:place] + bytes([whole[place] ^ 1]) + whole[place + 1 :]
        (shard / name).write_bytes(damaged)
        try:
            assert torch.equal(torch.stack(list(Shards(shard))), expected)
            survived.append(whole[place : place + 1])
        except ValueError as error:
            assert str(shard) in str(error)
    # layout between the JSON's words may change without changing what it says
    assert not survived or name == "manifest.json" and {*survived} <= {b" ", b"\n"}


@pytest.mark.parametrize("verify", [True, False])
def test_truncation_is_refused(shard: Path, verify: bool) -> None:
    """Rows cut short are found by their length, hashes or not; so is a manifest cut short, and lost rows."""
    for name in ("rows.bin", "manifest.json"):
        whole = (shard / name).read_bytes()
        for length in (0, 1, len(whole) // 2, len(whole) - 2):
            (shard / name).write_bytes(whole[:length])
            with pytest.raises(ValueError, match=name):
                Shards(shard, verify=verify)
        (shard / name).write_bytes(whole)
    (shard / "rows.bin").unlink()
    with pytest.raises(ValueError, match="rows.bin is missing"):
        Shards(shard, verify=verify)


def test_without_manifest_it_is_unfinished(shard: Path) -> None:
    """A folder without manifest is passed over and said so; if there is no other, that is an error."""
    (shard.parent / "half").mkdir()
    (shard.parent / "half" / "rows.bin").write_bytes(b"\0" * 40)
    rows = Shards(shard.parent)
    assert rows.unfinished == [shard.parent / "half"] and len(rows) == 5
    with pytest.raises(ValueError, match="no finished shard under .*half, 1 unfinished"):
        Shards(shard.parent / "half")
    with pytest.raises(ValueError, match="no finished shard under .*, 0 unfinished"):
        (shard.parent / "empty").mkdir()
        Shards(shard.parent / "empty")
    with pytest.raises(ValueError, match="no folder"):
        Shards(shard.parent / "gone")


def test_manifests_of_other_things_are_refused(shard: Path) -> None:
    """A folder with another kind of manifest among the shards is named, not guessed at."""
    (shard.parent / "model").mkdir()
    (shard.parent / "model" / "manifest.json").write_text('{"format": "weights", "files": {}}')
    with pytest.raises(ValueError, match="model holds 'weights'"):
        Shards(shard.parent)


def test_pickling_is_cheap(tmp_path: Path) -> None:
    """A million ids in use travel as less than a kilobyte, and are there on the other side."""
    write_shard(tmp_path / "one", ids(1000, 1000, 512), 512)
    rows = Shards(tmp_path)
    last = rows[999]
    parcel = pickle.dumps(rows)
    assert len(parcel) < 1000
    assert torch.equal(pickle.loads(parcel)[999], last)


@pytest.mark.skipif(sys.platform != "linux", reason="only Linux lists descriptors under /proc")
def test_many_shards_need_few_descriptors(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """However many shards are read, no more files stay open than are remembered."""
    monkeypatch.setattr(module, "_mapped", module.lru_cache(maxsize=4)(module._mapped.__wrapped__))
    for name in range(12):
        write_shard(tmp_path / f"{name:02}", [[name]], 12)
    rows = Shards(tmp_path, verify=False)
    before = len(os.listdir("/proc/self/fd"))
    assert [int(rows[index % 12]) for index in range(36)] == [*range(12)] * 3
    assert len(os.listdir("/proc/self/fd")) <= before + 4


def write_forever(folder: Path) -> None:
    """What the killed process does: new shards, then the same again in their place."""
    for turn in range(10_000):
        rows = ids(200, 64, 4096, seed=turn % 3)
        write_shard(folder / f"shard-{turn % 3}", rows, 4096, {"turn": turn}, replace=True)


def test_kill_leaves_only_whole_shards(tmp_path: Path) -> None:
    """After kill -9 at 25 random moments every shard there is opens with the rows that were to be in it."""
    moments, inside = random.Random(0), 0
    for _ in range(25):
        writer = multiprocessing.get_context("fork").Process(target=write_forever, args=(tmp_path,))
        writer.start()
        while not [*tmp_path.glob("shard-*")]:  # the first shard is let pass, however slow the disk
            time.sleep(0.001)
        time.sleep(moments.uniform(0.005, 0.06))
        os.kill(writer.pid, signal.SIGKILL)
        writer.join()
        assert writer.exitcode == -signal.SIGKILL
        inside += bool([*tmp_path.glob(".*vqtok-part")])
        for path in tmp_path.glob("shard-*"):
            expected = torch.from_numpy(ids(200, 64, 4096, int(path.name[-1])))
            assert torch.equal(torch.stack(list(Shards(path))), expected)
    assert inside, "no writer was killed while it wrote: this shows nothing"
    write_shard(tmp_path / "last", ids(1, 64, 4096), 4096)
    assert not Shards(tmp_path).unfinished  # the next writer sweeps up what the dead ones left


@pytest.mark.parametrize("step", ["rows", "manifest"])
def test_death_before_the_rename_is_unfinished(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, step: str
) -> None:
    """A writer that dies after its rows, or even after its manifest, leaves nothing that opens."""
    real = module.write_manifest

    def dying(*arguments: object) -> None:
        if step == "manifest":
            real(*arguments)
        os.kill(os.getpid(), signal.SIGKILL)

    monkeypatch.setattr(module, "write_manifest", dying)
    writer = multiprocessing.get_context("fork").Process(target=write_shard, args=(tmp_path / "a", [[1]], 2))
    writer.start()
    writer.join()
    with pytest.raises(ValueError, match="no finished shard .*, 1 unfinished"):
        Shards(tmp_path)


def test_full_disk_leaves_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A disk that fills up while rows are written: the system's own error, and no trace."""

    def full(path: Path, data: bytes) -> int:
        raise OSError(28, "No space left on device", str(path))

    monkeypatch.setattr(Path, "write_bytes", full)
    with pytest.raises(OSError, match="No space left"):
        write_shard(tmp_path / "a", [[1]], 2)
    assert not list(tmp_path.iterdir())
