"""A plan of shards: what is there, what is another job's, and who makes the rest."""

from argparse import ArgumentParser
from pathlib import Path

import pytest

from vqtok.data.plan import Planned, Share, items, pieces


def test_pieces():
    """They cover the numbers in order; the last holds what remains."""
    assert pieces(range(7), 3) == [range(0, 3), range(3, 6), range(6, 7)]
    assert pieces(range(4, 8), 2) == [range(4, 6), range(6, 8)] and pieces(range(0), 3) == []


@pytest.mark.parametrize("workers", [1, 2, 3, 9])
def test_shares(workers: int):
    """Together they are the plan, each shard once, and no share is larger than another by more than one."""
    plan = [Planned(folder=Path(str(n)), items=range(n, n + 2), facts={}) for n in range(7)]
    shares = [Share(worker=worker, workers=workers).of(plan) for worker in range(workers)]
    made = sorted(shard.items.start for share in shares for shard in share)
    assert made == list(range(7)) and items(plan) == 14
    assert max(map(len, shares)) - min(map(len, shares)) <= 1


@pytest.mark.parametrize(("worker", "workers"), [(-1, 2), (2, 2), (0, 0)])
def test_no_such_share(worker: int, workers: int):
    """A worker is one of its workers."""
    with pytest.raises(ValueError, match=f"worker {worker} is not one of {workers}, counted from 0"):
        Share(worker=worker, workers=workers)


def test_shares_as_flags():
    """Commands that share a job have the same two flags, alone by default."""
    parser = ArgumentParser()
    Share.add_flags(parser)
    assert Share(**vars(parser.parse_args([]))) == Share()
    assert Share(**vars(parser.parse_args(["--worker=1", "--workers=3"]))) == Share(worker=1, workers=3)


def test_a_shard_tells_whose_it_is(tmp_path: Path):
    """None before it is written, its facts afterwards; facts that differ are named with both values."""
    shard = Planned(folder=tmp_path / "a", items=range(2), facts={"seed": 0, "files": "abc"})
    assert shard.told() is None
    shard.write([[1, 2], [3, 0]], vocab=4, told={"skipped": {}})
    assert shard.told() == {"seed": 0, "files": "abc", "skipped": {}}
    other = Planned(folder=tmp_path / "a", items=range(2), facts={"seed": 1, "files": "abc"})
    with pytest.raises(ValueError, match="a was made with seed '0', this job has '1': give another --out"):
        other.told()


def test_a_damaged_shard_is_not_there_and_not_made_again(tmp_path: Path):
    """It is named instead, since somebody has to look."""
    shard = Planned(folder=tmp_path / "a", items=range(2), facts={})
    shard.write([[1, 2], [3, 0]], vocab=4, told={})
    (tmp_path / "a" / "rows.bin").write_bytes(b"1")
    with pytest.raises(ValueError, match="rows.bin has 1 of 8 bytes"):
        shard.told()
