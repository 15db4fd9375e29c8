"""`vqtok sample` and `vqtok complete`: a model and files in, one sheet out."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from imagegpt import ImageGPT, ImageGPTConfig
from vqtok.data.pictures import write_picture
from vqtok.gpt import GPTConfig, Sampling
from vqtok.gpt.config import AttentionConfig
from vqtok.gpt.masks import FullConfig
from vqtok.gpt.prefix import ClassesConfig
from vqtok.tokenizers.palette import PaletteTokenizer
from workbench.drawers import Choices, TokenDrawer
from workbench.drawing import complete, sample
from workbench.sheets import GAP

GPT = GPTConfig(vocab=3, length=16, width=8, depth=1, heads=2, prefix=ClassesConfig(classes=2))
BOTH = replace(GPT, prefix=None, attention=AttentionConfig(mask=FullConfig()))


def model(gpt: GPTConfig = GPT) -> ImageGPT:
    """Untrained, of pictures of 4x4 pixels in black, gray and white."""
    torch.manual_seed(0)
    palette = PaletteTokenizer.of(torch.tensor([-1.0, 0, 1])[:, None].expand(3, 3), size=4)
    made = ImageGPT(ImageGPTConfig(tokenizer=palette.config, gpt=gpt, classes=("a", "b"))).eval()
    made.tokenizer = palette
    return made


def drawer(gpt: GPTConfig = GPT, **choices: object) -> TokenDrawer:
    """What draws with it."""
    return TokenDrawer(model(gpt), Choices(**choices))


def cells(path: Path, side: int, left: int = GAP, top: int = GAP) -> np.ndarray:
    """(rows, columns, 4, 4, 3) pixels of the pictures on a sheet, each shown `side` pixels wide."""
    pixels = np.asarray(Image.open(path))[top:, left:]
    step = side + GAP
    grid = pixels[: len(pixels) // step * step, : pixels.shape[1] // step * step]
    rows, columns = len(grid) // step, grid.shape[1] // step
    grid = grid.reshape(rows, step, columns, step, 3).swapaxes(1, 2)[:, :, :side, :side]
    return grid[:, :, side // 8 :: side // 4, side // 8 :: side // 4]


def pixels(image: torch.Tensor) -> np.ndarray:
    """(4, 4, 3) uint8."""
    return (image.permute(1, 2, 0) * 255).round().byte().numpy()


def test_a_square_of_samples(tmp_path: Path):
    """Pictures of the seed, row by row."""
    sample(drawer(seed=3), tmp_path / "out.png", 5)
    found = cells(tmp_path / "out.png", 64)
    assert found.shape[:2] == (2, 3)
    images = model().sample(5, Sampling(), 3)
    for number, image in enumerate(images):
        assert np.array_equal(found[number // 3, number % 3], pixels(image))


def test_a_row_for_each_class(tmp_path: Path):
    """With the names beside them."""
    sample(drawer(seed=3), tmp_path / "out.png", 2, ["b", "a"])
    sheet = Image.open(tmp_path / "out.png")
    images = model().sample(4, Sampling(), 3, ["b", "a"])
    left = sheet.width - 2 * (64 + GAP)
    found = cells(tmp_path / "out.png", 64, left=left)
    for number, image in enumerate(images):
        assert np.array_equal(found[number % 2, number // 2], pixels(image))


@pytest.mark.parametrize("gpt", [GPT, BOTH], ids=["past", "both"])
def test_completions(gpt: GPTConfig, tmp_path: Path):
    """A row a picture: the picture, what is shown of it with gray for the rest, and the answers."""
    path = tmp_path / "in.png"
    image = torch.eye(4).expand(3, 4, 4)
    write_picture(path, image)
    complete(drawer(gpt, seed=1), tmp_path / "out.png", [path, path], candidates=2)
    found = cells(tmp_path / "out.png", 96, top=2 * GAP + 14)
    assert found.shape[:2] == (2, 4)
    hidden = np.zeros((4, 4), bool)
    hidden[slice(2, 4) if gpt is GPT else slice(1, 3), slice(0, 4) if gpt is GPT else slice(1, 3)] = True
    for row in found:
        assert np.array_equal(row[0], pixels(image)) and (abs(row[1][hidden] - 127.5) < 1).all()
        for other in row[1:]:
            assert np.array_equal(other[~hidden], pixels(image)[~hidden])


@pytest.mark.parametrize(
    ("gpt", "options", "told"),
    [
        (GPT, {"hole": [0, 0, 1, 1]}, "this model takes rows: it completes what is above; leave the other"),
        (BOTH, {"rows": 2}, "this model takes a hole: it sees both sides; leave the other one out"),
        (BOTH, {"hole": [2, 0, 2, 4]}, "hole 2 0 2 4 does not lie in 4x4 pixels"),
        (GPT, {"rows": 4}, "4 rows of pixels cannot be kept of 4"),
        (GPT, {"out": Path("out.jpg")}, "out.jpg is no name for a PNG"),
    ],
)
def test_mistakes(gpt: GPTConfig, options: dict, told: str, tmp_path: Path):
    """What does not fit the model is one sentence."""
    write_picture(tmp_path / "in.png", torch.zeros(3, 4, 4))
    settings = {"out": tmp_path / "out.png"} | options
    with pytest.raises(ValueError, match=told):
        complete(drawer(gpt), pictures=[tmp_path / "in.png"], **settings)
