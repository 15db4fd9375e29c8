"""How well a model knows pictures it never saw: nats, bits, masked loss, classes, and drawings to look at.

Nats are of tokens. Over a palette a token is a pixel whose color was rounded, over codes it is a piece of a
picture; what the tokenizer loses is not in them. So bits a pixel stand beside how much is lost, and compare
between models of one tokenizer only, never with those of models of pixels (PixelCNN++, DDPM).

Letters: n pictures, t tokens of a picture, c classes, h w pixels.
"""

import argparse
import json
import math
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from einops import rearrange
from torch import Tensor

from imagegpt.layout import Layout
from imagegpt.model import ImageGPT
from imagegpt.network import Network, hide, losses
from imagegpt.rows import Rows, open_shards
from vqtok.data.galleries import open_gallery
from vqtok.data.pictures import write_picture
from vqtok.metrics.images import psnr
from vqtok.storage.folders import write_file

PASSES = 4  # over pictures with other tokens hidden, whose mean is the masked loss


@torch.inference_mode()
def held_out_losses(
    network: Network, ids: Tensor, labels: Tensor, share: float | None = 0.15, batch: int = 32
) -> dict[str, float]:
    """Losses of held-out pictures in nats, and the share of right classes where the network names them.

    A model that sees both sides is asked for hidden tokens, always the same ones.

    Args:
        network: In evaluation mode.
        ids: (n, t).
        labels: (n,) classes.
        share: Of the tokens that are hidden, as in training.
        batch: Pictures at once.
    """
    device, causal = network.gpt.embed.weight.device, network.gpt.config.causal
    generator, totals = torch.Generator().manual_seed(0), {}
    for _ in range(1 if causal else PASSES):
        for part, label in zip(ids.split(batch), labels.split(batch), strict=True):
            hidden = None if causal else hide(part, share, generator).to(device)
            part, label = part.to(device), label.to(device)
            scores, named = network(part, label, hidden)
            found = losses(scores, part, hidden, named, label)
            if named is not None:
                found["right"] = (named.argmax(1) == label).float().mean()
            for name, value in found.items():
                totals.setdefault(name, []).append(float(value) * len(part))
    whole = len(ids) * (1 if causal else PASSES)
    return {f"validation/{name}": sum(values) / whole for name, values in totals.items()}


def drawings(model: ImageGPT, kept: Tensor, seed: int, count: int = 8) -> Tensor:
    """(3, H, W): held-out pictures, the same with their lower half drawn, and pictures drawn from nothing.

    Of a model that sees both sides: held-out pictures, the same with a hole, and the hole filled in.

    Args:
        model: In evaluation mode.
        kept: (n, t) ids of held-out pictures.
        seed: Of the draws.
        count: Pictures a row.
    """
    ids = model.layout.grid(kept[:count].to(model.device))
    images = model.tokenizer.decode(ids)
    if model.config.gpt.causal:
        half = model.complete(images, rows=model.layout.shape[0] // 2, seed=seed)
        rows = [images, half, model.sample(len(images), seed=seed)]
    else:
        holes = middle(model.config.tokenizer.size).to(images.device)
        rows = [images, images.masked_fill(holes, 0.5), model.fill(images, holes, seed=seed)]
    return rearrange(torch.stack(rows).cpu(), "r b c h w -> c (r h) (b w)")


def middle(size: int) -> Tensor:
    """(h, w) bool: the square in the middle, a quarter of the picture."""
    hole = torch.zeros(size, size, dtype=torch.bool)
    hole[size // 4 : size - size // 4, size // 4 : size - size // 4] = True
    return hole


@dataclass(frozen=True, kw_only=True)
class Job:
    """What to measure, on what.

    Args:
        model: Folder or hub id of an ImageGPT.
        shards: Of held-out pictures, by the model's tokenizer.
        data: The gallery they were made from, to tell what the tokenizer loses; None leaves that out.
        count: Pictures to measure on; None takes all.
        batch: Pictures at once.
        seed: Of the drawings.
        out: Receives report.json and drawings.png.
    """

    model: str
    shards: Path
    data: str | None
    count: int | None
    batch: int
    seed: int
    out: Path


def evaluate(job: Job) -> dict[str, Any]:
    """Measure as `job` says; writes and returns the report.

    Raises:
        ValueError: if model and shards do not belong together.
    """
    model = ImageGPT.from_pretrained(job.model).to("cuda" if torch.cuda.is_available() else "cpu")
    layout = Layout.of(model.tokenizer)
    shards = open_shards(job.shards, model.tokenizer, job.model, layout)
    rows = Rows(shards, model.config.classes)
    ids, labels = rows.evenly(job.count)
    found = held_out_losses(model.network, ids, labels, batch=job.batch)
    nats = found["validation/ids"]
    report = {
        "model": job.model,
        "shards": str(job.shards),
        "pictures": len(ids),
        "tokens": layout.tokens,
        "codes": layout.codes,
        "sees": "the past" if model.config.gpt.causal else "both sides",
        "nats_per_token": nats,
        "uniform_nats": math.log(layout.codes),
    }
    if model.config.gpt.causal:
        bits = {"bits_per_token": nats / math.log(2), "bits_per_pixel": model.bits_per_pixel(nats)}
        report |= bits
    report |= {name.removeprefix("validation/"): value for name, value in found.items() if "ids" not in name}
    if job.data is not None:
        report["psnr"] = lost(model, job.data, len(ids))
    write_picture(job.out / "drawings.png", drawings(model, ids, job.seed))
    write_file(job.out / "report.json", (json.dumps(report, indent=1) + "\n").encode())
    return report


def lost(model: ImageGPT, data: str, count: int) -> float:
    """Mean PSNR in dB between pictures of a gallery and what the tokenizer gives back of them."""
    gallery = open_gallery(data, model.config.tokenizer.size)
    found = []
    for start in range(0, min(count, len(gallery)), 64):
        images = torch.stack([gallery[k] for k in range(start, min(start + 64, count, len(gallery)))])
        images = images.to(model.device)
        found.append(psnr(model.tokenizer.decode(model.tokenizer.encode(images)), images).cpu())
    return float(torch.cat(found).mean())


def told(report: dict[str, Any]) -> list[str]:
    """The report in lines."""
    nats, uniform = report["nats_per_token"], report["uniform_nats"]
    what = "" if "bits_per_pixel" in report else " of hidden tokens, given the rest"
    lines = [f"{nats:.4f} nats a token{what} over {report['pictures']:,} pictures (all alike: {uniform:.3f})"]
    if "bits_per_pixel" in report:
        loss = f", which costs {report['psnr']:.1f} dB PSNR" if "psnr" in report else ""
        lines += [
            f"{report['bits_per_token']:.4f} bits a token, {report['bits_per_pixel']:.4f} bits a pixel "
            f"({report['bits_per_pixel'] / 3:.4f} a dimension)",
            f"of pictures as {report['tokens']} tokens of {report['codes']} codes{loss}: compare these bits "
            "with those of the same tokenizer only, not with bits per dimension of models of pixels",
        ]
    if "right" in report:
        lines.append(f"{report['right']:.1%} of the classes are right ({report['classes']:.4f} nats)")
    return lines


def main(argv: list[str] | None = None) -> None:
    """`vqtok evaluate imagegpt`: figures and drawings."""
    parser = argparse.ArgumentParser(
        "vqtok evaluate imagegpt", description="Measure an ImageGPT on pictures it was not trained on."
    )
    add = parser.add_argument
    add("--model", required=True, help="folder or hub id")
    add("--shards", required=True, type=Path, metavar="FOLDER", help="of held-out pictures, by its tokenizer")
    add("--data", metavar="GALLERY", help="what they were made from, to tell what the tokenizer loses")
    add("--count", type=int, metavar="N", help="pictures to measure on [all]")
    add("--batch", type=int, default=32, metavar="N", help="pictures at once [%(default)s]")
    add("--seed", type=int, default=0, help="of the drawings [%(default)s]")
    place = Path("runs/evaluate-imagegpt")
    add("--out", type=Path, default=place, help="for report.json and drawings.png [%(default)s]")
    job = Job(**vars(parser.parse_args(argv)))
    print(*told(evaluate(job)), job.out / "report.json", job.out / "drawings.png", sep="\n")


if __name__ == "__main__":
    main()
