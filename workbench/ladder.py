"""`python -m workbench.ladder`: is FD-lite0 a ruler of quality? It must rise with every rung of damage.

Noise and blur of growing strength are laid on the embedded emoji that are held out, and the distance from the
undamaged ones is written into docs/fd_lite0.md, for fewer images and for all of them.

Letters: b images, c channels, h w size, d features.
"""

import argparse
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from vqtok.data.emoji import load_emoji
from vqtok.data.views import blurred, noisy
from vqtok.metrics.features import Lite0Features
from vqtok.metrics.frechet import Moments, frechet_distance
from vqtok.metrics.images import psnr
from vqtok.storage.folders import write_file

NOISES = (0.02, 0.05, 0.1, 0.2, 0.4)  # standard deviation, in units of white
BLURS = (0.5, 1.0, 2.0, 4.0)  # standard deviation, in pixels
FEW = 100  # images of the smaller sample
HEAD = """# FD-lite0 against damage

Written by `python -m workbench.ladder`; change that, not this.

FD-lite0 is the Fréchet distance of EfficientNet-Lite0's pooled features: 1,280 of each image, seen at 64
pixels. The network learned from photographs. That its distance follows the quality of emoji is not evident,
so here it is measured between undamaged held-out emoji (shaded) and the same emoji under growing damage.
"""
PLACE = Path(__file__).parent.parent / "docs" / "fd_lite0.md"


@dataclass(frozen=True)
class Rung:
    """One strength of one damage: mean PSNR (dB), and the distance by the number of images."""

    damage: str
    strength: float
    psnr: float
    distances: dict[int, float]


def held_out() -> Tensor:
    """(b, 3, 64, 64) shaded emoji of all names that nothing was trained on."""
    emoji = [*load_emoji("validation"), *load_emoji("test")]
    return torch.stack([drawn.image("shaded") for drawn in emoji])


def climb(
    images: Tensor, counts: Sequence[int], noises: Sequence[float] = NOISES, blurs: Sequence[float] = BLURS
) -> list[Rung]:
    """All rungs, damage by damage, for the first `counts` of images (b, 3, h, w) in [0, 1]."""
    network, rng = Lite0Features(), np.random.default_rng(0)
    clean = _clouds(network, images, counts)
    damaged = [("noise", strength, [noisy(image, rng, strength) for image in images]) for strength in noises]
    damaged += [("blur", strength, [blurred(image, strength) for image in images]) for strength in blurs]
    found = []
    for damage, strength, made in damaged:
        clouds = _clouds(network, torch.stack(made), counts)
        distances = {count: frechet_distance(clean[count], clouds[count]) for count in counts}
        found.append(Rung(damage, strength, float(psnr(torch.stack(made), images).mean()), distances))
    return found


def halves(images: Tensor) -> float:
    """Distance of every other image from the rest: what other pictures of the same kind are apart."""
    network = Lite0Features()
    parts = [_clouds(network, images[start::2], [len(images) // 2]) for start in (0, 1)]
    return frechet_distance(*(clouds[len(images) // 2] for clouds in parts))


def rises(rungs: Sequence[Rung], count: int) -> bool:
    """Whether the distance of `count` images grows with every strength of every damage."""
    pairs = [(one, other) for one, other in pairwise(rungs) if one.damage == other.damage]
    return all(one.distances[count] < other.distances[count] for one, other in pairs)


def page(rungs: Sequence[Rung], apart: float) -> str:
    """The rungs as a page of the documentation."""
    counts = list(rungs[0].distances)
    verdicts = [f"{count} images: {'yes' if rises(rungs, count) else 'NO'}" for count in counts]
    lines = [
        HEAD,
        f"Does it rise with every rung? {'; '.join(verdicts)}.",
        "",
        f"| damage | strength | PSNR dB | {' | '.join(f'{count} images' for count in counts)} |",
        f"|---|---|---|{'---|' * len(counts)}",
        *(_line(rung) for rung in rungs),
        "",
        f"Two halves of the {max(counts)} undamaged emoji are {apart:.2f} apart: with fewer images than",
        "features, other pictures of the same kind are far away. Figures compare on the same images only.",
    ]
    return "\n".join(lines) + "\n"


def main(argv: list[str] | None = None) -> None:
    """Climb, and write the page."""
    about = "Damage emoji, and see FD-lite0 rise."
    parser = argparse.ArgumentParser("python -m workbench.ladder", description=about)
    parser.add_argument("--out", type=Path, default=PLACE, help="the page [%(default)s]")
    out = parser.parse_args(argv).out
    with torch.inference_mode():
        images = held_out()
        text = page(climb(images, (FEW, len(images))), halves(images))
    write_file(out, text.encode())
    print(text, out, sep="\n")


def _clouds(network: Lite0Features, images: Tensor, counts: Sequence[int]) -> dict[int, Moments]:
    """Moments of the features of the first so many images."""
    features = torch.cat([network(part) for part in images.split(64)])  # (b, d)
    clouds = {count: Moments(Lite0Features.WIDTH) for count in counts}
    for count, cloud in clouds.items():
        cloud.add(features[:count])
    return clouds


def _line(rung: Rung) -> str:
    unit = {"noise": "of white", "blur": "px"}[rung.damage]
    figures = " | ".join(f"{distance:.2f}" for distance in rung.distances.values())
    return f"| {rung.damage} | {rung.strength:g} {unit} | {rung.psnr:.1f} | {figures} |"


if __name__ == "__main__":
    main()
