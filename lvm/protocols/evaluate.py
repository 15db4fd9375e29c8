"""How a large vision model does on Bar et al.'s protocols, over pictures of the user's.

Every score stands between its ceiling (the tokenizer's round trip of the right answer) and its floors (a copy
of the query, a copy of the last answer shown, a white picture).

    vqtok evaluate protocols --data VOCdevkit/VOC2012 --protocol segmentation --count 100 --out runs/protocols

Letters: q questions, i images of a prompt, t tokens of an image, c h w image; r rows of a sheet.
"""

import argparse
import json
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, field
from functools import partial
from pathlib import Path

import torch
from rich import box
from rich.console import Console
from rich.progress import Progress
from rich.table import Table
from torch import Tensor

from lvm.exam import decode
from lvm.generate import answers
from lvm.marks import masks_of
from lvm.model import DEFAULT_WEIGHTS, LVM
from lvm.protocols.marks import Marks, class_ious, color_errors, joined, means, overlap
from lvm.protocols.pairs import boxes_of
from lvm.protocols.pools import Pool, Question, colorization, detection, questions, segmentation
from lvm.protocols.voc import FOLDS, Voc
from lvm.report import WIDTH, sheet
from vqtok.data.pictures import write_picture
from vqtok.gpt.sampling import Sampling
from vqtok.metrics.lpips import lpips_or_reason
from vqtok.storage.folders import write_file

PROTOCOLS = ("segmentation", "detection", "colorization")
CONTENDERS = ("answer", "round trip", "copy query", "copy last answer", "white")
ROWS = 3  # of the sheet, from each part

Mark = Callable[[Tensor, Tensor], Marks]  # answers and right answers (b, 3, h, w) -> marks


@dataclass(frozen=True, kw_only=True)
class Part:
    """What was found on one fold, or on all.

    Args:
        questions: How many were asked.
        queries: How many of them are about different examples.
        left_out: Examples, or pictures, that the protocol does not ask about.
        scores: Contender -> score -> mean.
        classes: Class -> contender -> IoU; nothing of colorization.
    """

    questions: int
    queries: int
    left_out: int
    scores: dict[str, dict[str, float]]
    classes: dict[str, dict[str, float]]


@dataclass(frozen=True, kw_only=True)
class Report:
    """What was found.

    Args:
        protocol: Its name.
        size: Height and width of the pictures, in pixels.
        shots: Pairs before a query.
        seed: Of the questions.
        parts: By name.
        mean: Contender -> score, each part counting alike.
        pictures: Part -> (r, 2 shots + 3, 3, h, w): pairs shown, query, answer, right answer. Not in the
            JSON.
    """

    protocol: str
    size: int
    shots: int
    seed: int
    parts: dict[str, Part]
    mean: dict[str, dict[str, float]]
    pictures: dict[str, Tensor] = field(repr=False)

    def facts(self) -> dict:
        """All but the pictures, ready for JSON."""
        numbers = {name: value for name, value in vars(self).items() if name not in ("parts", "pictures")}
        return numbers | {"parts": {name: asdict(part) for name, part in self.parts.items()}}


def evaluate(
    model: LVM,
    protocol: str,
    pools: Sequence[Pool],
    shots: int = 1,
    count: int = 1000,
    seed: int = 0,
    mark: Mark | None = None,
) -> Report:
    """Ask `model` questions of each pool; the same ones every time, answered greedily.

    Args:
        model: In evaluation mode.
        protocol: How answers are read and marked: segmentation, detection or colorization.
        pools: What to ask, in pictures of the model's size.
        shots: Pairs before a query.
        count: Questions of each pool.
        seed: Of the questions.
        mark: Marks answers; the protocol's own, without LPIPS, unless given.

    Raises:
        ValueError: if there is no such protocol, more shots are wanted than fit, or a pool has too little.
    """
    if protocol not in PROTOCOLS:
        raise ValueError(f"no protocol {protocol!r}: choose one of {', '.join(PROTOCOLS)}")
    if shots > model.shots:
        raise ValueError(f"{shots} shots are too many, {model.shots} fit before a query: show fewer")
    asked = {pool.name: questions(pool, count, shots, seed) for pool in pools}  # all mistakes before any work
    parts, pictures = {}, {}
    with Progress(transient=True, console=Console(stderr=True)) as progress:
        for pool in progress.track(pools, description=protocol):
            found = _sit(model, pool, asked[pool.name], mark or marker(protocol), protocol != "colorization")
            parts[pool.name], pictures[pool.name] = _part(pool, asked[pool.name], found[0]), found[1]
    every = [part.scores for part in parts.values()]
    mean = {
        name: {score: sum(scores[name][score] for scores in every) / len(every) for score in marks}
        for name, marks in every[0].items()
    }
    return Report(
        protocol=protocol,
        size=model.config.tokenizer.size,
        shots=shots,
        seed=seed,
        parts=parts,
        mean=mean,
        pictures=pictures,
    )


def marker(protocol: str, lpips: torch.nn.Module | None = None) -> Mark:
    """How answers of a protocol are marked, colors by LPIPS too if it is given."""
    if protocol == "colorization":
        return partial(color_errors, lpips=lpips)
    return partial(overlap, read=masks_of if protocol == "segmentation" else boxes_of)


def _sit(
    model: LVM, pool: Pool, asked: Sequence[Question], mark: Mark, masked: bool, batch: int = 16
) -> tuple[dict[str, Marks], Tensor]:
    """Marks of every contender, question by question, and the first questions as rows of a sheet."""
    found, rows = {}, []
    for start in range(0, len(asked), batch):
        sentences = torch.stack([_sentence(pool, question) for question in asked[start : start + batch]])
        answer, ceiling = _answered(model, sentences)
        right = sentences[:, -1]
        contenders = [answer, ceiling, sentences[:, -2], sentences[:, -3]]
        contenders += [torch.ones_like(right)] if masked else []  # everything is object: no gray is that
        for name, pictures in zip(CONTENDERS, contenders, strict=False):
            found.setdefault(name, []).append(mark(pictures, right))
        if start < ROWS:
            rows.append(torch.cat([sentences[:, :-1], answer[:, None], sentences[:, -1:]], dim=1))
    return {name: joined(marks) for name, marks in found.items()}, torch.cat(rows)[:ROWS]


def _sentence(pool: Pool, question: Question) -> Tensor:
    """(i, 3, h, w): the pairs shown, the query, and its right answer."""
    pairs = [pool.pair(example) for example in (*question.shown, question.query)]
    return torch.stack([picture for pair in pairs for picture in pair])


@torch.inference_mode()
def _answered(model: LVM, sentences: Tensor) -> tuple[Tensor, Tensor]:
    """Answers (q, 3, h, w) to sentences (q, i, 3, h, w) without their last image, and its round trip."""
    device = model.gpt.embed.weight.device
    codes = [model.tokenizer.encode(images.to(device)) for images in sentences.unbind(1)]
    grid = codes[0].shape[1:]
    ids = torch.stack([each.flatten(1) for each in codes], dim=1)  # (q, i, t)
    drawn = answers(model.gpt, model.layout, ids[:, :-1], Sampling(temperature=0.0))
    return decode(model.tokenizer, drawn.view(-1, *grid)), decode(model.tokenizer, codes[-1])


def _part(pool: Pool, asked: Sequence[Question], found: dict[str, Marks]) -> Part:
    groups = [question.query.group for question in asked]
    by_class = {name: class_ious(marks, groups) for name, marks in found.items() if "iou" in marks}
    classes = {
        group: {name: ious[group] for name, ious in by_class.items()}
        for group in sorted({*groups})
        if by_class
    }
    return Part(
        questions=len(asked),
        queries=len({question.query for question in asked}),
        left_out=pool.left_out,
        scores={name: means(marks, groups) for name, marks in found.items()},
        classes=classes,
    )


def show(report: Report, console: Console) -> None:
    """Print what was asked, and a table: a line for each contender, a column for each score of each part."""
    columns = {name: part.scores for name, part in report.parts.items()}
    columns |= {"mean": report.mean} if len(columns) > 1 else {}
    console.print(f"{report.protocol}: {report.size} pixels, seed {report.seed}, pairs shown: {report.shots}")
    for name, part in report.parts.items():
        counts = f"{part.questions} questions about {part.queries} examples; {part.left_out} left out"
        console.print(f"{name}: {counts}")
    table = Table(box=box.SIMPLE_HEAD, padding=(0, 1, 0, 0))
    table.add_column("", no_wrap=True)
    for name, scores in columns.items():
        for score in scores["answer"]:
            table.add_column(f"{name}\n{score.replace('_', ' ')}", justify="right")
    for contender in report.mean:
        table.add_row(
            contender,
            *(f"{value:.3f}" for scores in columns.values() for value in scores[contender].values()),
        )
    console.print(table)


def main(argv: Sequence[str] | None = None) -> None:
    """`vqtok evaluate protocols`: prints the table, and writes report.json and sheet.png."""
    arguments = _arguments(argv)
    if arguments.protocol != "segmentation" and (arguments.folds or arguments.lists):
        raise ValueError(f"{arguments.protocol} has no folds: leave out --folds and --lists")
    device = "cuda" if torch.cuda.is_available() else "cpu"
    model = LVM.from_pretrained(arguments.model).to(device).eval()
    told = {}
    mark = _mark(arguments.protocol, device, told)
    pools = _pools(arguments, model.config.tokenizer.size)
    report = evaluate(
        model,
        arguments.protocol,
        pools,
        shots=arguments.shots,
        count=arguments.count,
        seed=arguments.seed,
        mark=mark,
    )
    show(report, Console(width=max(WIDTH, Console().width)))
    for name, said in told.items():
        print(f"{name}: {said}")
    out, facts = arguments.out, report.facts() | told
    out.mkdir(parents=True, exist_ok=True)
    write_file(out / "report.json", (json.dumps(facts, indent=1) + "\n").encode())
    write_picture(out / "sheet.png", sheet(report.pictures))
    print(f"{out}/report.json, {out}/sheet.png: pairs, query, answer and right answer")


def _arguments(argv: Sequence[str] | None) -> argparse.Namespace:
    about = "Measure a large vision model by Bar et al.'s protocols: docs/guides/protocols.md."
    parser = argparse.ArgumentParser("vqtok evaluate protocols", description=about)
    add = parser.add_argument
    data = "a folder such as VOCdevkit/VOC2012; for colorization, one of pictures"
    add("--data", type=Path, required=True, help=data)
    add("--protocol", choices=PROTOCOLS, required=True, help="what to ask for")
    add("--model", default=DEFAULT_WEIGHTS, help="folder or hub id; the shipped weights unless given")
    add("--shots", type=int, default=1, help="pairs shown before a query [%(default)s]")
    add("--count", type=int, default=1000, help="questions, of each fold [%(default)s]")
    add("--seed", type=int, default=0, help="of the questions [%(default)s]")
    add("--folds", type=int, nargs="+", help="of PASCAL-5i, for segmentation [0 1 2 3]")
    add("--lists", type=Path, help="folder of fold0.txt to fold3.txt [all classes of all masks]")
    add("--out", type=Path, default=Path("runs/evaluate-protocols"), help="for the files [%(default)s]")
    return parser.parse_args(argv)


def _mark(protocol: str, device: str, told: dict[str, str]) -> Mark:
    """The protocol's marks; `told` hears which network LPIPS has, or why there is none."""
    if protocol != "colorization":
        return marker(protocol)
    lpips, told["lpips_network"] = lpips_or_reason(device)
    return marker(protocol, lpips)


def _pools(arguments: argparse.Namespace, size: int) -> list[Pool]:
    if arguments.protocol == "colorization":
        return colorization(arguments.data, size)
    voc = Voc(arguments.data)
    if arguments.protocol == "detection":
        return detection(voc, size)
    return segmentation(voc, size, arguments.folds or range(FOLDS), arguments.lists)


if __name__ == "__main__":
    main()
