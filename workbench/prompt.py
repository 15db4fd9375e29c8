"""`vqtok prompt`: files of pairs and a query, or of a row, go in; one picture of prompt and answer comes out.

Letters: c channels, h w pixels.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from PIL import Image
from torch import Tensor

from lvm.model import LVM, Answers
from lvm.prompts import check_pair_shapes
from vqtok.data.pictures import Fit, check_form, check_png, picture_shape, read_picture
from vqtok.gpt import Sampling
from workbench.sheets import sheet, write_sheet


@dataclass(frozen=True, kw_only=True)
class Asking:
    """How a model is asked.

    Args:
        candidates: Answers to draw.
        sampling: How they are drawn; None is greedy.
        seed: Of the drawing, and of an ensemble's orders.
        ensemble: Prompts, of the pairs in different orders, that answer together.
        allowed: "seen" draws only codes of the answers shown, or of the row's pictures; None any.
        task: What the model is told the task to be, if it was trained to be told; None tells nothing.
        fit: What gives way where a picture is not square, as in `read_picture`.
    """

    candidates: int = 1
    sampling: Sampling | None = None
    seed: int = 0
    ensemble: int = 1
    allowed: Literal["seen"] | None = None
    task: str | None = None
    fit: Fit = "crop"

    def __post_init__(self) -> None:
        greedy = self.sampling is None or self.sampling.temperature == 0
        if self.candidates < 1:
            raise ValueError(f"{self.candidates} answers are none: ask for at least 1")
        if self.candidates > 1 and greedy:
            raise ValueError(
                f"{self.candidates} greedy answers would be the same one: give --temperature, or draw 1"
            )
        if not 0 <= self.seed < 2**63:
            raise ValueError(f"seed {self.seed} is outside [0, 2^63): give a smaller whole number")
        check_form(None, self.fit)


def prompt(
    model: LVM, pairs: list[tuple[Path, Path]], query: Path, out: Path, asking: Asking = Asking()
) -> None:
    """Answer `query` as the pairs show, and write the whole prompt with the answers to `out` as PNG.

    Args:
        model: What answers.
        pairs: Example pictures before and after, of one size; they are brought to the model's.
        query: The picture to do the same to.
        out: Where the sheet goes: a row for every pair, then the query with its answers, the best first, each
            with its nats a token.
        asking: How.

    Raises:
        ValueError: if there is no pair, those of one differ in size, a picture is damaged, `out` is no name
            for a PNG, or as `LVM.answer`.
        OSError: if a file cannot be opened or written.
    """
    check_png(out)
    if not pairs:
        raise ValueError("0 pairs show no task: give at least one --pair BEFORE AFTER")
    for number, pair in enumerate(pairs, start=1):
        check_pair_shapes(number, *(picture_shape(path) for path in pair))
    size = model.tokenizer.config.size
    model.layout = model.layout.telling(asking.task)
    examples = [tuple(read_picture(path, size, asking.fit) for path in pair) for pair in pairs]
    question = read_picture(query, size, asking.fit)
    answers = model.answer(
        pairs=examples, query=question, candidates=asking.candidates, seed=asking.seed,
        sampling=asking.sampling or Sampling(temperature=0), ensemble=asking.ensemble, allowed=asking.allowed,
    )  # fmt: skip
    write_sheet(out, picture(examples, question, answers))


def continue_row(
    model: LVM, frames: Sequence[Path], count: int, out: Path, asking: Asking = Asking()
) -> None:
    """Draw the `count` pictures that follow a row, and write both to `out` as PNG.

    Args:
        model: What draws.
        frames: The row so far; pictures are brought to the model's size.
        count: Pictures to draw.
        out: Where the sheet goes: the row, then what follows.
        asking: How; a row has one continuation, and no ensemble.

    Raises:
        ValueError: if several continuations or an ensemble are asked for, a picture is damaged, `out` is no
            name for a PNG, or as `LVM.continue_`.
        OSError: if a file cannot be opened or written.
    """
    check_png(out)
    guided = asking.sampling is not None and asking.sampling.guidance is not None
    if asking.candidates > 1 or asking.ensemble > 1 or guided:
        raise ValueError(
            "a row of frames has one continuation and no pairs: leave out --candidates, --ensemble and "
            "--guidance"
        )
    model.layout = model.layout.telling(asking.task)
    row = [read_picture(path, model.tokenizer.config.size, asking.fit) for path in frames]
    sampling = asking.sampling or Sampling(temperature=0)
    drawn = model.continue_(row, count, sampling=sampling, seed=asking.seed, allowed=asking.allowed)
    write_sheet(out, sheet([row, [*drawn]], labels=["frames", "what follows"]))


def picture(examples: list[tuple[Tensor, Tensor]], query: Tensor, answers: Answers) -> Image.Image:
    """The prompt as it is read: a row for every pair, then the query, its answers below each other.

    Args:
        examples: Pairs of (c, h, w) in [0, 1].
        query: (c, h, w) in [0, 1].
        answers: Images of the same size, and their nats.
    """
    queries = [query] + [None] * (len(answers.images) - 1)
    rows = [*examples, *zip(queries, answers.images, strict=True)]
    labels = [f"pair {index}" for index in range(1, len(examples) + 1)]
    for place, nats in enumerate(answers.nats.tolist(), start=1):
        name = "answer" if len(queries) == 1 else f"answer {place}"
        labels.append(f"{'query, ' * (place == 1)}{name}: {nats:.2f} nats a token")
    return sheet(rows, labels=labels)
