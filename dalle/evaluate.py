"""How well a model knows pairs it never saw: nats of text and of pictures, beside those of wrong captions.

Nats are of tokens: what the image tokenizer loses is not in them, and figures compare between models of the
same tokenizers only. What captions are worth is seen beside two floors: those of other pictures, and none.

Letters: r rows, n places of text, t tokens of a picture.
"""

import argparse
import json
import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from einops import rearrange
from torch import Tensor

from dalle.data import rows_of
from dalle.generate import Scorer, Start, drawn, guided
from dalle.layout import Layout
from dalle.model import Dalle
from dalle.network import Network, nats, spoken_mean
from vqtok.data.pictures import write_picture
from vqtok.storage.folders import write_file
from vqtok.training.batches import seeds


@torch.inference_mode()
def held_out_nats(network: Network, ids: Tensor, batch: int = 32) -> dict[str, float]:
    """Mean nats of held-out rows: `text` of a place of it, `words` of words and their end, `image` of tokens.

    Args:
        network: In evaluation mode.
        ids: (r, n + t).
        batch: Rows at once.
    """
    text, image = _nats(network, ids, batch)
    spoken = spoken_mean(text, ids, network.layout)
    found = {"text": text.mean(), "words": spoken.mean(), "image": image.mean()}
    return {f"validation/{name}": float(value) for name, value in found.items()}


def drawings(model: Dalle, kept: Tensor, seed: int, count: int = 8, guidance: float = 3.0) -> Tensor:
    """(3, H, W): held-out pictures, and two rows drawn by their captions, the first without guidance.

    Args:
        model: In evaluation mode.
        kept: (r, n + t) held-out rows.
        seed: Of the draws.
        count: Pictures a row.
        guidance: Of the last row.
    """
    ids, layout = kept[:count].to(model.device), model.layout
    start = Start.of(ids[:, : layout.places])
    rows = [ids[:, layout.places :]]
    for scale in (1.0, guidance):
        rows.append(drawn(model.gpt, layout, start, guided(None, scale), seeds(seed, 1), model.batch))
    images = [model.tokenizer.decode(layout.grid(row)).cpu() for row in rows]
    return rearrange(torch.stack(images), "r b c h w -> c (r h) (b w)")


def others(ids: Tensor, layout: Layout) -> Tensor:
    """(r, n + t): the same pictures, each behind the next caption that is not its own.

    Raises:
        ValueError: if all captions are the same.
    """
    text = ids[:, : layout.places]
    names = [tuple(row) for row in text.tolist()]
    if len({*names}) < 2:
        raise ValueError(f"{len(names)} pairs have one caption between them: measure on two captions or more")
    swapped = []
    for row, name in enumerate(names):
        further = (place % len(names) for place in range(row + 1, row + len(names)))
        swapped.append(next(place for place in further if names[place] != name))
    return torch.cat([text[swapped], ids[:, layout.places :]], dim=1)


@dataclass(frozen=True, kw_only=True)
class Job:
    """What to measure, on what.

    Args:
        model: Folder or hub id of a DALL-E.
        shards: Of held-out pairs, by the model's image tokenizer.
        count: Pairs to measure on; None takes all.
        guidance: Of pictures that are drawn.
        batch: Rows at once.
        seed: Of the draws.
        out: Receives report.json and drawings.png.
        samples: Captions of them to draw a picture of, where there is a scorer.
    """

    model: str
    shards: Path
    count: int | None
    guidance: float
    batch: int
    seed: int
    out: Path
    samples: int = 64


def evaluate(job: Job, scorer: Scorer | None = None) -> dict[str, Any]:
    """Measure as `job` says; writes and returns the report.

    Args:
        job: What to measure.
        scorer: Marks drawn pictures by their captions, beside held-out ones.

    Raises:
        ValueError: if model and shards do not belong together.
    """
    model = Dalle.from_pretrained(job.model).to("cuda" if torch.cuda.is_available() else "cpu")
    rows = rows_of(job.shards, model.tokenizer, job.model, model.text, model.layout)
    chosen = rows.evenly(job.count)
    ids, found = rows.part(chosen), rows.found()
    report = {
        "model": job.model,
        "shards": str(job.shards),
        "pairs": len(ids),
        "captions_cut": found.cut,
        "captions_unknown": found.unknown,
        "tokens": {"text": model.layout.places, "image": model.layout.tokens},
        **measured(model.network, ids, job.batch),
    }
    if scorer is not None:
        captions = [rows.captions[number] for number in chosen[: job.samples]]
        report["scores"] = marked(model, ids[: len(captions)], captions, scorer, job)
    sheet = drawings(model, ids, job.seed, guidance=job.guidance)
    write_picture(job.out / "drawings.png", sheet)
    write_file(job.out / "report.json", (json.dumps(report, indent=1) + "\n").encode())
    return report


@torch.inference_mode()
def measured(network: Network, ids: Tensor, batch: int) -> dict[str, Any]:
    """Nats of text and of pictures, those of pictures beside their floors.

    Args:
        network: In evaluation mode.
        ids: (r, n + t).
        batch: Rows at once.
    """
    layout = network.layout
    text, image = _nats(network, ids, batch)
    silent = torch.cat([layout.padding.expand(len(ids), -1), ids[:, layout.places :]], dim=1)
    other, null = (_nats(network, rows, batch)[1] for rows in (others(ids, layout), silent))
    means = {"caption": image, "another_caption": other, "no_caption": null}
    return {
        "image_nats": {name: float(found.mean()) for name, found in means.items()}
        | {"uniform": math.log(layout.codes)},
        "text_nats": {
            "place": float(text.mean()),
            "word": float(spoken_mean(text, ids, layout).mean()),
            "uniform": math.log(layout.first_code),
        },
        # Ties, as of a model that ignores captions, are no preference.
        "own_caption_fits_better": float((image.sum(1) < other.sum(1)).float().mean()),
    }


def marked(model: Dalle, ids: Tensor, captions: Sequence[str], scorer: Scorer, job: Job) -> dict[str, float]:
    """Mean scores of pictures drawn by captions, of held-out ones (the ceiling), and of wrong captions.

    Args:
        model: In evaluation mode.
        ids: (r, n + t) of the captions' own pairs.
        captions: (r,).
        scorer: Marks pictures.
        job: Guidance, batch and seed.
    """
    start = Start.of(ids[:, : model.layout.places].to(model.device))
    sampling = guided(None, job.guidance)
    tokens = drawn(model.gpt, model.layout, start, sampling, seeds(job.seed, 1), job.batch)
    pictures = {"drawn": tokens, "held_out": ids[:, model.layout.places :].to(model.device)}
    found: dict[str, float] = {"captions": len(captions)}
    for name, part in pictures.items():
        scores = scorer(model.tokenizer.decode(model.layout.grid(part)), captions)  # (r, r)
        own = scores.diagonal()
        found[name] = float(own.mean())
        rest = max(1, scores.numel() - len(own))
        found[f"{name}_another_caption"] = float((scores.sum() - own.sum()) / rest)
    return found


def told(report: dict[str, Any]) -> list[str]:
    """The report in lines."""
    image, text = report["image_nats"], report["text_nats"]
    lines = [
        f"image: {image['caption']:.4f} nats a token over {report['pairs']:,} pairs; another caption "
        f"{image['another_caption']:.4f}, none {image['no_caption']:.4f} (even odds {image['uniform']:.3f})",
        f"text: {text['word']:.4f} nats a word, {text['place']:.4f} a place with padding "
        f"(even odds {text['uniform']:.3f})",
        f"the own caption fits better than another in {report['own_caption_fits_better']:.1%} of the pairs",
    ]
    cut, unknown = report["captions_cut"], report["captions_unknown"]
    if cut or unknown:
        lines.append(f"{cut} captions were cut, {unknown} have unknown characters")
    if "scores" in report:
        scores = report["scores"]
        lines.append(
            f"scores: drawn {scores['drawn']:.4f} (another caption {scores['drawn_another_caption']:.4f}), "
            f"held out {scores['held_out']:.4f} ({scores['held_out_another_caption']:.4f})"
        )
    return lines


def main(argv: list[str] | None = None) -> None:
    """`vqtok evaluate dalle`: figures and drawings."""
    parser = argparse.ArgumentParser(
        "vqtok evaluate dalle", description="Measure a DALL-E on pairs it was not trained on."
    )
    add = parser.add_argument
    add("--model", required=True, help="folder or hub id")
    add("--shards", required=True, type=Path, metavar="FOLDER", help="of held-out pairs, by its tokenizer")
    add("--count", type=int, metavar="N", help="pairs to measure on [all]")
    add("--guidance", type=float, default=3.0, metavar="S", help="of the drawings [%(default)s]")
    add("--batch", type=int, default=32, metavar="N", help="pairs at once [%(default)s]")
    add("--seed", type=int, default=0, help="of the drawings [%(default)s]")
    place = Path("runs/evaluate-dalle")
    add("--out", type=Path, default=place, help="for report.json and drawings.png [%(default)s]")
    job = Job(**vars(parser.parse_args(argv)))
    print(*told(evaluate(job)), job.out / "report.json", job.out / "drawings.png", sep="\n")


def _nats(network: Network, ids: Tensor, batch: int) -> tuple[Tensor, Tensor]:
    """Nats of text (r, n) and of pictures (r, t), on the CPU."""
    device = network.gpt.embed.weight.device
    parts = [nats(network, part.to(device)) for part in ids.split(batch)]
    text, image = (torch.cat(part).cpu() for part in zip(*parts, strict=True))
    return text, image


if __name__ == "__main__":
    main()
