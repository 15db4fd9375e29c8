"""DALL-E's masks against what its paper says of them, written out as walks over the cells of a grid.

Ramesh et al. 2021, section 2.2: text attends to text causally, every image token to all text. Appendix B.1
and figure 11, of a 4x4 grid after 6 text tokens: a row layer attends to "the previous 5 image tokens in
raster order", of which the last is "in the same column of the previous row", so that the token itself is one
of the five; a column layer to its column; a convolution to a square that is past and wraps around as rows do.

All this is of tokens that stand in the stream. The one at place p scores the token of place p + 1, as
everywhere in a GPT: "itself" is the cell given last, not the one that is scored.
"""

from collections import Counter
from collections.abc import Callable
from itertools import pairwise

import pytest
import torch
from torch import Tensor

from vqtok.gpt.cache import KVCache
from vqtok.gpt.config import AttentionConfig, GPTConfig
from vqtok.gpt.masks import GridConfig, Pattern, Places
from vqtok.gpt.model import GPT
from vqtok.gpt.positions import RowColumnConfig

PATTERNS: tuple[Pattern, ...] = ("row", "column", "convolution")
TEXT, SIDE = 6, 4  # of figure 11, whose square has a side of 3; the model itself: 256, 32 and 11
VOCAB = 9

Cell = tuple[int, int]  # row and column


def row_of(cell: Cell, side: int) -> set[Cell]:
    """The cell, and the cells before it in reading order as far as the one above it."""
    row, column = cell
    seen = {cell}
    while (row, column) not in {(0, 0), (cell[0] - 1, cell[1])}:
        row, column = (row, column - 1) if column else (row - 1, side - 1)
        seen.add((row, column))
    return seen


def column_of(cell: Cell, side: int) -> set[Cell]:
    """The cell and all above it."""
    return {(row, cell[1]) for row in range(cell[0] + 1)}


def square_of(cell: Cell, side: int, kernel: int) -> set[Cell]:
    """Cells of a square around the cell, no later than it; what leaves a row goes on in the one beside."""
    reach, seen = kernel // 2, set()
    for up in range(reach + 1):
        for aside in range(-reach, reach + 1):
            row, column = cell[0] - up, cell[1] + aside
            while column < 0:
                row, column = row - 1, column + side
            while column >= side:
                row, column = row + 1, column - side
            if row >= 0 and (row, column) <= cell:
                seen.add((row, column))
    return seen


def read(pattern: Pattern, text: int, side: int, kernel: int) -> Tensor:
    """Who attends to whom, (t, t) bool, by the paper."""
    total = text + side * side
    sees = [[False] * total for _ in range(total)]
    for place in range(text):
        for earlier in range(place + 1):
            sees[place][earlier] = True
    for place in range(text, total):
        for word in range(text):
            sees[place][word] = True
        cell = divmod(place - text, side)
        cells = {"row": row_of, "column": column_of}.get(pattern, lambda c, s: square_of(c, s, kernel))
        for row, column in cells(cell, side):
            sees[place][text + row * side + column] = True
    return torch.tensor(sees)


def ours(pattern: Pattern, text: int, side: int, kernel: int) -> Tensor:
    """Who attends to whom, (t, t) bool, by `GridConfig`."""
    mask = GridConfig(columns=side, before=text, kernel=kernel)
    return Places.between(0, text + side * side, torch.device("cpu")).dense(mask, pattern)


@pytest.mark.parametrize("pattern", PATTERNS)
@pytest.mark.parametrize(("text", "side", "kernel"), [(TEXT, SIDE, 3), (TEXT, SIDE, 11), (256, 32, 11)])
def test_every_pair_is_as_the_paper_says(pattern: Pattern, text: int, side: int, kernel: int):
    """At 4x4 after 6 tokens, as in figure 11, and at 32x32 after 256, the model's own size."""
    assert torch.equal(ours(pattern, text, side, kernel), read(pattern, text, side, kernel))


@pytest.mark.parametrize(
    ("cell", "row", "column", "convolution"),
    [
        (0, [0], [0], [0]),
        (3, [0, 1, 2, 3], [3], [0, 2, 3]),  # above row 0 and right of column 3 is the first cell again
        (4, [0, 1, 2, 3, 4], [0, 4], [0, 1, 3, 4]),
        (8, [4, 5, 6, 7, 8], [0, 4, 8], [3, 4, 5, 7, 8]),
        (9, [5, 6, 7, 8, 9], [1, 5, 9], [4, 5, 6, 8, 9]),
        (11, [7, 8, 9, 10, 11], [3, 7, 11], [6, 7, 8, 10, 11]),
    ],
)
def test_cells_by_hand(cell: int, row: list[int], column: list[int], convolution: list[int]):
    """What cells of a 4x4 grid see; at edges a square of 3 goes on in the rows beside, as a row does."""
    for pattern, seen in zip(PATTERNS, (row, column, convolution), strict=True):
        found = ours(pattern, TEXT, SIDE, 3)[TEXT + cell]
        assert found[:TEXT].all()
        assert found[TEXT:].nonzero().flatten().tolist() == seen


@pytest.mark.parametrize("pattern", PATTERNS)
def test_text(pattern: Pattern):
    """Text is causal and sees no image; all of the image sees all of the text."""
    found = ours(pattern, 256, 32, 11)
    assert torch.equal(found[:256, :256], torch.ones(256, 256).tril().bool())
    assert not found[:256, 256:].any() and found[256:, :256].all()


def test_reach():
    """A row layer sees 33 cells of a 32-wide grid, a square of 11 five rows up and five cells aside: 61."""
    middle = 256 + 20 * 32 + 16
    found = {pattern: int(ours(pattern, 256, 32, 11)[middle, 256:].sum()) for pattern in PATTERNS}
    assert found == {"row": 33, "column": 21, "convolution": 5 * 11 + 6}


def test_order_of_layers():
    """Counted from 1, layer 64 of 64 is a convolution, i a column where (i - 2) mod 4 = 0, and else a row."""
    mask = GridConfig(columns=32, before=256)
    found = [mask.pattern(number - 1, 64) for number in range(1, 65)]
    said = ["column" if (number - 2) % 4 == 0 else "row" for number in range(1, 64)]
    assert found == [*said, "convolution"]
    assert found[:4] == ["row", "column", "row", "row"]
    assert Counter(found) == {"row": 47, "column": 16, "convolution": 1}


def config(mask: GridConfig, depth: int) -> GPTConfig:
    """A small transformer over 6 text tokens and a 4x4 grid."""
    positions = RowColumnConfig(columns=SIDE, before=TEXT)
    shape = {"vocab": VOCAB, "length": TEXT + SIDE * SIDE, "width": 16, "depth": depth, "heads": 2}
    return GPTConfig(**shape, positions=positions, attention=AttentionConfig(mask=mask))


def alike(pattern: Pattern) -> GridConfig:
    """A mask whose layers are all of one kind."""
    return GridConfig(columns=SIDE, before=TEXT, kernel=3, layers=(pattern,), last=pattern)


MIXED = GridConfig(columns=SIDE, before=TEXT, kernel=3)  # row, column, row, row, ..., convolution
MASKS = [*map(alike, PATTERNS), MIXED]
NAMES = [*PATTERNS, "all kinds"]


@torch.no_grad()
def touched(gpt: GPT) -> Tensor:
    """(t, t) bool: whether another id at a place, the column, changes the scores of a place, the row."""
    total = gpt.config.length
    ids = torch.randint(VOCAB, (1, total))
    others = ids.repeat(total, 1)
    others.diagonal().add_(1).remainder_(VOCAB)
    change = (gpt(others) - gpt(ids)).abs().amax(-1)  # (changed place, scored place)
    return (change > 1e-6).T  # scores are of about unit size


@pytest.mark.parametrize("pattern", PATTERNS)
def test_one_layer_is_touched_by_what_it_sees(pattern: Pattern, lively: Callable[[GPTConfig], GPT]):
    """Another id inside the mask changes a score, one outside changes nothing, whichever places they are."""
    gpt = lively(config(alike(pattern), depth=1))
    assert torch.equal(touched(gpt), read(pattern, TEXT, SIDE, 3))


@pytest.mark.parametrize("mask", MASKS, ids=NAMES)
def test_later_ids_change_nothing(mask: GridConfig, lively: Callable[[GPTConfig], GPT]):
    """Of five layers of every kind: no score depends on an id that stands after it."""
    assert not touched(lively(config(mask, depth=5))).triu(1).any()


def test_layers_pass_on_what_they_see(lively: Callable[[GPTConfig], GPT]):
    """Row, column and convolution one after another are touched by what is within three steps, no more."""
    mask = GridConfig(columns=SIDE, before=TEXT, kernel=3)
    kinds = [read(mask.pattern(layer, 3), TEXT, SIDE, 3).float() for layer in range(3)]
    assert torch.equal(touched(lively(config(mask, depth=3))), kinds[2] @ kinds[1] @ kinds[0] > 0)


@pytest.mark.parametrize("mask", MASKS, ids=NAMES)
@pytest.mark.parametrize("cuts", [[TEXT], [2, 7, 8, 15], [*range(1, TEXT + SIDE * SIDE)]],
                         ids=["text first", "pieces", "one by one"])  # fmt: skip
@torch.no_grad()
def test_cached_scores(mask: GridConfig, cuts: list[int], lively: Callable[[GPTConfig], GPT]):
    """With a cache, in pieces of any length, scores are those of the whole stream."""
    gpt = lively(config(mask, depth=5))
    ids = torch.randint(VOCAB, (2, gpt.config.length))
    cache = KVCache(gpt.config, batch=2)
    found = [gpt(ids[:, start:end], cache) for start, end in pairwise([0, *cuts, ids.shape[1]])]
    # Sums run in another order; scores are of about unit size.
    torch.testing.assert_close(torch.cat(found, 1), gpt(ids), atol=1e-5, rtol=0)
