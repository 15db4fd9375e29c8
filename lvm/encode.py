"""Pictures -> shards of pairs: every row is one pair [x y] of one task, as token ids.

Which pairs make a sentence is decided in training (`lvm.sentences.Sentences`), so that a few thousand pairs a
task make an endless supply of sentences. One folder a task holds numbered shards; those that are there are
not made again, so an interrupted run goes on where it was, with the same bytes.

Letters: c h w image, n pairs, t tokens of an image.
"""

import argparse
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from einops import rearrange
from torch import Tensor

from lvm.model import usable
from lvm.tasks import Picture, Task, pair, tasks
from vqtok.data.emoji import SPLITS, load_emoji
from vqtok.data.folders import PictureFolder, printable
from vqtok.data.plan import Planned, Share, items, pieces
from vqtok.data.scenes import Scene, scene
from vqtok.data.views import window
from vqtok.tokenizers import load_tokenizer
from vqtok.tokenizers.fingerprint import fingerprint
from vqtok.tokenizers.tokenizer import VQTokenizer
from vqtok.training.progress import Meter

SHARD = 1000  # pairs
WHOLE = 1.5  # a folder's pictures are read so many times as wide as the parts of them that are shown
KEPT = 2**30  # bytes of a folder's pixels that are held in memory; beyond, each pair decodes its picture


@dataclass(frozen=True, kw_only=True)
class Job(Share):
    """What to encode, and which share of it.

    Args:
        tokenizer: Folder or hub id.
        out: Receives one folder of shards a task.
        data: Folder of pictures; None draws scenes of the embedded emoji.
        pairs: Pairs of each task.
        split: Which of the embedded emoji; a folder has no splits.
        seed: Of scenes and of random tasks.
        decoders: Processes that decode the folder's pictures; 0 decodes in this one.
    """

    tokenizer: str
    out: Path
    data: Path | None = None
    pairs: int = 4000
    split: str = "train"
    seed: int = 0
    decoders: int = 1

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.seed < 0:
            raise ValueError(f"seed {self.seed} is below 0: give any whole number from 0")
        if self.pairs < 1:
            raise ValueError(f"{self.pairs} pairs are nothing to encode: ask for at least 1")


class Scenes:
    """Sources without end: scenes of a split's emoji, other ones for every task."""

    def __init__(self, split: str, seed: int) -> None:
        self.emoji, self.seed = load_emoji(split), seed
        self.tasks = tasks(held_out=False)
        self.skipped: dict[str, str] = {}
        self.facts = {"source": f"emoji {split}", "pictures": None}

    def source(self, task: Task, index: int) -> Scene:
        """What pair number `index` of a task is made of."""
        return scene(self.emoji, self.seed, index * len(self.tasks) + self.tasks.index(task))


class Pictures:
    """The pictures of a folder, over and over, each time another part of them.

    A few hundred pictures, always the same, would soon be known by heart.
    """

    def __init__(self, folder: Path, size: int, decoders: int, seed: int) -> None:
        whole = round(size * WHOLE)
        self.size, self.seed, self.folder = size, seed, PictureFolder(folder, whole, fit="crop")
        self.folder.scan(decoders, keep=len(self.folder) * 3 * whole**2 <= KEPT)
        self.tasks = tasks(held_out=False, drawn=False)
        self.skipped = {printable(path): reason for path, reason in self.folder.corrupt.items()}
        pictures = range(len(self.folder))
        self.facts = {"source": str(folder), "pictures": len(pictures), "files": self.folder.digest(pictures)}

    def source(self, task: Task, index: int) -> Picture:
        """What pair number `index` of a task is made of."""
        rng = np.random.default_rng((self.seed, self.tasks.index(task), index))
        return Picture(window(self.folder[index % len(self.folder)], self.size, rng))


def encode(job: Job) -> dict[str, str]:
    """Write all shards of `job` that are not there yet; returns pictures left out, with reasons.

    Raises:
        ValueError: if the tokenizer or the folder cannot be used.
    """
    tokenizer = usable(load_tokenizer(job.tokenizer), job.tokenizer)
    tokenizer.to("cuda" if torch.cuda.is_available() else "cpu")
    if job.data is None:
        sources = Scenes(job.split, job.seed)
    else:
        sources = Pictures(job.data, tokenizer.config.size, job.decoders, job.seed)
    shards = job.of(plan(job, sources, fingerprint(tokenizer)))
    missing = [shard for shard in shards if shard.told() is None]
    told = {"tokens": tokenizer.tokens, "skipped": sources.skipped}
    by_name = {task.name: task for task in sources.tasks}
    with Meter(items(shards) - items(missing), items(shards), batch=1, shown=True, unit="pair") as meter:
        done = meter.start
        for shard in missing:
            rows = [*rows_of(tokenizer, by_name[shard.facts["task"]], sources, job.seed, shard.items)]
            shard.write(torch.cat(rows).numpy(), tokenizer.vocab, told)
            done += len(shard.items)
            meter.show(done, {})
    return sources.skipped


def plan(job: Job, sources: Scenes | Pictures, mark: str) -> list[Planned]:
    """The shards of all tasks by the tokenizer of that mark; every task's first comes before any second."""
    facts = {"tokenizer": mark, "seed": job.seed, **sources.facts}
    return [
        Planned(
            folder=job.out / task.name.replace(" ", "-") / f"{number:05d}",
            items=piece,
            facts={"task": task.name, **facts, "first": piece.start, "pairs": len(piece)},
        )
        for number, piece in enumerate(pieces(range(job.pairs), SHARD))
        for task in sources.tasks
    ]


@torch.inference_mode()
def rows_of(
    tokenizer: VQTokenizer,
    task: Task,
    sources: Scenes | Pictures,
    seed: int,
    numbers: range,
    batch: int = 64,
) -> Iterator[Tensor]:
    """(n, 2 t) ids of the pairs of a task, batch by batch."""
    for part in pieces(numbers, batch):
        pairs = torch.stack([pair(task, sources.source(task, index), seed, index) for index in part])
        images = rearrange(pairs, "n two c h w -> (n two) c h w").to(next(tokenizer.parameters()).device)
        yield rearrange(tokenizer.encode(images), "(n two) i j -> n (two i j)", two=2).cpu()


def main(argv: list[str] | None = None) -> None:
    """`vqtok encode --pairs N`: pictures to shards of pairs."""
    about = "Turn pictures into token shards of task pairs, for the LVM."
    parser = argparse.ArgumentParser("vqtok encode --pairs N", description=about)
    add = parser.add_argument
    add("--tokenizer", required=True, help="folder or hub id, of a tokenizer or of an LVM with its own")
    add("--out", required=True, type=Path, metavar="FOLDER", help="for the shards, one folder a task")
    add("--data", type=Path, metavar="FOLDER", help="pictures; scenes of emoji unless given")
    add("--pairs", type=int, default=4000, metavar="N", help="pairs of each task [%(default)s]")
    add("--split", choices=SPLITS, default="train", help="of the embedded emoji [%(default)s]")
    add("--seed", type=int, default=0, help="of scenes and random tasks [%(default)s]")
    add("--decoders", type=int, default=1, metavar="N", help="processes that decode --data [%(default)s]")
    Share.add_flags(parser)
    job = Job(**vars(parser.parse_args(argv)))
    skipped = encode(job)
    for path, reason in skipped.items():
        print(f"left out {path}: {reason}")
    print(f"{job.out}: shards of {job.pairs} pairs a task, {len(skipped)} pictures left out")


if __name__ == "__main__":
    main()
