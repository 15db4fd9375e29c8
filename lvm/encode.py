"""Pictures -> shards of rows: every row is what a task makes at once, a pair [x y] mostly, as token ids.

Which rows make a sentence is decided in training (`lvm.sentences.Sentences`), so that a few thousand rows a
task make an endless supply of sentences. One folder a task holds numbered shards; those that are there are
not made again, so an interrupted run goes on where it was, with the same bytes.

Letters: c h w image, n rows, u images of a row, t tokens of an image.
"""

import argparse
import zlib
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from einops import rearrange
from torch import Tensor

from lvm.augment import augmented
from lvm.model import usable
from lvm.origins import Origin, Picture, Supply
from lvm.rules import Task
from lvm.sentences import member_of
from lvm.tasks import named, row, tasks
from vqtok.data.emoji import SPLITS
from vqtok.data.folders import PictureFolder, printable
from vqtok.data.plan import Planned, Share, items, pieces
from vqtok.data.views import window
from vqtok.tokenizers import load_tokenizer
from vqtok.tokenizers.fingerprint import fingerprint
from vqtok.tokenizers.tokenizer import VQTokenizer
from vqtok.training.progress import Meter

SHARD = 1000  # rows
WHOLE = 1.5  # a folder's pictures are read so many times as wide as the parts of them that are shown
KEPT = 2**30  # bytes of a folder's pixels that are held in memory; beyond, each row decodes its picture


@dataclass(frozen=True, kw_only=True)
class Job(Share):
    """What to encode, and which share of it.

    Args:
        tokenizer: Folder or hub id.
        out: Receives one folder of shards a task.
        data: Folder of pictures; None draws scenes of the embedded emoji.
        pairs: Rows of each task; pairs, mostly.
        tasks: Names of tasks, or of kinds of tasks; none means all that are trained and that the pictures can
            serve.
        augment: Rows, at most, that are made of each origin: the first as it is, the others with all their
            images mirrored or their hues turned alike, for tasks of which there is little.
        untrained: Whether rows of parametrised tasks are of members that are kept from training.
        split: Which of the embedded emoji; a folder has no splits.
        seed: Of scenes and of random tasks.
        decoders: Processes that decode the folder's pictures; 0 decodes in this one.
    """

    tokenizer: str
    out: Path
    data: Path | None = None
    pairs: int = 4000
    tasks: tuple[str, ...] = ()
    augment: int = 1
    untrained: bool = False
    split: str = "train"
    seed: int = 0
    decoders: int = 1

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.seed < 0:
            raise ValueError(f"seed {self.seed} is below 0: give any whole number from 0")
        if self.pairs < 1:
            raise ValueError(f"{self.pairs} pairs are nothing to encode: ask for at least 1")
        if not 1 <= self.augment <= self.pairs:
            raise ValueError(f"augment {self.augment} is outside [1, {self.pairs}], the rows: 1 changes none")


class Scenes:
    """Origins without end: scenes of a split's emoji, other ones for every task."""

    def __init__(self, job: Job) -> None:
        self.supply, self.seed = Supply(job.split), job.seed
        self.tasks = _chosen(job.tasks, [one for one in tasks() if self.supply.has(one.of)])
        self.skipped: dict[str, str] = {}
        self.origins = -(-job.pairs // job.augment)
        # Where each row is of its own origin, a longer job has the same rows and more.
        pictures = self.origins if job.augment > 1 else None
        self.facts = {"source": f"emoji {job.split}", "pictures": pictures}

    def origin(self, task: Task, index: int) -> Origin:
        """Origin number `index` of a task's rows."""
        return self.supply.origin(task.of, self.seed, (_apart(task) << 32) + index)


class Pictures:
    """The pictures of a folder, over and over, each time another part of them.

    A few hundred pictures, always the same, would soon be known by heart.
    """

    def __init__(self, job: Job, size: int) -> None:
        whole = round(size * WHOLE)
        self.size, self.seed, self.folder = size, job.seed, PictureFolder(job.data, whole, fit="crop")
        self.folder.scan(job.decoders, keep=len(self.folder) * 3 * whole**2 <= KEPT)
        self.tasks = _chosen(job.tasks, tasks(of="picture"))
        self.skipped = {printable(path): reason for path, reason in self.folder.corrupt.items()}
        pictures, origins = len(self.folder), -(-job.pairs // job.augment)
        # Beyond one of each picture, whole rounds: then row k shows picture k modulo their number.
        rounds = origins > pictures and job.augment > 1
        self.origins = -(-origins // pictures) * pictures if rounds else origins
        self.facts = {"source": str(job.data), "files": self.folder.digest(range(pictures))}
        self.facts["pictures"] = min(self.origins, pictures)

    def origin(self, task: Task, index: int) -> Picture:
        """Origin number `index` of a task's rows."""
        rng = np.random.default_rng((self.seed, _apart(task), index))
        return Picture(window(self.folder[index % len(self.folder)], self.size, rng))


def encode(job: Job) -> dict[str, str]:
    """Write all shards of `job` that are not there yet; returns pictures left out, with reasons.

    Raises:
        ValueError: if the tokenizer or the folder cannot be used, or cannot serve a task.
    """
    tokenizer = usable(load_tokenizer(job.tokenizer), job.tokenizer)
    tokenizer.to("cuda" if torch.cuda.is_available() else "cpu")
    source = Scenes(job) if job.data is None else Pictures(job, tokenizer.config.size)
    shards = job.of(plan(job, source, fingerprint(tokenizer)))
    missing = [shard for shard in shards if shard.told() is None]
    told = {"tokens": tokenizer.tokens, "skipped": source.skipped}
    by_name = {task.name: task for task in source.tasks}
    with Meter(items(shards) - items(missing), items(shards), batch=1, shown=True, unit="row") as meter:
        done = meter.start
        for shard in missing:
            rows = [*encoded(tokenizer, by_name[shard.facts["task"]], source, job, shard.items)]
            shard.write(torch.cat(rows).numpy(), tokenizer.vocab, told)
            done += len(shard.items)
            meter.show(done, {})
    return source.skipped


def plan(job: Job, source: Scenes | Pictures, mark: str) -> list[Planned]:
    """The shards of all tasks by the tokenizer of that mark; every task's first comes before any second."""
    facts = {"tokenizer": mark, "seed": job.seed, "augment": job.augment, "untrained": job.untrained,
             **source.facts}
    return [
        Planned(
            folder=job.out / task.name.replace(" ", "-").replace(",", "") / f"{piece.start // SHARD:05d}",
            items=piece,
            facts={"task": task.name, "form": task.form.facts(), "members": task.members, **facts,
                   "first": piece.start, "rows": len(piece)},
        )
        for piece in pieces(range(job.pairs), SHARD)
        for task in source.tasks
    ]


@torch.inference_mode()
def encoded(
    tokenizer: VQTokenizer, task: Task, source: Scenes | Pictures, job: Job, numbers: range, batch: int = 64
) -> Iterator[Tensor]:
    """(n, u t) ids of the rows of a task, batch by batch."""
    for part in pieces(numbers, batch):
        rows = torch.stack([_row(task, source, job, index) for index in part])
        images = rearrange(rows, "n u c h w -> (n u) c h w").to(next(tokenizer.parameters()).device)
        yield rearrange(tokenizer.encode(images), "(n u) i j -> n (u i j)", n=len(rows)).cpu()


def _apart(task: Task) -> int:
    """What keeps a task's origins from being those of other tasks, also of those whose names end alike."""
    return zlib.crc32(task.name.encode())


def _row(task: Task, source: Scenes | Pictures, job: Job, index: int) -> Tensor:
    """(u, c, h, w), row number `index`: which origin, which member, and which change made to all alike."""
    version, place = divmod(index, source.origins)
    origin = source.origin(task, place)
    member = int(member_of(index, task.members)) + task.members * job.untrained
    made = row(task, origin, job.seed, index, member)
    return augmented(made, task, np.random.default_rng((job.seed, index, 11))) if version else made


def _chosen(names: tuple[str, ...], able: list[Task]) -> list[Task]:
    """The tasks of these names or kinds, or all that are trained, of those that are able.

    Raises:
        ValueError: if one is unknown, or these pictures cannot serve it.
    """
    chosen = named(names) if names else [one for one in able if not one.held_out]
    for one in chosen:
        if one not in able:
            raise ValueError(
                f"these pictures cannot serve task {one.name!r}, which needs {one.of}: choose of "
                f"{', '.join(other.name for other in able)}"
            )
    return chosen


def main(argv: list[str] | None = None) -> None:
    """`vqtok encode --pairs N`: pictures to shards of rows."""
    about = "Turn pictures into token shards of task pairs, and of other rows, for the LVM."
    parser = argparse.ArgumentParser("vqtok encode --pairs N", description=about)
    add = parser.add_argument
    add("--tokenizer", required=True, help="folder or hub id, of a tokenizer or of an LVM with its own")
    add("--out", required=True, type=Path, metavar="FOLDER", help="for the shards, one folder a task")
    add("--data", type=Path, metavar="FOLDER", help="pictures; scenes of emoji unless given")
    add("--pairs", type=int, default=4000, metavar="N", help="rows, mostly pairs, of each task [%(default)s]")
    add("--tasks", nargs="+", default=(), metavar="NAME", help="or kinds of them; all trained ones if none")
    add("--augment", type=int, default=1, metavar="N", help="rows of an origin, changed alike [%(default)s]")
    untrained = "of tasks with parameters, those kept from training"
    add("--untrained", action="store_true", help=untrained)
    add("--split", choices=SPLITS, default="train", help="of the embedded emoji [%(default)s]")
    add("--seed", type=int, default=0, help="of scenes and random tasks [%(default)s]")
    add("--decoders", type=int, default=1, metavar="N", help="processes that decode --data [%(default)s]")
    Share.add_flags(parser)
    given = vars(parser.parse_args(argv))
    job = Job(**given | {"tasks": tuple(given["tasks"])})
    skipped = encode(job)
    for path, reason in skipped.items():
        print(f"left out {path}: {reason}")
    print(f"{job.out}: shards of {job.pairs} rows a task, {len(skipped)} pictures left out")


if __name__ == "__main__":
    main()
