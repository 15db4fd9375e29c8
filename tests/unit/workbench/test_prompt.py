"""`vqtok prompt`: files in, one picture out."""

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from torch import Tensor

from lvm.layout import Layout
from vqtok.data.pictures import read_picture, write_picture
from vqtok.gpt import Sampling
from vqtok.gpt.guidance import Constant
from workbench.prompt import Asking, continue_row, picture, prompt

RED, GREEN, BLUE = (torch.eye(3)[channel].reshape(3, 1, 1).expand(3, 16, 16) for channel in range(3))


class Parrot:
    """Stands in for an LVM of 8 px: answers with the last example, and remembers what it was asked."""

    layout = Layout(codes=4, tokens=1, tasks=("invert",))
    tokenizer = SimpleNamespace(config=SimpleNamespace(size=8))

    def answer(self, *, pairs: list, query: Tensor, candidates: int, **rest: Any) -> SimpleNamespace:
        """Copies of the last pair's second picture, (candidates, c, h, w)."""
        self.asked = {"pairs": pairs, "query": query, **rest}
        return copies(pairs[-1][1], candidates)

    def continue_(self, frames: list, count: int, **rest: Any) -> Tensor:
        """Copies of the last frame, (count, c, h, w)."""
        self.asked = {"frames": frames, **rest}
        return frames[-1].expand(count, -1, -1, -1)


def copies(image: Tensor, count: int) -> SimpleNamespace:
    """Answers that are the same image, at 1.25 nats, 2.25 nats and so on."""
    return SimpleNamespace(images=image.expand(count, -1, -1, -1), nats=torch.arange(count) + 1.25)


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
    asking = Asking(candidates=2, sampling=sampling, seed=7, ensemble=2, allowed="seen", task="invert")
    prompt(model, pairs, files["blue"], tmp_path / "out.png", asking)
    assert model.layout.told == "invert"
    red, green, blue = (color[:, :8, :8] for color in (RED, GREEN, BLUE))
    for asked, expected in zip(model.asked["pairs"], [(red, green), (green, red)], strict=True):
        torch.testing.assert_close(asked, expected)
    torch.testing.assert_close(model.asked["query"], blue)
    options = [model.asked[name] for name in ("sampling", "seed", "ensemble", "allowed")]
    assert options == [sampling, 7, 2, "seen"]


@pytest.mark.parametrize("fit", ["crop", "stretch", "pad"])
def test_pictures_are_fitted_as_asked(fit: str, files: dict[str, Path], tmp_path: Path):
    """Pairs, query and frames; those of a pair must have one size, whatever the fit."""
    wide, model = tmp_path / "wide.png", Parrot()
    write_picture(wide, torch.cat([RED, GREEN], dim=2))
    expected = read_picture(wide, 8, fit)
    prompt(model, [(wide, wide)], wide, tmp_path / "out.png", Asking(fit=fit))
    for image in (*model.asked["pairs"][0], model.asked["query"]):
        assert torch.equal(image, expected)
    continue_row(model, [wide, files["red"]], 1, tmp_path / "out.png", Asking(fit=fit))
    assert torch.equal(model.asked["frames"][0], expected)
    with pytest.raises(ValueError, match="pictures of pair 2 have 16x16 and 16x32 pixels"):
        prompt(model, [(wide, wide), (files["red"], wide)], wide, tmp_path / "out.png", Asking(fit=fit))


def test_a_row_and_what_follows_are_one_picture(files: dict[str, Path], tmp_path: Path):
    """Every frame and every drawn picture is shown once."""
    out = tmp_path / "row.png"
    continue_row(Parrot(), [files[name] for name in ("red", "green", "blue")], 2, out)
    with Image.open(out) as image:
        pixels = np.asarray(image.convert("RGB")).reshape(-1, 3).tolist()
    assert 3 * pixels.count([255, 0, 0]) == 3 * pixels.count([0, 255, 0]) == pixels.count([0, 0, 255])


@pytest.mark.parametrize(
    "asking",
    [
        {"candidates": 2, "sampling": Sampling()},
        {"ensemble": 2},
        {"sampling": Sampling(guidance=Constant(scale=2))},
    ],
)
def test_a_row_has_one_continuation(asking: dict, files: dict[str, Path], tmp_path: Path):
    """Several, an ensemble and guidance are of pairs, and refused."""
    with pytest.raises(ValueError, match="a row of frames has one continuation and no pairs: leave out"):
        continue_row(Parrot(), [files["red"]], 1, tmp_path / "row.png", Asking(**asking))


def test_the_answer_is_one_picture_of_the_whole_prompt(files: dict[str, Path], tmp_path: Path):
    """The file shows each pair and the query once, and the answer beside the query."""
    out = tmp_path / "new" / "answer.png"
    prompt(Parrot(), [(files["red"], files["green"])], files["blue"], out)
    with Image.open(out) as image:
        pixels = np.asarray(image.convert("RGB")).reshape(-1, 3).tolist()
    once = pixels.count([0, 0, 255])
    assert (pixels.count([255, 0, 0]), pixels.count([0, 255, 0])) == (once, 2 * once)


def test_every_candidate_is_shown():
    """Four answers stand below each other, the first beside the query."""
    one, four = (picture([(RED, GREEN)], BLUE, copies(RED, count)) for count in (1, 4))
    shown = [np.asarray(image).reshape(-1, 3).tolist().count([255, 0, 0]) for image in (one, four)]
    assert 2 * shown[1] == 5 * shown[0]


@pytest.mark.parametrize(
    ("count", "labels"),
    [
        (1, ["pair 1", "query, answer: 1.25 nats a token"]),
        (2, ["pair 1", "query, answer 1: 1.25 nats a token", "answer 2: 2.25 nats a token"]),
    ],
)
def test_labels_tell_nats(count: int, labels: list[str], monkeypatch: pytest.MonkeyPatch):
    """Of each answer, to two places."""
    told = []
    monkeypatch.setattr("workbench.prompt.sheet", lambda rows, labels: told.extend(labels))
    picture([(RED, GREEN)], BLUE, copies(RED, count))
    assert told == labels


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"candidates": 0}, "0 answers are none"),
        ({"candidates": 3}, "3 greedy answers would be the same one: give --temperature"),
        ({"pairs": []}, "0 pairs show no task"),
        ({"out": Path("answer.jpg")}, "answer.jpg is no name for a PNG"),
        ({"seed": 10**30}, r"seed 10{30} is outside \[0, 2\^63\)"),
        ({"fit": "zoom"}, "no fit named 'zoom': choose one of crop, stretch, pad"),
    ],
)
def test_senseless_requests_are_refused(options: dict, message: str, files: dict[str, Path], tmp_path: Path):
    """Before anything is drawn, with the way out; nothing is written."""
    arguments = {"pairs": [(files["red"], files["green"])], "query": files["blue"]}
    arguments |= {"out": tmp_path / "answer.png"}
    arguments |= {name: value for name, value in options.items() if name in ("pairs", "out")}
    asking = {name: value for name, value in options.items() if name not in arguments}
    with pytest.raises(ValueError, match=message):
        prompt(Parrot(), **arguments, asking=Asking(**asking))
    assert not (tmp_path / "answer.png").exists()


def test_a_damaged_picture_is_named(files: dict[str, Path], tmp_path: Path):
    """The file that cannot be read is in the message."""
    files["red"].write_bytes(b"no picture")
    with pytest.raises(ValueError, match=r"red\.png"):
        prompt(Parrot(), [(files["red"], files["green"])], files["blue"], tmp_path / "answer.png")
