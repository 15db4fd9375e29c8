"""`vqtok prompt`: files in, one picture out."""

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from torch import Tensor

from vqtok.data.pictures import write_picture
from vqtok.gpt import Sampling
from workbench.prompt import picture, prompt

RED, GREEN, BLUE = (torch.eye(3)[channel].reshape(3, 1, 1).expand(3, 16, 16) for channel in range(3))


class Parrot:
    """Stands in for an LVM of 8 px: answers with the last example, and remembers what it was asked."""

    tokenizer = SimpleNamespace(config=SimpleNamespace(size=8))

    def prompt(self, *, pairs: list, query: Tensor, candidates: int, **rest: Any) -> Tensor:
        """Copies of the last pair's second picture, (candidates, c, h, w)."""
        self.asked = {"pairs": pairs, "query": query, **rest}
        return pairs[-1][1].expand(candidates, -1, -1, -1)


@pytest.fixture
def files(tmp_path: Path) -> dict[str, Path]:
    """Three pictures of 16 px, each of one color."""
    paths = {name: tmp_path / f"{name}.png" for name in ("red", "green", "blue")}
    for path, image in zip(paths.values(), (RED, GREEN, BLUE), strict=True):
        write_picture(path, image)
    return paths


def test_files_reach_the_model_at_its_own_size(files: dict[str, Path], tmp_path: Path):
    """Pairs in order, the query, sampling and seed; pictures become (3, size, size) in [0, 1]."""
    model, sampling = Parrot(), Sampling(temperature=0.5)
    pairs = [(files["red"], files["green"]), (files["green"], files["red"])]
    prompt(model, pairs, files["blue"], tmp_path / "out.png", candidates=2, sampling=sampling, seed=7)
    red, green, blue = (color[:, :8, :8] for color in (RED, GREEN, BLUE))
    for asked, expected in zip(model.asked["pairs"], [(red, green), (green, red)], strict=True):
        torch.testing.assert_close(asked, expected)
    torch.testing.assert_close(model.asked["query"], blue)
    assert (model.asked["sampling"], model.asked["seed"]) == (sampling, 7)


def test_the_answer_is_one_picture_of_the_whole_prompt(files: dict[str, Path], tmp_path: Path):
    """The file shows each pair and the query once, and the answer beside the query."""
    out = tmp_path / "new" / "answer.png"
    prompt(Parrot(), [(files["red"], files["green"])], files["blue"], out)
    with Image.open(out) as image:
        pixels = np.asarray(image.convert("RGB")).reshape(-1, 3).tolist()
    once = pixels.count([0, 0, 255])
    assert (pixels.count([255, 0, 0]), pixels.count([0, 255, 0])) == (once, 2 * once)


def test_every_candidate_is_shown():
    """Four answers stand in a row behind the query."""
    one, four = (picture([(RED, GREEN)], BLUE, RED.expand(count, 3, 16, 16)) for count in (1, 4))
    shown = [np.asarray(image).reshape(-1, 3).tolist().count([255, 0, 0]) for image in (one, four)]
    assert 2 * shown[1] == 5 * shown[0]


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"candidates": 0}, "0 answers are none"),
        ({"candidates": 3}, "3 greedy answers would be the same one: give --temperature"),
        ({"pairs": []}, "0 pairs show no task"),
        ({"out": Path("answer.jpg")}, "answer.jpg is no name for a PNG"),
        ({"seed": 10**30}, r"seed 10{30} is outside \[0, 2\^63\)"),
    ],
)
def test_senseless_requests_are_refused(options: dict, message: str, files: dict[str, Path], tmp_path: Path):
    """Before anything is drawn, with the way out; nothing is written."""
    arguments = {"pairs": [(files["red"], files["green"])], "query": files["blue"]} | options
    with pytest.raises(ValueError, match=message):
        prompt(Parrot(), **({"out": tmp_path / "answer.png"} | arguments))
    assert not (tmp_path / "answer.png").exists()


def test_a_damaged_picture_is_named(files: dict[str, Path], tmp_path: Path):
    """The file that cannot be read is in the message."""
    files["red"].write_bytes(b"no picture")
    with pytest.raises(ValueError, match=r"red\.png"):
        prompt(Parrot(), [(files["red"], files["green"])], files["blue"], tmp_path / "answer.png")
