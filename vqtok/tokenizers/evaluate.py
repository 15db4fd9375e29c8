"""What a tokenizer keeps of images it never saw: PSNR, SSIM, use of the codebook, and pictures.

Usage and perplexity grow with the number of ids, so that number stands beside them: the 192 test names of the
embedded emoji in three styles are 36,864 ids of a tokenizer with 64 tokens an image.

Letters: b images, c channels, h w size; i j grid of codes.
"""

import argparse
import json
import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
from einops import rearrange
from rich.console import Console
from rich.table import Table
from torch import Tensor

from vqtok.data.emoji import SPLITS, load_emoji
from vqtok.data.folders import PictureFolder
from vqtok.data.pictures import write_picture
from vqtok.metrics.images import decibels, ssim
from vqtok.metrics.tokens import perplexity, usage
from vqtok.storage.folders import write_file
from vqtok.tokenizers.loading import DEFAULT_WEIGHTS, load_tokenizer
from vqtok.tokenizers.tokenizer import VQTokenizer

EXACT = 1e-10  # squared error that counts as none: 100 dB, where infinity would swallow the mean
Images = dict[str, Sequence[Tensor]]  # name -> images (3, h, w) in [0, 1], or one tensor (b, 3, h, w)


@dataclass(frozen=True, kw_only=True)
class Job:
    """What to measure.

    Args:
        model: Folder or hub id of a tokenizer.
        data: Folder of pictures; None takes the embedded emoji.
        split: Which of the embedded emoji.
        out: Receives report.json and reconstructions.png.
    """

    model: str
    data: Path | None
    split: str
    out: Path


def held_out(split: str = "test") -> dict[str, Tensor]:
    """Every emoji of a split as drawn, style by style: (b, 3, 64, 64) in [0, 1]."""
    emoji = load_emoji(split)
    return {
        style: torch.stack([drawn.image(style) for drawn in emoji]) for style in ("shaded", "flat", "line")
    }


@torch.inference_mode()
def round_trip(tokenizer: VQTokenizer, images: Tensor, batch: int = 64) -> tuple[Tensor, Tensor]:
    """Decoded images (b, 3, h, w) in [0, 1] and their ids (b, i, j), on the images' device."""
    device = next(tokenizer.parameters()).device
    ids = [tokenizer.encode(part.to(device)) for part in images.split(batch)]
    decoded = [tokenizer.decode(part).to(images.device) for part in ids]
    return torch.cat(decoded), torch.cat(ids).to(images.device)


def measure(tokenizer: VQTokenizer, images: Images) -> dict[str, float]:
    """PSNR (dB) and SSIM by name, means over the images; usage and perplexity over all.

    Papers on tokenizers average the PSNR of images; `psnr_of_set` beside it is that of the mean squared
    error, which a few bad images pull down (by about 0.8 dB on the emoji).

    Args:
        tokenizer: In evaluation mode.
        images: Name -> images (3, h, w) in [0, 1], at least one.
    """
    found, all_ids = {}, []
    for name, originals in images.items():
        errors, similarities = [], []
        for part in _batches(originals):
            decoded, ids = round_trip(tokenizer, part)
            errors.append((decoded - part).square().mean((1, 2, 3)))
            similarities.append(ssim(decoded, part))
            all_ids.append(ids.flatten())
        error = torch.cat(errors)  # (b,)
        found[f"psnr/{name}"] = float(decibels(error.clamp(min=EXACT)).mean())
        found[f"psnr_of_set/{name}"] = float(decibels(error.mean()))
        found[f"ssim/{name}"] = float(torch.cat(similarities).mean())
    ids = torch.cat(all_ids)
    return found | {
        "usage": usage(ids, tokenizer.vocab),
        "perplexity": perplexity(ids, tokenizer.vocab),
        "ids": len(ids),
    }


def reconstructions(tokenizer: VQTokenizer, images: Images, count: int = 12) -> Tensor:
    """(3, H, W) sheet: for every name a row of `count` images above a row of what comes back."""
    count = min(count, *map(len, images.values()))
    rows = []
    for originals in images.values():
        chosen = torch.stack([originals[len(originals) * k // count] for k in range(count)])
        rows += [chosen, round_trip(tokenizer, chosen)[0]]
    return rearrange(torch.stack(rows), "r b c h w -> c (r h) (b w)")


def evaluate(job: Job) -> dict[str, float | str | dict[str, int]]:
    """Measure as `job` says; writes and returns the report.

    Raises:
        ValueError: if the tokenizer or the folder cannot be used.
    """
    tokenizer = load_tokenizer(job.model).to("cuda" if torch.cuda.is_available() else "cpu")
    images: Images = held_out(job.split)
    if job.data is not None:
        images = {"images": PictureFolder(job.data, tokenizer.config.size, fit="crop").scan()}
    report = {
        "model": job.model,
        "data": str(job.data or f"emoji {job.split}"),
        "images": {name: len(originals) for name, originals in images.items()},
        "tokens_per_image": tokenizer.tokens,
        "vocab": tokenizer.vocab,
        "bits_per_image": tokenizer.tokens * math.log2(tokenizer.vocab),
        **measure(tokenizer, images),
    }
    write_picture(job.out / "reconstructions.png", reconstructions(tokenizer, images))
    write_file(job.out / "report.json", (json.dumps(report, indent=2) + "\n").encode())
    return report


def table(report: dict) -> Table:
    """PSNR and SSIM of a report, a line for every set of images."""
    title = f"{report['model']} on {report['data']}"
    lines = Table("images", "number", "PSNR dB", "of the set", "SSIM", title=title)
    for name, number in report["images"].items():
        figures = (f"{report[f'{what}/{name}']:.2f}" for what in ("psnr", "psnr_of_set"))
        lines.add_row(name, f"{number:,}", *figures, f"{report[f'ssim/{name}']:.3f}")
    return lines


def codebook_line(report: dict) -> str:
    """Use of the codebook, with the number of ids it was seen by, and the size of an image as tokens."""
    tokens, bits = report["tokens_per_image"], report["bits_per_image"]
    return (
        f"{report['usage']:.1%} of {report['vocab']:,} codes occur in {report['ids']:,} ids, "
        f"perplexity {report['perplexity']:,.0f}; {tokens} tokens = {bits:.0f} bits an image"
    )


def main(argv: list[str] | None = None) -> None:
    """`vqtok evaluate tokenizer`: a table of PSNR, SSIM and the codebook's use on held-out pictures."""
    about = "Measure what a tokenizer keeps of pictures it was not trained on, and how it uses its codebook."
    parser = argparse.ArgumentParser("vqtok evaluate tokenizer", description=about)
    parser.add_argument("--model", default=str(DEFAULT_WEIGHTS), help="folder or hub id; the shipped weights")
    source = parser.add_mutually_exclusive_group()
    source.add_argument("--data", type=Path, help="folder of pictures; without one, the embedded emoji")
    source.add_argument("--split", choices=SPLITS, default="test", help="of the embedded emoji [%(default)s]")
    place = Path("runs/evaluate-tokenizer")
    parser.add_argument(
        "--out", type=Path, default=place, help="for report.json and reconstructions.png [%(default)s]"
    )
    job = Job(**vars(parser.parse_args(argv)))
    report = evaluate(job)
    Console().print(table(report))
    print(codebook_line(report), job.out / "report.json", job.out / "reconstructions.png", sep="\n")


def _batches(images: Sequence[Tensor], batch: int = 64) -> Iterator[Tensor]:
    for start in range(0, len(images), batch):
        yield torch.stack([images[index] for index in range(start, min(start + batch, len(images)))])
