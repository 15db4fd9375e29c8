"""Images -> token shards: the ids of a folder's pictures, a row a picture, in the order of their names.

A shard holds a fixed piece of the folder's files and is written whole, so a job that was killed goes on where
it was and ends in the same bytes. A picture that cannot be read has no row; the manifest of its shard says
why, and which picture each row is.

Letters: b images, c channels, h w size; i j grid of codes, t = i j tokens of an image.
"""

import argparse
import math
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import Any, get_args

import numpy as np
import torch
from einops import rearrange
from torch import Tensor

from vqtok.data.folders import PictureFolder
from vqtok.data.pictures import Fit
from vqtok.data.plan import Planned, Share, items, pieces
from vqtok.tokenizers.fingerprint import fingerprint
from vqtok.tokenizers.interface import ImageTokenizer
from vqtok.tokenizers.loading import load_tokenizer
from vqtok.training.progress import Meter

SHARD = 1024  # files
Decoded = dict[str, np.ndarray | str]  # name -> (3, h, w) uint8, or the reason why it cannot be read


@dataclass(frozen=True, kw_only=True)
class Job(Share):
    """What to encode, and which share of it.

    Args:
        tokenizer: Folder, file or hub id.
        data: Folder of pictures.
        out: Receives the shards, each a folder of its own.
        size: Pixels a side that pictures are brought to; None takes what the tokenizer was trained on.
        fit: How a picture that is not square is brought there, as in `read_picture`.
        batch: Images that are encoded at once.
        decoders: Processes that decode pictures ahead; 0 decodes in this one.
        tolerate: Share of the folder's pictures that may be unreadable, rounded up to whole ones.
    """

    tokenizer: str
    data: Path
    out: Path
    size: int | None = None
    fit: Fit = "crop"
    batch: int = 64
    decoders: int = 1
    tolerate: float = 0.01

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.batch < 1:
            raise ValueError(f"{self.batch} images at once are none: take a batch of at least 1")


def encode(job: Job) -> dict[str, str]:
    """Write the shards of this share that are not there yet.

    Returns:
        Pictures left out of all shards that are there, those of other shares too, with reasons.

    Raises:
        ValueError: if tokenizer or folder cannot be used, too many pictures cannot be read, or a shard of
            another job is in the way. Shards that were written before stay, whole.
    """
    tokenizer = load_tokenizer(job.tokenizer).to("cuda" if torch.cuda.is_available() else "cpu")
    size = tokenizer.config.size if job.size is None else job.size
    folder = PictureFolder(job.data, size, job.fit, job.tolerate)
    shards = plan(job, folder, fingerprint(tokenizer))
    mine, skipped = job.of(shards), left_out(shards)
    missing = [shard for shard in mine if shard.told() is None]
    with Meter(items(mine) - items(missing), items(mine), batch=1, shown=True, unit="image") as meter:
        pictures = read(folder, missing, job, meter)
        for shard in missing:
            batches = islice(pictures, len(pieces(shard.items, job.batch)))
            rows, told = encode_shard(tokenizer, batches, size)
            skipped |= told["skipped"]
            folder.refuse(skipped)
            shard.write(rows.numpy(), tokenizer.vocab, told | {"source": str(job.data)})
        meter.show(items(mine), {})
    skipped = left_out(shards)  # other processes may have found some meanwhile
    folder.refuse(skipped)
    return skipped


def plan(job: Job, folder: PictureFolder, mark: str) -> list[Planned]:
    """The shards of a folder's pictures by the tokenizer of that mark."""
    facts = {"tokenizer": mark, "size": folder.size, "fit": folder.fit, "pictures": len(folder)}
    return [
        Planned(
            folder=job.out / f"{number:05d}",
            items=piece,
            facts=facts | {"files": folder.digest(piece)},
        )
        for number, piece in enumerate(pieces(range(len(folder)), SHARD))
    ]


def left_out(shards: Sequence[Planned]) -> dict[str, str]:
    """Pictures without a row in those shards that are there, with reasons."""
    told = [shard.told() for shard in shards]
    return {name: reason for facts in told if facts for name, reason in facts["skipped"].items()}


def read(folder: PictureFolder, shards: Sequence[Planned], job: Job, meter: Meter) -> Iterator[Decoded]:
    """What the files of some shards hold, in batches that end where a shard ends; tells how far it is."""
    batches = [batch for shard in shards for batch in pieces(shard.items, job.batch)]
    done = meter.start
    for numbers, found in zip(batches, folder.decoded(batches, job.decoders), strict=True):
        meter.show(done, {})  # what was given out before is done when more is asked for
        yield dict(zip(map(folder.name, numbers), found, strict=True))
        done += len(numbers)


def encode_shard(
    tokenizer: ImageTokenizer, batches: Iterable[Decoded], size: int
) -> tuple[Tensor, dict[str, Any]]:
    """Rows (n, t) of the readable pictures of some batches, and what the manifest says about them."""
    grid = (size // tokenizer.factor,) * 2 + tokenizer.id_shape
    rows, names, skipped = [torch.empty(0, math.prod(grid), dtype=torch.int64)], [], {}
    for batch in batches:
        skipped |= {name: reason for name, reason in batch.items() if isinstance(reason, str)}
        pixels = {name: image for name, image in batch.items() if name not in skipped}
        if pixels:
            rows.append(rows_of(tokenizer, np.stack([*pixels.values()])))
            names += pixels
    return torch.cat(rows), {"grid": grid, "names": names, "skipped": skipped}


@torch.inference_mode()
def rows_of(tokenizer: ImageTokenizer, pixels: np.ndarray) -> Tensor:
    """(b, t) ids of images (b, 3, h, w) uint8."""
    images = torch.from_numpy(pixels).to(next(tokenizer.parameters()).device)
    return rearrange(tokenizer.encode(images / 255), "b ... -> b (...)").cpu()


def main(argv: list[str] | None = None) -> None:
    """`vqtok encode`: a folder of pictures to token shards."""
    parser = argparse.ArgumentParser(
        "vqtok encode",
        description="Turn a folder of pictures into token shards, a row of ids for each picture.",
        epilog="With --pairs, rows are pairs of pictures by a task instead, for the LVM: "
        "`vqtok encode --pairs 4000 --help` lists the options.",
    )
    add = parser.add_argument
    add("--data", required=True, type=Path, metavar="FOLDER", help="PNG, JPEG and WebP, at any depth")
    add("--tokenizer", required=True, help="folder, file or hub id")
    add("--out", required=True, type=Path, metavar="FOLDER", help="for the shards; the same command goes on")
    add("--size", type=int, metavar="PIXELS", help="a side of the images [the tokenizer's]")
    add("--fit", choices=get_args(Fit), default="crop", help="of pictures that are not square [%(default)s]")
    add("--batch", type=int, default=64, metavar="N", help="images encoded at once [%(default)s]")
    add("--decoders", type=int, default=1, metavar="N", help="processes that decode ahead [%(default)s]")
    tolerate = "share of pictures that may be unreadable, rounded up to whole ones [%(default)s]"
    add("--tolerate", type=float, default=0.01, metavar="SHARE", help=tolerate)
    Share.add_flags(parser)
    job = Job(**vars(parser.parse_args(argv)))
    skipped = encode(job)
    for name, reason in skipped.items():
        print(f"left out {name}: {reason}")
    print(f"{job.out}: token shards, {len(skipped)} pictures left out")


if __name__ == "__main__":
    main()
