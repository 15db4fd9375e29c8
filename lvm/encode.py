"""Pictures -> shards of pairs: every row is one pair [x y] of one task, as token ids.

Which pairs make a sentence is decided in training (`lvm.train.Sentences`), so that a few thousand pairs a
task make an endless supply of sentences. One folder a task holds numbered shards; a shard whose manifest lies
there is done, so an interrupted run goes on where it was, with the same bytes.

Letters: c h w image, n pairs, t tokens of an image.
"""

import argparse
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from einops import rearrange
from rich.progress import Progress
from torch import Tensor

from lvm.tasks import Picture, Task, pair, tasks
from vqtok.data.emoji import load_emoji
from vqtok.data.folders import PictureFolder
from vqtok.data.scenes import scene
from vqtok.data.shards import MANIFEST, write_shard
from vqtok.storage.manifests import read_manifest, sha256
from vqtok.tokenizers import load_tokenizer
from vqtok.tokenizers.tokenizer import VQTokenizer

SHARD = 1000  # pairs


@dataclass(frozen=True, kw_only=True)
class Job:
    """What to encode.

    Args:
        tokenizer: Folder or hub id.
        out: Receives one folder of shards a task.
        data: Folder of pictures; None draws scenes of the embedded emoji.
        pairs: Pairs of each task.
        split: Which of the embedded emoji; a folder has no splits.
        seed: Of scenes and of random tasks.
        worker: Number of this process among `workers` that share the work without talking to one another.
        workers: Processes, on one machine or many, that were given the same job.
    """

    tokenizer: str
    out: Path
    data: Path | None = None
    pairs: int = 4000
    split: str = "train"
    seed: int = 0
    worker: int = 0
    workers: int = 1

    def __post_init__(self) -> None:
        if self.pairs < 1:
            raise ValueError(f"{self.pairs} pairs are nothing to encode: ask for at least 1")
        if not 0 <= self.worker < self.workers:
            raise ValueError(
                f"worker {self.worker} is not one of {self.workers}, counted from 0: change one of them"
            )


class Scenes:
    """Sources without end: scene number k of a split's emoji."""

    def __init__(self, split: str, seed: int) -> None:
        self.emoji, self.seed = load_emoji(split), seed
        self.tasks = tasks(held_out=False)
        self.skipped: dict[str, str] = {}
        self.count = None

    def __getitem__(self, index: int):  # noqa: ANN204 - a Source
        return scene(self.emoji, self.seed, index)


class Pictures:
    """The pictures of a folder, over and over."""

    def __init__(self, folder: Path, size: int) -> None:
        self.folder = PictureFolder(folder, size, fit="crop")
        self.folder.scan()
        self.tasks = tasks(held_out=False, drawn=False)
        self.skipped = {str(path): reason for path, reason in self.folder.corrupt.items()}
        self.count = len(self.folder)

    def __getitem__(self, index: int) -> Picture:
        return Picture(self.folder[index % self.count])


def encode(job: Job) -> dict[str, str]:
    """Write all shards of `job` that are not there yet; returns pictures left out, with reasons.

    Raises:
        ValueError: if the tokenizer or the folder cannot be used.
    """
    tokenizer = load_tokenizer(job.tokenizer)
    sources = Scenes(job.split, job.seed) if job.data is None else Pictures(job.data, tokenizer.config.size)
    mark = fingerprint(tokenizer)
    todo = [(task, start) for start in range(0, job.pairs, SHARD) for task in sources.tasks]
    todo = todo[job.worker :: job.workers]
    with Progress(transient=True) as progress:
        bar = progress.add_task("pairs", total=sum(min(SHARD, job.pairs - start) for _, start in todo))
        for task, start in todo:
            count = min(SHARD, job.pairs - start)
            folder = job.out / task.name.replace(" ", "-") / f"{start // SHARD:05d}"
            facts = {"task": task.name, "tokenizer": mark, "tokens": tokenizer.tokens, "seed": job.seed,
                     "source": str(job.data or f"emoji {job.split}"), "pictures": sources.count,
                     "skipped": sources.skipped}
            if not done(folder, facts, count):
                rows = torch.cat([*rows_of(tokenizer, task, sources, job.seed, range(start, start + count))])
                write_shard(folder, rows.numpy(), tokenizer.vocab, facts)
            progress.update(bar, advance=count)
    return sources.skipped


def done(folder: Path, facts: dict, rows: int) -> bool:
    """Whether the shard lies there already.

    Raises:
        ValueError: if what lies there is another job's.
    """
    if not (folder / MANIFEST).exists():
        return False
    manifest = read_manifest(folder)
    theirs, ours = manifest["facts"] | {"pairs": manifest["rows"]}, facts | {"pairs": rows}
    for name in ("task", "tokenizer", "seed", "source", "pictures", "pairs"):
        if theirs.get(name) != ours[name]:
            raise ValueError(
                f"{folder} was made with {name} {str(theirs.get(name))[:40]!r}, this job has "
                f"{str(ours[name])[:40]!r}: give another --out, or remove that folder"
            )
    return True


@torch.inference_mode()
def rows_of(
    tokenizer: VQTokenizer, task: Task, sources: Scenes | Pictures, seed: int, indices: range, batch: int = 64
) -> Iterator[Tensor]:
    """(n, 2 t) ids of the pairs of a task, batch by batch."""
    for start in range(0, len(indices), batch):
        part = indices[start : start + batch]
        pairs = torch.stack([pair(task, sources[index], seed, index) for index in part])
        ids = tokenizer.encode(rearrange(pairs, "n two c h w -> (n two) c h w"))
        yield rearrange(ids, "(n two) i j -> n (two i j)", two=2)


def fingerprint(tokenizer: VQTokenizer) -> str:
    """Hash of all that decides which ids an image becomes: the configuration and the encoder's weights."""
    parts = [repr(tokenizer.config).encode()]
    for name, tensor in sorted(tokenizer.state_dict().items()):
        if not name.startswith(("decoder.", "post_quant_conv.", "quantize.usage")):
            parts.append(name.encode() + np.ascontiguousarray(tensor.cpu().float().numpy()).tobytes())
    return sha256(b"".join(parts))


def main(argv: list[str] | None = None) -> None:
    """`vqtok encode`: pictures to shards of pairs."""
    about = "Turn pictures into token shards of task pairs."
    parser = argparse.ArgumentParser("vqtok encode", description=about)
    parser.add_argument("--tokenizer", required=True, help="folder or hub id of a tokenizer")
    parser.add_argument("--out", required=True, type=Path, help="folder for the shards, one folder a task")
    parser.add_argument("--data", type=Path, help="folder of pictures; scenes of emoji unless given")
    parser.add_argument("--pairs", type=int, default=4000, help="pairs of each task (4000)")
    parser.add_argument("--split", default="train", help="of the embedded emoji: train, validation or test")
    parser.add_argument("--seed", type=int, default=0, help="of scenes and random tasks (0)")
    parser.add_argument("--worker", type=int, default=0, help="number of this process, from 0")
    parser.add_argument("--workers", type=int, default=1, help="processes that share the job, started by you")
    job = Job(**vars(parser.parse_args(argv)))
    skipped = encode(job)
    for path, reason in skipped.items():
        print(f"left out {path}: {reason}")
    print(f"{job.out}: shards of {job.pairs} pairs a task, {len(skipped)} pictures left out")


if __name__ == "__main__":
    main()
