"""What a tokenizer keeps of images it never saw: figures by one convention, its speed, and pictures.

docs/guides/measuring.md tells the convention. Usage and perplexity grow with the number of ids, so that
number stands beside them: the 192 test names of the embedded emoji in three styles are 36,864 ids of a
tokenizer with 64 tokens an image.

Letters: b images, c channels, h w size; i j grid of codes.
"""

import argparse
import json
import math
import statistics
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from einops import rearrange
from rich.console import Console
from rich.table import Table
from torch import Tensor, nn
from torch.utils.data import ConcatDataset

from vqtok.data.emoji import SPLITS, load_emoji
from vqtok.data.folders import PictureFolder
from vqtok.data.pictures import write_picture
from vqtok.metrics.features import Lite0Features
from vqtok.metrics.lpips import load_lpips
from vqtok.storage.folders import write_file
from vqtok.tokenizers.interface import ImageTokenizer
from vqtok.tokenizers.loading import DEFAULT_WEIGHTS, load_tokenizer
from vqtok.tokenizers.tally import Tally

PASSES = 3  # over a batch, of which the median speed is told
Images = dict[str, Sequence[Tensor]]  # name -> images (3, h, w) in [0, 1], or one tensor (b, 3, h, w)


@dataclass(frozen=True, kw_only=True)
class Job:
    """What to measure.

    Args:
        model: Folder, file or hub id of a tokenizer.
        data: Folder of pictures; None takes the embedded emoji, as drawn.
        split: Which of the embedded emoji.
        size: Pixels a side that a folder's pictures are brought to; None takes what the tokenizer was
            trained on.
        batch: Images at once.
        out: Receives report.json, reconstructions.png and worst_and_median.png.
    """

    model: str
    data: Path | None
    split: str
    size: int | None
    batch: int
    out: Path

    def __post_init__(self) -> None:
        if self.batch < 1:
            raise ValueError(f"{self.batch} images at once are none: take a batch of at least 1")


def held_out(split: str = "test") -> dict[str, Tensor]:
    """Every emoji of a split as drawn, style by style: (b, 3, 64, 64) in [0, 1]."""
    emoji = load_emoji(split)
    return {
        style: torch.stack([drawn.image(style) for drawn in emoji]) for style in ("shaded", "flat", "line")
    }


@torch.inference_mode()
def round_trip(tokenizer: ImageTokenizer, images: Tensor, batch: int = 64) -> tuple[Tensor, Tensor]:
    """Decoded images (b, 3, h, w) in [0, 1] and their ids (b, i, j), on the images' device."""
    device = next(tokenizer.parameters()).device
    ids = [tokenizer.encode(part.to(device)) for part in images.split(batch)]
    decoded = [tokenizer.decode(part).to(images.device) for part in ids]
    return torch.cat(decoded), torch.cat(ids).to(images.device)


def measure(tokenizer: ImageTokenizer, images: Images) -> dict[str, float]:
    """PSNR (dB) and SSIM by name, means over the images; usage and perplexity over all.

    Args:
        tokenizer: In evaluation mode.
        images: Name -> images (3, h, w) in [0, 1], at least one.
    """
    return tallied(tokenizer, images, Tally(tokenizer.vocab)).figures()


def tallied(tokenizer: ImageTokenizer, images: Images, tally: Tally, batch: int = 64) -> Tally:
    """`tally` with all images and what the tokenizer gives back of them."""
    device = next(tokenizer.parameters()).device
    for name, originals in images.items():
        for part in _batches(originals, batch):
            part = part.to(device)
            tally.add(name, part, *round_trip(tokenizer, part, batch))
    return tally


@torch.inference_mode()
def speed(tokenizer: ImageTokenizer, images: Tensor) -> dict[str, float]:
    """Images a second of `encode` and of `decode` apart, for images (b, 3, h, w) at once.

    Medians of a few passes, after one that does not count.
    """
    images = images.to(next(tokenizer.parameters()).device)
    ids = tokenizer.encode(images)
    halves = {"encode": lambda: tokenizer.encode(images), "decode": lambda: tokenizer.decode(ids)}
    return {f"{name}_images_per_second": len(images) / _seconds(half) for name, half in halves.items()}


def reconstructions(tokenizer: ImageTokenizer, images: Images, count: int = 12) -> Tensor:
    """(3, H, W) sheet: for every name a row of `count` images above a row of what comes back."""
    count = min(count, *map(len, images.values()))
    chosen = [
        torch.stack([originals[len(originals) * k // count] for k in range(count)])
        for originals in images.values()
    ]
    return _sheet(tokenizer, chosen)


def worst_and_median(tokenizer: ImageTokenizer, images: Images, errors: Tensor, count: int = 12) -> Tensor:
    """(3, H, W) sheet of the images with the largest errors, and of those about the median error.

    Args:
        tokenizer: In evaluation mode.
        images: As measured.
        errors: (images,) squared error of every image, set after set.
        count: Of each kind.
    """
    everything: Sequence[Tensor] = ConcatDataset(images.values())
    order = errors.argsort(descending=True).tolist()
    count = min(count, len(order))
    middle = (len(order) - count) // 2
    ranks = (order[:count], order[middle : middle + count])
    return _sheet(tokenizer, [torch.stack([everything[index] for index in rank]) for rank in ranks])


def evaluate(job: Job) -> dict[str, Any]:
    """Measure as `job` says; writes and returns the report.

    Raises:
        ValueError: if the tokenizer or the folder cannot be used.
    """
    tokenizer = load_tokenizer(job.model).to("cuda" if torch.cuda.is_available() else "cpu")
    images, skipped = pictures(job, tokenizer.config.size)
    device = next(tokenizer.parameters()).device
    absent: dict[str, str] = {}
    lpips = _if_there("LPIPS", load_lpips, absent, device)
    features = _if_there("FD-lite0", Lite0Features, absent, device)
    tally = tallied(tokenizer, images, Tally(tokenizer.vocab, lpips, features), job.batch)
    figures = tally.figures()
    if "fd_lite0" not in figures:
        absent.setdefault("FD-lite0", "one image has no spread")
    tokens = figures["ids"] / tally.images
    first = next(_batches(next(iter(images.values())), job.batch))
    report = {
        "model": job.model,
        "data": str(job.data or f"emoji {job.split}"),
        "images": {name: len(originals) for name, originals in images.items()},
        "size": list(first.shape[2:]),
        "skipped": skipped,
        "tokens_per_image": tokens,
        "vocab": tokenizer.vocab,
        "bits_per_image": tokens * math.log2(tokenizer.vocab),
        **figures,
        "lpips_network": lpips.network if lpips else None,
        "absent": absent,
        **speed(tokenizer, first),
        "device": _described(device, len(first)),
    }
    sheets = {
        "reconstructions.png": reconstructions(tokenizer, images),
        "worst_and_median.png": worst_and_median(tokenizer, images, tally.errors()),
    }
    for name, picture in sheets.items():
        write_picture(job.out / name, picture)
    write_file(job.out / "report.json", (json.dumps(report, indent=2) + "\n").encode())
    return report


def pictures(job: Job, size: int) -> tuple[Images, dict[str, str]]:
    """What is measured, by name, and pictures that are left out, with reasons.

    Args:
        job: Says which.
        size: Pixels a side of a folder's pictures, unless the job says another.
    """
    if job.data is None:
        return held_out(job.split), {}
    folder = PictureFolder(job.data, size if job.size is None else job.size, fit="crop").scan()
    return {"images": folder}, {str(path): reason for path, reason in folder.corrupt.items()}


def table(report: dict) -> Table:
    """PSNR, SSIM and, where it was measured, LPIPS of a report, a line for every set of images."""
    title = f"{report['model']} on {report['data']}, {'x'.join(map(str, report['size']))} pixels"
    columns = {"psnr": "PSNR dB", "psnr_of_set": "of the set", "ssim": "SSIM"}
    if report["lpips_network"]:
        columns["lpips"] = f"LPIPS {report['lpips_network']}"
    lines = Table("images", "number", *columns.values(), title=title)
    for name, number in report["images"].items():
        figures = [f"{report[f'{what}/{name}']:.{2 if 'psnr' in what else 3}f}" for what in columns]
        lines.add_row(name, f"{number:,}", *figures)
    return lines


def codebook_line(report: dict) -> str:
    """Use of the codebook, with the number of ids it was seen by, and the size of an image as tokens."""
    tokens, bits = report["tokens_per_image"], report["bits_per_image"]
    return (
        f"{report['usage']:.1%} of {report['vocab']:,} codes occur in {report['ids']:,} ids, "
        f"perplexity {report['perplexity']:,.0f}; {tokens:g} tokens = {bits:.0f} bits an image"
    )


def distance_lines(report: dict) -> list[str]:
    """FD-lite0 with its network and number of images, and why a figure is absent."""
    lines = [f"{name} is absent: {reason}" for name, reason in report["absent"].items()]
    if "fd_lite0" not in report:
        return lines
    number = sum(report["images"].values())
    few = number <= Lite0Features.WIDTH
    caution = "; fewer images than features: compare it on these images only" if few else ""
    features = f"{Lite0Features.WIDTH:,} features of EfficientNet-Lite0"
    return [f"FD-lite0 {report['fd_lite0']:.2f} over {number:,} images ({features}){caution}", *lines]


def speed_line(report: dict) -> str:
    """Images a second, and of what."""
    rates = (f"{half} {report[f'{half}_images_per_second']:,.0f}" for half in ("encode", "decode"))
    return f"images/s: {', '.join(rates)} ({report['device']})"


def main(argv: list[str] | None = None) -> None:
    """`vqtok evaluate tokenizer`: figures and pictures of held-out pictures and what comes back."""
    about = "Measure what a tokenizer keeps of pictures it was not trained on, and how it uses its codebook."
    parser = argparse.ArgumentParser("vqtok evaluate tokenizer", description=about)
    add = parser.add_argument
    add("--model", default=str(DEFAULT_WEIGHTS), help="folder, file or hub id; the shipped weights")
    source = parser.add_mutually_exclusive_group()
    source.add_argument("--data", type=Path, help="folder of pictures; without one, the embedded emoji")
    source.add_argument("--split", choices=SPLITS, default="test", help="of the embedded emoji [%(default)s]")
    add("--size", type=int, metavar="PIXELS", help="a side of the pictures of --data [the tokenizer's]")
    add("--batch", type=int, default=64, metavar="N", help="images at once [%(default)s]")
    place = Path("runs/evaluate-tokenizer")
    add("--out", type=Path, default=place, help="for the report and two pictures [%(default)s]")
    job = Job(**vars(parser.parse_args(argv)))
    report = evaluate(job)
    Console().print(table(report))
    print(codebook_line(report), *distance_lines(report), speed_line(report), sep="\n")
    for name in ("report.json", "reconstructions.png", "worst_and_median.png"):
        print(job.out / name)


def _sheet(tokenizer: ImageTokenizer, rows: list[Tensor]) -> Tensor:
    """(3, H, W) of rows of images (b, 3, h, w), each above what comes back."""
    pairs = [part for row in rows for part in (row, round_trip(tokenizer, row)[0])]
    return rearrange(torch.stack(pairs), "r b c h w -> c (r h) (b w)")


def _if_there(
    name: str, make: Callable[[], nn.Module], absent: dict[str, str], device: torch.device
) -> Any:
    """What `make` makes, or None, with the reason in `absent`, where its weights are not to be had."""
    try:
        return make().to(device)
    except ValueError as error:
        absent[name] = str(error)
        return None


def _seconds(half: Callable[[], Tensor]) -> float:
    """Median seconds of a few passes, until the device is done; the first does not count."""
    found = []
    for _ in range(1 + PASSES):
        began = time.perf_counter()
        half().sum().item()  # waits for the device
        found.append(time.perf_counter() - began)
    return statistics.median(found[1:])


def _described(device: torch.device, batch: int) -> str:
    """What ran it, and how."""
    cpu = f"CPU, threads: {torch.get_num_threads()}"
    name = torch.cuda.get_device_name(device) if device.type == "cuda" else cpu
    return f"{name}, {batch} at once, float32"


def _batches(images: Sequence[Tensor], batch: int = 64) -> Iterator[Tensor]:
    for start in range(0, len(images), batch):
        yield torch.stack([images[index] for index in range(start, min(start + batch, len(images)))])
