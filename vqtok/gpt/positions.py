"""Where a token stands: by turning queries and keys, or by adding learned vectors to the stream.

A place is a token's number in the stream, which begins with 0, the prefix included; in packed sentences every
document begins with 0 anew. Grids are read row by row, after the `before` places of prefix and text.

Letters: p places, k head width, d width, ... any shape.

Sources: Su et al. 2021 (RoPE), by rows and columns as Sun et al. 2024 (LlamaGen) have it; Radford et al. 2019
(learned); Ramesh et al. 2021 (row and column). Channels turn in pairs taken from the two halves of a head, as
in transformers, not in neighboring pairs as in the papers: published weights are in this order.
"""

from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor, nn


class Turning:
    """Positions that turn heads and add nothing to the stream."""

    def parameters(self, length: int, width: int) -> int:
        """Learned numbers: none."""
        return 0

    def build(self, length: int, width: int) -> None:
        """Nothing is added to the stream."""


class Adding:
    """Positions that add vectors to the stream and turn nothing."""

    def check(self, head_width: int) -> None:
        """Any head width will do."""

    def table(self, length: int, head_width: int, device: torch.device | None = None) -> None:
        """Heads are not turned."""


@dataclass(frozen=True, kw_only=True)
class RoPEConfig(Turning):
    """Rotary positions: attention sees distances.

    Args:
        kind: Names these positions in recipes.
        base: Of the wavelengths; a larger one reaches farther.
    """

    kind: Literal["rope"] = "rope"
    base: float = 10_000.0

    def __post_init__(self) -> None:
        _check_base(self.base)

    def check(self, head_width: int) -> None:
        """Raise a ValueError unless heads of this width can be turned."""
        _check_pairs(head_width, 2)

    def table(self, length: int, head_width: int, device: torch.device | None = None) -> Tensor:
        """Cosines and sines of every place, (2, length, 1, k), for `vqtok.gpt.layers.rotate`."""
        places = torch.arange(length, device=device)
        return _table(torch.outer(places, _frequencies(self.base, head_width, device)))


@dataclass(frozen=True, kw_only=True)
class RoPE2DConfig(Turning):
    """Rotary positions of a grid: half of the channels turn by the row, half by the column.

    Args:
        kind: Names these positions in recipes.
        columns: Of the grid.
        before: Places before the grid: the prefix, and text if there is any.
        base: Of the wavelengths.
        still: What happens to these places: they are `unturned`, or `zeroed`, so that every token attends to
            them as if their key were zero, as LlamaGen's weights expect it.
    """

    kind: Literal["rope_2d"] = "rope_2d"
    columns: int
    before: int = 0
    base: float = 10_000.0
    still: Literal["zeroed", "unturned"] = "zeroed"

    def __post_init__(self) -> None:
        _check_base(self.base)
        _check_grid(self.columns, self.before)

    def check(self, head_width: int) -> None:
        """Raise a ValueError unless heads of this width can be turned."""
        _check_pairs(head_width, 4)

    def table(self, length: int, head_width: int, device: torch.device | None = None) -> Tensor:
        """Cosines and sines of every place, (2, length, 1, k), for `vqtok.gpt.layers.rotate`."""
        cells = torch.arange(length - self.before, device=device)
        frequencies = _frequencies(self.base, head_width // 2, device)
        rows = torch.outer(cells // self.columns, frequencies)
        columns = torch.outer(cells % self.columns, frequencies)
        grid = _table(torch.cat((rows, columns), dim=1))
        before = torch.zeros(2, self.before, 1, head_width, device=device)
        before[0] = self.still == "unturned"
        return torch.cat((before, grid), dim=1)


@dataclass(frozen=True, kw_only=True)
class LearnedConfig(Adding):
    """A learned vector for every place.

    Args:
        kind: Names these positions in recipes.
    """

    kind: Literal["learned"] = "learned"

    def parameters(self, length: int, width: int) -> int:
        """Learned numbers."""
        return length * width

    def build(self, length: int, width: int) -> nn.Embedding:
        """A module from places (p,) to vectors (p, d)."""
        return nn.Embedding(length, width)


@dataclass(frozen=True, kw_only=True)
class RowColumnConfig(Adding):
    """The sum of a learned vector of the row and one of the column; places before the grid have their own.

    Args:
        kind: Names these positions in recipes.
        columns: Of the grid.
        before: Places before the grid: the prefix, and text if there is any.
    """

    kind: Literal["row_column"] = "row_column"
    columns: int
    before: int = 0

    def __post_init__(self) -> None:
        _check_grid(self.columns, self.before)

    def parameters(self, length: int, width: int) -> int:
        """Learned numbers."""
        return (self.before + self._rows(length) + self.columns) * width

    def build(self, length: int, width: int) -> "RowColumn":
        """A module from places (p,) to vectors (p, d)."""
        return RowColumn(self.before, self._rows(length), self.columns, width)

    def _rows(self, length: int) -> int:
        return -(-(length - self.before) // self.columns)


PositionsConfig = RoPEConfig | RoPE2DConfig | LearnedConfig | RowColumnConfig  # no `kind` means the first


class RowColumn(nn.Module):
    """Vectors of places in a text and the grid after it."""

    def __init__(self, before: int, rows: int, columns: int, width: int) -> None:
        super().__init__()
        self.before = nn.Embedding(before, width) if before else None
        self.row = nn.Embedding(rows, width)
        self.column = nn.Embedding(columns, width)

    def forward(self, places: Tensor) -> Tensor:
        """(..., d) from places (...)."""
        before = self.before.num_embeddings if self.before is not None else 0
        cells = (places - before).clamp(min=0)
        columns = self.column.num_embeddings
        found = self.row(cells // columns) + self.column(cells % columns)
        if self.before is None:
            return found
        early = self.before(places.clamp(max=before - 1))
        return torch.where((places < before)[..., None], early, found)


def _frequencies(base: float, width: int, device: torch.device | None) -> Tensor:
    """Of the width / 2 pairs of channels, from 1 down to nearly 1 / base."""
    exponents = torch.arange(0, width, 2, device=device) / width
    return 1 / base**exponents


def _table(angles: Tensor) -> Tensor:
    """(2, p, 1, k) float32 from angles (p, k / 2); the first half of the sines negated, for `rotate`."""
    cos, sin = angles.cos(), angles.sin()
    return torch.stack((torch.cat((cos, cos), dim=1), torch.cat((-sin, sin), dim=1)))[:, :, None]


def _check_base(base: float) -> None:
    if not base > 0:
        raise ValueError(f"positions.base {base} is not above 0: 10000 is usual")


def _check_grid(columns: int, before: int) -> None:
    if columns < 1 or before < 0:
        raise ValueError(
            f"a grid of {columns} columns after {before} places: give columns >= 1 and before >= 0"
        )


def _check_pairs(head_width: int, parts: int) -> None:
    if head_width % parts:
        raise ValueError(
            f"head width {head_width} (width / heads) does not divide by {parts}, but rotary positions turn "
            f"pairs of channels{', half of them by rows' if parts > 2 else ''}: change width or heads"
        )
