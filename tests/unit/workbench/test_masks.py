"""The picture of masks shows what the masks say, and the command tells their cost."""

from pathlib import Path

import pytest
import torch
from PIL import Image
from torch import Tensor

from vqtok.gpt.masks import GridConfig
from workbench import masks
from workbench.masks import IMAGE, ITSELF, LATER, TEXT, UNSEEN, costs, main, matrix, picture, view

GRID = GridConfig(columns=4, before=6, kernel=3)
LETTERS = {TEXT: "t", IMAGE: "i", ITSELF: "@", LATER: ".", UNSEEN: "_"}


def letters(drawn: Tensor, size: int) -> list[str]:
    """Colors in the middle of every place of a picture (3, h, w), a letter each."""
    pixels = (drawn[:, size // 2 :: size, size // 2 :: size] * 255).round().int().permute(1, 2, 0)
    return ["".join(LETTERS[tuple(pixel)] for pixel in row) for row in pixels.tolist()]


def test_a_matrix():
    """A line a place: text, the cells of the layer's kind, itself, and what comes later."""
    found = letters(matrix(GRID, "row", size=5), size=5)
    assert len(found) == 22
    assert found[0] == "@" + "." * 21 and found[5] == "ttttt@" + "." * 16
    assert found[6 + 9] == "tttttt" + "_____iiii@" + "......"
    assert letters(matrix(GRID, "column", size=5), size=5)[6 + 9] == "tttttt" + "_i___i___@" + "......"
    assert letters(matrix(GRID, None, size=5), size=5)[6 + 9] == "tttttt" + "iiiiiiiii@" + "......"


def test_a_view():
    """What one cell sees of the grid; a square at the edge goes on in the rows beside."""
    assert letters(view(GRID, "row", (2, 1), size=4), size=4) == ["____", "_iii", "i@..", "...."]
    assert letters(view(GRID, "column", (2, 1), size=4), size=4) == ["_i__", "_i__", "_@..", "...."]
    assert letters(view(GRID, "convolution", (2, 3), size=4), size=4) == ["____", "__ii", "i_i@", "...."]


def test_all_kinds_are_in_the_picture():
    """Four matrices of 22 places above four views of 32x32 cells, in all colors."""
    drawn = picture()
    assert drawn.width > 4 * (32 * 7 + 1) and drawn.height > 22 * 10 + 1 + 32 * 7 + 1
    assert {*LETTERS} <= {color for _, color in drawn.convert("RGB").getcolors(1 << 20)}


def test_costs():
    """Pairs are counted: of 22 places 253 at most; a 4x4 grid fills one block whatever the layer sees."""
    found = costs(GRID, torch.device("cpu"), rounds=1, heads=1)
    causal = 22 * 23 // 2
    text = 6 * 7 // 2 + 16 * 6
    assert found["column"].pairs == (text + 4 * (1 + 2 + 3 + 4)) / causal
    assert found["row"].pairs == (text + 1 + 2 + 3 + 4 + 12 * 5) / causal
    assert found["dense"].pairs == found["dense"].blocks == found["dense"].time == found["row"].blocks == 1


def test_the_command(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]):
    """It writes the picture and prints a line of costs a kind."""
    monkeypatch.setattr(masks, "LARGE", GRID)
    monkeypatch.setattr(masks, "CELL", (2, 1))
    main(["--out", str(tmp_path / "masks.png"), "--rounds", "1"])
    assert Image.open(tmp_path / "masks.png").width > 100
    lines = capsys.readouterr().out.splitlines()
    assert [line.split(" |")[0] for line in lines[2:6]] == ["| row", "| column", "| convolution", "| dense"]
    with pytest.raises(SystemExit):
        main(["--rounds", "0"])
