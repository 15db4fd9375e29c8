"""`vqtok prompt`: pairs of picture files and a query go in, one picture of prompt and answers comes out.

Letters: c channels, h w pixels.
"""

from pathlib import Path
from typing import TYPE_CHECKING

from PIL import Image
from torch import Tensor

from vqtok.data.pictures import check_png, read_picture
from vqtok.gpt import Sampling
from workbench.sheets import sheet, write_sheet

if TYPE_CHECKING:
    from lvm import LVM


def prompt(
    model: "LVM",
    pairs: list[tuple[Path, Path]],
    query: Path,
    out: Path,
    candidates: int = 1,
    sampling: Sampling | None = None,
    seed: int = 0,
) -> None:
    """Answer `query` as the pairs show, and write the whole prompt with the answers to `out` as PNG.

    Args:
        model: What answers.
        pairs: Example pictures before and after; they are cut and resized to the model's size.
        query: The picture to do the same to.
        out: Where the sheet goes: a row for every pair, then the query with its answers.
        candidates: Answers to draw.
        sampling: How they are drawn; None is greedy.
        seed: Of the drawing.

    Raises:
        ValueError: if there is no pair, a picture is damaged, `out` is no name for a PNG, the answers are
            none or several greedy ones, or the seed is no 63-bit number.
        OSError: if a file cannot be opened or written.
    """
    check_png(out)
    sampling = sampling or Sampling(temperature=0)
    if not pairs:
        raise ValueError("0 pairs show no task: give at least one --pair BEFORE AFTER")
    if candidates < 1:
        raise ValueError(f"{candidates} answers are none: ask for at least 1")
    if candidates > 1 and sampling.temperature == 0:
        raise ValueError(f"{candidates} greedy answers would be the same one: give --temperature, or draw 1")
    if not 0 <= seed < 2**63:
        raise ValueError(f"seed {seed} is outside [0, 2^63): give a smaller whole number")
    size = model.tokenizer.config.size
    examples = [(read_picture(before, size), read_picture(after, size)) for before, after in pairs]
    question = read_picture(query, size)
    answers = model.prompt(
        pairs=examples, query=question, candidates=candidates, sampling=sampling, seed=seed
    )  # (candidates, c, h, w)
    write_sheet(out, picture(examples, question, answers))


def picture(examples: list[tuple[Tensor, Tensor]], query: Tensor, answers: Tensor) -> Image.Image:
    """The prompt as it is read: a row for every pair, then the query followed by its answers.

    Args:
        examples: Pairs of (c, h, w) in [0, 1].
        query: (c, h, w) in [0, 1].
        answers: (candidates, c, h, w) in [0, 1].
    """
    rows = [*examples, (query, *answers)]
    labels = [f"pair {index}" for index in range(1, len(rows))]
    last = "query, answer" if len(answers) == 1 else f"query, {len(answers)} answers"
    return sheet(rows, labels=[*labels, last])
