"""Fits a palette to a data set: k-means over the colors of all its pixels, as ImageGPT's (Chen et al. 2020).

    accelerate launch -m vqtok.tokenizers.fit_palette --config recipes/tokenizer/palette-emoji32.yaml

Pixels of 8 bits have at most 2^24 colors, so they are counted once, and Lloyd's rounds (Lloyd 1982) go over
colors weighted by their counts: the k-means of all pixels, at a cost that does not grow with the data set.
The start is k-means++ (Arthur and Vassilvitskii 2007). Sums are of whole numbers, exact in any order.

What was counted and every round are kept, and a fit that was killed goes on from there to the same bytes.

Letters: n colors, k centers.
"""

import json
import math
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch
from accelerate import PartialState
from torch import Tensor

from vqtok.data.galleries import Gallery, open_gallery
from vqtok.data.pictures import Fit
from vqtok.data.plan import pieces
from vqtok.storage.folders import write_file
from vqtok.tokenizers.lookup import nearest_code
from vqtok.tokenizers.palette import PaletteConfig, PaletteTokenizer
from vqtok.training import checkpoints
from vqtok.training.config import launch
from vqtok.training.progress import Meter

COLORS = 2**24
BATCH = 64  # images decoded at once


@dataclass(frozen=True, kw_only=True)
class TrainConfig:
    """A palette's fit.

    Args:
        folder: Receives `model/`, fit.json, and what a fit that was stopped goes on from.
        data: Gallery: a folder of pictures, an idx file, or `emoji:SPLIT[:COUNT]`.
        palette: Number of colors; size of the images.
        fit: What becomes of a folder's pictures that are not square.
        seed: Of the start.
        rounds: Most rounds of Lloyd's; it ends before when no color changes its center.
        decoders: Processes that decode pictures ahead.
        save_images: Images between two saves while colors are counted.
        tolerate: Share of a folder's pictures that may be unreadable.
    """

    folder: Path
    data: str
    palette: PaletteConfig = field(default_factory=PaletteConfig)
    fit: Fit = "crop"
    seed: int = 0
    rounds: int = 100
    decoders: int = 1
    save_images: int = 100_000
    tolerate: float = 0.01

    def __post_init__(self) -> None:
        if self.rounds < 1 or self.save_images < 1:
            raise ValueError(f"rounds {self.rounds} and save_images {self.save_images}: both are at least 1")


@dataclass
class Colors:
    """The different colors of a data set.

    Args:
        values: (n, 3) int64 in [0, 255].
        counts: (n,) int64, pixels of each.
    """

    values: Tensor
    counts: Tensor

    def to(self, device: str) -> "Colors":
        """The same on a device."""
        return Colors(self.values.to(device), self.counts.to(device))


def train(config: TrainConfig) -> PaletteTokenizer | None:
    """Fit a palette; on several processes the first does it all, and only it returns the palette.

    Raises:
        ValueError: if the gallery cannot be read, has fewer colors than are asked for, or the folder holds
            another fit.
    """
    if not PartialState().is_main_process:
        return None
    gallery = open_gallery(config.data, config.palette.size, config.fit, config.tolerate)
    facts = {"data": config.data, "size": config.palette.size, "fit": config.fit, "images": len(gallery)}
    colors = counted(gallery, config, facts)
    found, codes = len(colors.counts), config.palette.codes
    if found < codes:
        told = f"{config.data} has {found} colors, fewer than {codes}"
        raise ValueError(f"{told}: set palette.codes to {found} or less")
    device = "cuda" if torch.cuda.is_available() else "cpu"
    facts |= {"seed": config.seed, "codes": codes, "colors": found, "pixels": int(colors.counts.sum())}
    centers, errors = lloyd(colors.to(device), config, facts)
    palette = PaletteTokenizer.of(centers.cpu(), config.palette.size)
    palette.save_pretrained(config.folder / "model")
    report = facts | {"rounds": len(errors), "psnr": decibels(errors[-1]), "squared_error_by_round": errors}
    write_file(config.folder / "fit.json", (json.dumps(report, indent=1) + "\n").encode())
    print(f"{config.folder}/model: {codes} of {found:,} colors, {report['psnr']:.2f} dB over all pixels")
    return palette


def counted(gallery: Gallery, config: TrainConfig, facts: dict[str, Any]) -> Colors:
    """The colors of all images, counted; saves every `save_images`, and goes on from the last save."""
    place, counts = config.folder / "counts", torch.zeros(COLORS, dtype=torch.int64)
    done, skipped = 0, {}
    if saved := _saved(place, facts):
        tensors, state = saved
        counts[tensors["counts"]["colors"]] = tensors["counts"]["counts"]
        done, skipped = state["done"], state["skipped"]
    with Meter(done, len(gallery), batch=1, shown=True, unit="image") as meter:
        batches = pieces(range(done, len(gallery)), BATCH)
        for numbers, images in zip(batches, gallery.decoded(batches, config.decoders), strict=True):
            told = zip(numbers, images, strict=True)
            skipped |= {gallery.name(number): why for number, why in told if isinstance(why, str)}
            gallery.refuse(skipped)
            add(counts, [image for image in images if isinstance(image, np.ndarray)])
            done = numbers.stop
            meter.show(done, {})
            if done % config.save_images < BATCH or done == len(gallery):
                seen = counts.nonzero()[:, 0]
                tensors = {"counts": {"colors": seen, "counts": counts[seen]}}
                state = {"facts": facts, "done": done, "skipped": skipped}
                checkpoints.save(place, done, tensors, state, keep=1)
    return colors_of(counts)


def add(counts: Tensor, images: list[np.ndarray]) -> None:
    """Count the colors of images (3, h, w) uint8 into `counts` (2^24,), red, green and blue as one number."""
    if images:
        red, green, blue = torch.from_numpy(np.stack(images)).long().unbind(1)
        seen, times = ((red << 16) + (green << 8) + blue).unique(return_counts=True)
        counts[seen] += times


def colors_of(counts: Tensor) -> Colors:
    """The colors that `add` has counted into (2^24,)."""
    seen = counts.nonzero()[:, 0]
    return Colors(torch.stack([seen >> 16, seen >> 8 & 255, seen & 255], dim=1), counts[seen])


def lloyd(colors: Colors, config: TrainConfig, facts: dict[str, Any]) -> tuple[Tensor, list[float]]:
    """Centers (k, 3) in [-1, 1], and the mean squared error of every round, the last one being theirs.

    Saves every round, and goes on from the last one.
    """
    place, errors = config.folder / "rounds", []
    if saved := _saved(place, facts):
        tensors, state = saved
        centers, errors = tensors["centers"]["centers"].to(colors.values.device), state["errors"]
    else:
        centers = spread(colors, config.palette.codes, config.seed)
    with Meter(len(errors), config.rounds, batch=1, shown=True, unit="round") as meter:
        while len(errors) < config.rounds:
            moved, error = improved(colors, centers)
            errors.append(error)
            meter.show(len(errors), {"psnr": decibels(error)})
            if torch.equal(moved, centers) or len(errors) == config.rounds:
                break
            centers = moved
            state = {"facts": facts, "errors": errors}
            checkpoints.save(place, len(errors), {"centers": {"centers": centers}}, state, keep=1)
    return centers, errors


def spread(colors: Colors, codes: int, seed: int) -> Tensor:
    """(k, 3) different colors in [-1, 1], drawn by k-means++: by squared distance to the nearest so far.

    Distances and counts are whole numbers, so the same are drawn on every device.
    """
    generator = torch.Generator().manual_seed(seed)
    nearest, chosen = torch.ones_like(colors.counts), []
    for number in range(codes):
        ends = (colors.counts * nearest).cumsum(0)
        dart = int(torch.rand((), generator=generator, dtype=torch.float64) * int(ends[-1]))
        chosen.append(int(torch.searchsorted(ends, dart, right=True)))  # right: never one of distance 0
        far = (colors.values - colors.values[chosen[-1]]).square().sum(1)
        nearest = far if not number else torch.minimum(nearest, far)
    return scaled(colors.values[chosen])


def improved(colors: Colors, centers: Tensor) -> tuple[Tensor, float]:
    """One round of Lloyd's: centers (k, 3) moved to the means of their colors, and the error before the move.

    A center that no color has chosen moves to the color that costs most.

    Returns:
        Centers in [-1, 1], and the mean squared error of a pixel's red, green and blue, where white is 1.
    """
    pixels = scaled(colors.values)
    ids = nearest_code(pixels, centers)
    weighted = colors.values * colors.counts[:, None]
    counts = torch.zeros(len(centers), dtype=torch.int64, device=ids.device).index_add_(0, ids, colors.counts)
    sums = torch.zeros(len(centers), 3, dtype=torch.int64, device=ids.device).index_add_(0, ids, weighted)
    cost = colors.counts * (pixels.double() - centers[ids].double()).square().sum(1)
    moved = scaled(sums / counts.clamp(min=1)[:, None].double())
    idle = (counts == 0).nonzero()[:, 0]
    moved[idle] = pixels[cost.topk(len(idle)).indices]
    return moved, float(cost.sum() / colors.counts.sum() / 3 / 4)  # [-1, 1] is twice as wide as [0, 1]


def scaled(values: Tensor) -> Tensor:
    """Float32 in [-1, 1] of values in [0, 255]."""
    return (values.double() / 127.5 - 1).float()


def decibels(error: float) -> float:
    """PSNR of a mean squared error, in dB; at most 100."""
    return -10 * math.log10(max(error, 1e-10))


def _saved(place: Path, facts: dict[str, Any]) -> tuple[dict[str, dict[str, Tensor]], dict[str, Any]] | None:
    """The newest save, if there is one.

    Raises:
        ValueError: if it belongs to another fit.
    """
    if (newest := checkpoints.newest(place)) is None:
        return None
    tensors, state = checkpoints.load(newest)
    for name, value in facts.items():
        if (theirs := state["facts"].get(name)) != value:
            raise ValueError(
                f"{place.parent} holds a fit with {name} {theirs!r}, this one has {value!r}: give another "
                "folder, or remove that one"
            )
    return tensors, state


if __name__ == "__main__":
    launch(train, TrainConfig)
