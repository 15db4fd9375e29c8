"""`python -m workbench.masks`: the masks of DALL-E's layers as one picture for the guide.

Above, who attends to whom on a small grid, as in figure 11 of Ramesh et al. 2021; below, what one cell of the
model's own grid sees of it. The command also tells what each kind costs.

Letters: q places that attend, k places attended to, i j grid, c channels, h w pixels.
"""

import argparse
from dataclasses import astuple, dataclass
from functools import partial
from pathlib import Path

import torch
import torch.nn.functional as F
from einops import repeat
from PIL import Image
from torch import Tensor

from vqtok.gpt.block_masks import block_mask, blocks_help
from vqtok.gpt.layers import Mask, causal_attention, masked_attention
from vqtok.gpt.masks import CausalConfig, GridConfig, MaskConfig, Pattern, Places
from workbench.compare.sections import table
from workbench.compare.speed import ratio, time_together
from workbench.sheets import sheet, write_sheet

PLACE = Path("docs", "pictures", "masks.png")
KINDS: tuple[Pattern | None, ...] = ("row", "column", "convolution", None)  # None is dense attention
SMALL = GridConfig(columns=4, before=6, kernel=3)
LARGE = GridConfig(columns=32, before=256, kernel=11)
CELL = (20, 29)  # whose view is drawn: so near the edge that the square wraps around
LINE, LATER, UNSEEN = (205, 205, 205), (222, 222, 222), (255, 255, 255)
TEXT, IMAGE, ITSELF = (122, 162, 214), (235, 150, 60), (150, 62, 8)


def matrix(grid: GridConfig, kind: Pattern | None, size: int = 10) -> Tensor:
    """Who attends to whom over a square grid and the text before it, a row a place; (3, h, w) in [0, 1].

    Args:
        grid: As wide as it is high.
        kind: Of the layer.
        size: Pixels a place.
    """
    sees = _sees(grid, kind)
    places = torch.arange(len(sees))
    q, k = places[:, None], places
    colors = _painted(sees, k < grid.before, k == q, k > q)
    return _ruled(colors, size)


def view(grid: GridConfig, kind: Pattern | None, cell: tuple[int, int], size: int = 7) -> Tensor:
    """A square grid as one of its cells sees it, (3, h, w) in [0, 1].

    Args:
        grid: As wide as it is high.
        kind: Of the layer.
        cell: Row and column of the one that attends.
        size: Pixels a cell.
    """
    number = cell[0] * grid.columns + cell[1]
    cells = torch.arange(grid.columns**2)
    sees = _sees(grid, kind)[grid.before + number, grid.before :]
    colors = _painted(sees, cells < 0, cells == number, cells > number)
    return _ruled(colors.unflatten(0, (grid.columns, grid.columns)), size)


def picture() -> Image.Image:
    """All kinds of layers, side by side: matrices above views."""
    rows = [[matrix(SMALL, kind) for kind in KINDS], [view(LARGE, kind, CELL) for kind in KINDS]]
    titles = [kind or "dense" for kind in KINDS]
    return sheet(rows, labels=("4x4", "32x32"), titles=titles, zoom=1)


@dataclass(frozen=True)
class Cost:
    """What a kind of layer costs.

    Args:
        pairs: Kept, of those that dense causal attention has.
        blocks: Of 128 x 128 pairs that a GPU computes, likewise.
        time: Of attention forward and backward, likewise.
    """

    pairs: float
    blocks: float
    time: float


def costs(grid: GridConfig, device: torch.device, rounds: int, heads: int = 4) -> dict[str, Cost]:
    """Costs of all kinds of layers over a whole sequence; masks are made once for all layers, and not timed.

    Args:
        grid: As wide as it is high.
        device: Where they are timed: by dense masks on a CPU, by blocks on a GPU.
        rounds: Times that each one is measured.
        heads: Of 64 channels.
    """
    total = grid.before + grid.columns**2
    places = Places.between(0, total, device)
    masks = {kind or "dense": (CausalConfig() if kind is None else grid, kind) for kind in KINDS}
    pairs = {name: int(places.dense(*mask).sum()) for name, mask in masks.items()}
    blocks = {name: 100 - block_mask(*mask, places).sparsity() for name, mask in masks.items()}
    heads_of = torch.randn(3, 1, heads, total, 64, device=device, requires_grad=True)
    made = block_mask if blocks_help(device, total, heads_of.shape[-1]) else _dense
    calls = {
        name: partial(_attend, heads_of, None if kind is None else made(mask, kind, places))
        for name, (mask, kind) in masks.items()
    }
    times = time_together(calls, device, rounds)
    return {
        name: Cost(
            pairs[name] / pairs["dense"],
            blocks[name] / blocks["dense"],
            ratio(times[name].work, times["dense"].work),
        )
        for name in masks
    }


def main(argv: list[str] | None = None) -> None:
    """Draw, write the picture, and print what layers over the model's own grid cost."""
    about = "Draw what layers of DALL-E see, and tell what they cost."
    parser = argparse.ArgumentParser("python -m workbench.masks", description=about)
    parser.add_argument("--out", type=Path, default=PLACE, help="the picture [%(default)s]")
    parser.add_argument("--rounds", type=int, default=15, help="times that each is measured [%(default)s]")
    parser.add_argument("--device", default="cpu", help="cpu or cuda [%(default)s]")
    arguments = parser.parse_args(argv)
    if arguments.rounds < 1:
        parser.error(f"--rounds is {arguments.rounds}: at least 1")
    write_sheet(arguments.out, picture())
    found = costs(LARGE, torch.device(arguments.device), arguments.rounds)
    rows = [[name, *(f"{100 * part:.0f} %" for part in astuple(cost))] for name, cost in found.items()]
    print(table(["", "pairs", "blocks", f"time, {arguments.device}"], rows), arguments.out, sep="\n")


def _attend(heads: Tensor, mask: Mask) -> None:
    """Attention of queries, keys and values (3, b, n, t, k) as a layer does it, and its gradient."""
    out = causal_attention(*heads) if mask is None else masked_attention(*heads, mask)
    out.sum().backward()


def _dense(mask: MaskConfig, kind: Pattern | None, places: Places) -> Tensor:
    """(q, k) bool."""
    return places.dense(mask, kind)


def _sees(grid: GridConfig, kind: Pattern | None) -> Tensor:
    """(q, k) bool."""
    mask: MaskConfig = CausalConfig() if kind is None else grid
    total = grid.before + grid.columns**2
    return _dense(mask, kind, Places.between(0, total, torch.device("cpu")))


def _painted(sees: Tensor, text: Tensor, itself: Tensor, later: Tensor) -> Tensor:
    """Colors (..., c) in 0 to 255 of what is seen or not, (...) bool."""
    colors = torch.tensor(UNSEEN).expand(*sees.shape, 3)
    for where, color in ((later, LATER), (sees, IMAGE), (sees & text, TEXT), (itself, ITSELF)):
        colors = torch.where(where[..., None], torch.tensor(color), colors)
    return colors


def _ruled(colors: Tensor, size: int) -> Tensor:
    """(c, h, w) in [0, 1] of colors (i, j, c), `size` pixels each, with lines around them."""
    large = F.pad(repeat(colors, "i j c -> c (i y) (j x)", y=size, x=size) / 255, (0, 1, 0, 1))
    line = torch.tensor(LINE)[:, None] / 255
    large[:, ::size], large[:, :, ::size] = line[..., None], line[..., None]
    return large


if __name__ == "__main__":
    main()
