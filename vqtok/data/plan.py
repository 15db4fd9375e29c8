"""Which shards there shall be, which of them are there, and who makes the rest.

A job that writes shards is a plan: numbered pieces of its source, each with the folder of its shard and the
facts that tell it from other jobs' shards. A shard appears whole (`vqtok.data.shards`), so a job that was
killed goes on by making what is missing, and ends in the same bytes. Several processes with the same plan
need not talk to one another: each does its share.

Letters: n rows, w ids in a row.
"""

from argparse import ArgumentParser
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from numpy.typing import ArrayLike

from vqtok.data.shards import MANIFEST, write_shard
from vqtok.storage.manifests import read_manifest


@dataclass(frozen=True, kw_only=True)
class Planned:
    """One shard that shall be there.

    Args:
        folder: Its own.
        items: Numbers of what becomes its rows, in the job's source.
        facts: What tells it from another job's shard in the same place, as JSON; its manifest repeats them.
    """

    folder: Path
    items: range
    facts: dict[str, Any]

    def told(self) -> dict[str, Any] | None:
        """All facts of the shard if it is there, unharmed; None if it is still to be made.

        Raises:
            ValueError: if what lies there is damaged, or another job's.
        """
        if not (self.folder / MANIFEST).exists():
            return None
        facts = read_manifest(self.folder).get("facts", {})
        for name, ours in self.facts.items():
            if facts.get(name) != ours:
                raise ValueError(
                    f"{self.folder} was made with {name} {str(facts.get(name))[:40]!r}, this job has "
                    f"{str(ours)[:40]!r}: give another --out, or remove that folder"
                )
        return facts

    def write(
        self, rows: ArrayLike, vocab: int, told: dict[str, Any], beside: Mapping[str, bytes] | None = None
    ) -> None:
        """Make the shard: (n, w) rows of ids in [0, vocab), facts beside its own, files beside its rows."""
        write_shard(self.folder, rows, vocab, self.facts | told, False, beside)


@dataclass(frozen=True, kw_only=True)
class Share:
    """The part of a job that one of several processes does.

    Args:
        worker: Number of this process, from 0.
        workers: Processes, on one machine or many, that were given the same job.
    """

    worker: int = 0
    workers: int = 1

    def __post_init__(self) -> None:
        if not 0 <= self.worker < self.workers:
            raise ValueError(
                f"worker {self.worker} is not one of {self.workers}, counted from 0: change one of them"
            )

    @staticmethod
    def add_flags(parser: ArgumentParser) -> None:
        """The same as flags of a command, `--worker` and `--workers`."""
        told = "number of this process, from 0 [%(default)s]"
        parser.add_argument("--worker", type=int, default=0, metavar="K", help=told)
        told = "processes that share the job, started by you [%(default)s]"
        parser.add_argument("--workers", type=int, default=1, metavar="N", help=told)

    def of(self, plan: Sequence[Planned]) -> list[Planned]:
        """Every `workers`-th shard of a plan, so that shares differ by one shard at most."""
        return list(plan[self.worker :: self.workers])


def items(shards: Iterable[Planned]) -> int:
    """How many items there are in some shards."""
    return sum(len(shard.items) for shard in shards)


def pieces(numbers: range, size: int) -> list[range]:
    """`numbers` in pieces of `size`, the last of what remains."""
    return [numbers[start : start + size] for start in range(0, len(numbers), size)]
