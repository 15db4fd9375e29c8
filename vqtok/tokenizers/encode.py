"""Images -> token shards: the ids of a gallery's images, a row an image, in their order.

A shard holds a fixed piece of the gallery and is written whole, so a job that was killed goes on where it
was and ends in the same bytes. A picture that cannot be read has no row; the manifest of its shard says why,
which picture each row is, and its class where the gallery knows classes. Pictures with captions have these
beside the rows, in the same order (`vqtok.data.captions`).

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

from vqtok.data.captions import Reading, beside, open_captions
from vqtok.data.galleries import Gallery, open_gallery
from vqtok.data.pairing import LeftOut, Pairs
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
        data: A gallery: a folder of pictures, an idx file, or `emoji:SPLIT[:COUNT]`.
        captions: In its place pictures with captions, by a word of `open_captions`.
        out: Receives the shards, each a folder of its own.
        size: Pixels a side that pictures are brought to; None takes what the tokenizer was trained on.
        fit: How a picture that is not square is brought there, as in `read_picture`.
        batch: Images that are encoded at once.
        decoders: Processes that decode pictures ahead; 0 decodes in this one.
        tolerate: Share of the folder's pictures that may be unreadable, or of what may be no pair of picture
            and caption, rounded up to whole ones.
        caption_key: Where captions are, as in `Reading`.
        picture_key: Which column pictures are, as in `Reading`.
    """

    tokenizer: str
    data: str | Path | None = None
    captions: str | None = None
    out: Path
    size: int | None = None
    fit: Fit = "crop"
    batch: int = 64
    decoders: int = 1
    tolerate: float = 0.01
    caption_key: str | None = None
    picture_key: str | None = None

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.batch < 1:
            raise ValueError(f"{self.batch} images at once are none: take a batch of at least 1")
        if (self.data is None) == (self.captions is None):
            raise ValueError("pictures come from data, or with captions from captions: name one of the two")

    def opened(self, size: int) -> Gallery:
        """What is encoded, its images brought to that size."""
        if self.captions is None:
            return open_gallery(self.data, size, self.fit, self.tolerate)
        keys = {"caption_key": self.caption_key, "picture_key": self.picture_key}
        reading = Reading(size=size, fit=self.fit, tolerate=self.tolerate, **keys)
        return open_captions(self.captions, reading)


def encode(job: Job) -> dict[str, str]:
    """Write the shards of this share that are not there yet.

    Returns:
        Pictures left out of all shards that are there, those of other shares too, with reasons; and what was
        no pair from the start.

    Raises:
        ValueError: if tokenizer or gallery cannot be used, too many pictures cannot be read, or a shard of
            another job is in the way. Shards that were written before stay, whole.
    """
    tokenizer = load_tokenizer(job.tokenizer).to("cuda" if torch.cuda.is_available() else "cpu")
    size = tokenizer.config.size if job.size is None else job.size
    gallery = job.opened(size)
    shards = plan(job, gallery, fingerprint(tokenizer))
    mine, skipped = job.of(shards), left_out(shards)
    missing = [shard for shard in mine if shard.told() is None]
    with Meter(items(mine) - items(missing), items(mine), batch=1, shown=True, unit="image") as meter:
        pictures = read(gallery, missing, job, meter)
        for shard in missing:
            batches = islice(pictures, len(pieces(shard.items, job.batch)))
            rows, told = encode_shard(tokenizer, batches, size)
            skipped |= told["skipped"]
            gallery.refuse(skipped)
            told |= labels(gallery, shard.items, told["names"]) | {"source": str(job.captions or job.data)}
            facts, files = captioned(gallery, shard.items, told["names"])
            shard.write(rows.numpy(), tokenizer.vocab, told | facts, files)
        meter.show(items(mine), {})
    skipped = left_out(shards)  # other processes may have found some meanwhile
    gallery.refuse(skipped)
    return skipped | (gallery.left_out.names if isinstance(gallery, Pairs) else {})


def plan(job: Job, gallery: Gallery, mark: str) -> list[Planned]:
    """The shards of a gallery's images by the tokenizer of that mark."""
    facts = {"tokenizer": mark, "size": gallery.size, "fit": gallery.fit, "pictures": len(gallery)}
    return [
        Planned(
            folder=job.out / f"{number:05d}",
            items=piece,
            facts=facts | {"files": gallery.digest(piece)},
        )
        for number, piece in enumerate(pieces(range(len(gallery)), SHARD))
    ]


def left_out(shards: Sequence[Planned]) -> dict[str, str]:
    """Pictures without a row in those shards that are there, with reasons."""
    told = [shard.told() for shard in shards]
    return {name: reason for facts in told if facts for name, reason in facts["skipped"].items()}


def read(gallery: Gallery, shards: Sequence[Planned], job: Job, meter: Meter) -> Iterator[Decoded]:
    """The images of some shards, in batches that end where a shard ends; tells how far it is."""
    batches = [batch for shard in shards for batch in pieces(shard.items, job.batch)]
    done = meter.start
    for numbers, found in zip(batches, gallery.decoded(batches, job.decoders), strict=True):
        meter.show(done, {})  # what was given out before is done when more is asked for
        yield dict(zip(map(gallery.name, numbers), found, strict=True))
        done += len(numbers)


def labels(gallery: Gallery, numbers: range, names: Sequence[str]) -> dict[str, list[str]]:
    """The fact `labels`, the class of each of some images by name; nothing where the gallery knows none."""
    if gallery.label(numbers[0]) is None:
        return {}
    by_name = {gallery.name(number): gallery.label(number) for number in numbers}
    return {"labels": [by_name[name] for name in names]}


def captioned(
    gallery: Gallery, numbers: range, names: Sequence[str]
) -> tuple[dict[str, str], dict[str, bytes]]:
    """Facts and files of the captions that these images have, if they have any."""
    if not isinstance(gallery, Pairs):
        return {}, {}
    by_name = {gallery.name(number): gallery.caption(number) for number in numbers}
    return beside([by_name[name] for name in names])


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
    """`vqtok encode`: a gallery to token shards."""
    parser = argparse.ArgumentParser(
        "vqtok encode",
        description="Turn pictures into token shards, a row of ids for each picture.",
        epilog="With --pairs, rows are pairs of pictures by a task instead, for the LVM: "
        "`vqtok encode --pairs 4000 --help` lists the options.",
    )
    add = parser.add_argument
    source = parser.add_mutually_exclusive_group(required=True)
    data = "a folder of PNG, JPEG and WebP, at any depth; an idx file; or emoji:SPLIT[:COUNT]"
    source.add_argument("--data", metavar="GALLERY", help=data)
    captions = "in its place pictures with captions: folder:PATH of pictures and .txt of the same stems; "
    captions += "tar:PATTERN of WebDataset; hub:NAME[:SPLIT] of datasets; or emoji:SPLIT[:COUNT]"
    source.add_argument("--captions", metavar="SOURCE", help=captions)
    add("--tokenizer", required=True, help="folder, file or hub id")
    add("--out", required=True, type=Path, metavar="FOLDER", help="for the shards; the same command goes on")
    add("--size", type=int, metavar="PIXELS", help="a side of the images [the tokenizer's]")
    add("--fit", choices=get_args(Fit), default="crop", help="of pictures that are not square [%(default)s]")
    add("--batch", type=int, default=64, metavar="N", help="images encoded at once [%(default)s]")
    add("--decoders", type=int, default=1, metavar="N", help="processes that decode ahead [%(default)s]")
    tolerate = "share of pictures that may be unreadable, or lack a caption, rounded up [%(default)s]"
    add("--tolerate", type=float, default=0.01, metavar="SHARE", help=tolerate)
    add("--caption-key", metavar="NAME", help="key of a tar's json, or column of a data set, with captions")
    add("--picture-key", metavar="NAME", help="column of a data set with pictures [the only one]")
    Share.add_flags(parser)
    job = Job(**vars(parser.parse_args(argv)))
    skipped = encode(job)
    for name, reason in skipped.items():
        print(f"left out {name}: {reason}")
    if job.captions is not None:
        for kind, count in LeftOut(job.captions, 0, skipped).counts.most_common():
            print(f"{count} x {kind}")
    print(f"{job.out}: token shards, {len(skipped)} {'pairs' if job.captions else 'pictures'} left out")


if __name__ == "__main__":
    main()
