"""How good a DDPM is: its bound in bits per dimension, how far its pictures are from real ones, and a look.

Bits per dimension are of pixels on 256 levels, and compare with those of every other model of such pixels.

Letters: n pictures, c h w picture.
"""

import argparse
import json
import math
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from diffusion.drawing import DDIM, SAMPLERS, Sampler
from diffusion.likelihood import Measuring
from diffusion.model import CLIP, DDPM
from diffusion.pictures import Pictures
from diffusion.train import drawings
from vqtok.data.galleries import open_gallery
from vqtok.data.pictures import write_picture
from vqtok.metrics.features import Lite0Features
from vqtok.metrics.frechet import Moments, frechet_distance
from vqtok.storage.folders import write_file

TERMS = ("reconstruction", "prior", "denoising", "total")


@dataclass(frozen=True, kw_only=True)
class Job:
    """What to measure, on what.

    Args:
        model: Folder or hub id of a DDPM.
        data: Gallery of held-out pictures.
        count: Pictures whose bound is measured; None takes all.
        times: Times of the bound for each picture; None sums over all of them.
        samples: Pictures drawn for the distance; 0 leaves it out.
        sampler: How they are drawn.
        batch: Pictures at once.
        seed: Of noise and draws.
        out: Receives report.json and drawings.png.
    """

    model: str
    data: str
    count: int | None
    times: int | None
    samples: int
    sampler: Sampler
    batch: int
    seed: int
    out: Path


def evaluate(job: Job) -> dict[str, Any]:
    """Measure as `job` says; writes and returns the report.

    Raises:
        ValueError: if model and pictures do not belong together.
    """
    model = DDPM.from_pretrained(job.model).to("cuda" if torch.cuda.is_available() else "cpu")
    config = model.config
    pictures = Pictures(open_gallery(job.data, config.size), config.classes, config.network.in_channels == 1)
    images, labels = pictures.evenly(job.count)
    report = {
        "model": job.model,
        "data": job.data,
        "seed": job.seed,
        "steps": model.process.steps,
        "times": job.times or model.process.steps,
        **bound(model, images, labels, job),
    }
    if job.samples:
        report |= {
            "samples": job.samples,
            "sampler": job.sampler.kind,
            "sampler_steps": len(job.sampler.pairs(model.process)),
            "fd_lite0": distance(model, pictures, job),
        }
    write_picture(job.out / "drawings.png", drawings(model, images, job.seed))
    write_file(job.out / "report.json", (json.dumps(report, indent=1) + "\n").encode())
    return report


def bound(model: DDPM, images: Tensor, labels: Tensor, job: Job) -> dict[str, Any]:
    """Terms of the bound of pictures (n, c, h, w), their standard error, and the curve over times.

    Estimates are clipped to what pixels can be, as DDPM's are.
    """
    measuring, parts = Measuring(times=job.times, correction=CLIP), []
    for start in range(0, len(images), job.batch):
        part = slice(start, start + job.batch)
        classes = labels[part].tolist() if model.config.classes else ()
        parts.append(model.elbo(images[part], seed=job.seed + start, classes=classes, measuring=measuring))
    found = {name: torch.cat([getattr(part, name) for part in parts]) for name in TERMS}
    counts = torch.stack([part.counts for part in parts])
    curve = (torch.stack([part.curve for part in parts]).nan_to_num() * counts).sum(0) / counts.sum(0)
    return {
        "pictures": len(images),
        "bits": {name: float(values.mean()) for name, values in found.items()},
        "standard_error": float(found["total"].std() / math.sqrt(len(images))),
        "curve": [None if math.isnan(value) else value for value in curve.tolist()],
    }


def distance(model: DDPM, pictures: Pictures, job: Job) -> float:
    """FD-lite0 between pictures that are drawn and all those of a gallery.

    Raises:
        ValueError: if the features' package is not installed, or there are fewer than two pictures.
    """

    def drawn() -> Iterator[Tensor]:
        for start in range(0, job.samples, job.batch):
            count = min(job.batch, job.samples - start)
            classes = model.config.classes  # in turn, so that all are drawn alike
            yield model.sample(count, job.sampler, seed=job.seed + start, classes=classes)

    return frechet_distance(cloud(all_of(pictures, job.batch), model.device), cloud(drawn(), model.device))


def all_of(pictures: Pictures, batch: int) -> Iterator[Tensor]:
    """All pictures in batches (b, c, h, w)."""
    for start in range(0, len(pictures), batch):
        yield pictures.part(range(start, min(start + batch, len(pictures))))[0]


def cloud(batches: Iterable[Tensor], device: torch.device) -> Moments:
    """Features of pictures in batches (b, c, h, w), as FD-lite0 compares them.

    Raises:
        ValueError: if the features' package is not installed.
    """
    features, found = Lite0Features().to(device), Moments(Lite0Features.WIDTH)
    for images in batches:
        found.add(features(images.to(device).expand(-1, 3, -1, -1)).cpu())  # gray ones in three channels
    return found


def told(report: dict[str, Any]) -> list[str]:
    """The report in lines."""
    bits = report["bits"]
    how = "all" if report["times"] == report["steps"] else f"{report['times']} of"
    lines = [
        f"{bits['total']:.4f} bits a dimension or less, +- {report['standard_error']:.4f}, over "
        f"{report['pictures']:,} pictures and {how} {report['steps']:,} times:",
        f"reconstruction {bits['reconstruction']:.4f}, prior matching {bits['prior']:.2g}, denoising "
        f"matching {bits['denoising']:.4f}",
    ]
    if "fd_lite0" in report:
        lines.append(
            f"FD-lite0 {report['fd_lite0']:.1f} of {report['samples']:,} pictures drawn by "
            f"{report['sampler']} in {report['sampler_steps']:,} steps"
        )
    return lines


def main(argv: list[str] | None = None) -> None:
    """`vqtok evaluate diffusion`: figures and drawings."""
    parser = argparse.ArgumentParser(
        "vqtok evaluate diffusion", description="Measure a DDPM on pictures it was not trained on."
    )
    add = parser.add_argument
    add("--model", required=True, help="folder or hub id")
    add("--data", required=True, metavar="GALLERY", help="held-out pictures")
    add("--count", type=int, metavar="N", help="pictures whose bound is measured [all]")
    add("--times", type=int, metavar="N", help="times of the bound for each picture [all]")
    add("--samples", type=int, default=2000, metavar="N", help="pictures drawn for FD-lite0 [%(default)s]")
    add("--sampler", choices=[*SAMPLERS], default=DDIM.kind, help="[%(default)s]")
    add("--steps", type=int, metavar="N", help="of the sampler [its own]")
    add("--batch", type=int, default=64, metavar="N", help="pictures at once [%(default)s]")
    add("--seed", type=int, default=0, help="of noise and draws [%(default)s]")
    place = Path("runs/evaluate-diffusion")
    add("--out", type=Path, default=place, help="for report.json and drawings.png [%(default)s]")
    settings = vars(parser.parse_args(argv))
    kind, steps = settings.pop("sampler"), settings.pop("steps")
    sampler = SAMPLERS[kind]() if steps is None else SAMPLERS[kind](steps=steps)
    job = Job(**settings, sampler=sampler)
    print(*told(evaluate(job)), job.out / "report.json", job.out / "drawings.png", sep="\n")


if __name__ == "__main__":
    main()
