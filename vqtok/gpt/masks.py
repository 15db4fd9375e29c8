"""Which places a token attends to: the past, everything, or parts of a grid; and documents apart.

Masks are functions of places, so that one form serves a whole sequence, the new tokens after a cache, packed
documents, and FlexAttention's blocks. Places are numbered as in `vqtok.gpt.positions`.

Letters: b batch, t new tokens, s tokens attended to, q and k places of queries and keys.

Sources: Ramesh et al. 2021 (DALL-E), section 2.2 and appendix B, for grids; Raffel et al. 2020 for packing.
"""

from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor

Pattern = Literal["row", "column", "convolution"]


@dataclass(frozen=True, kw_only=True)
class CausalConfig:
    """A token attends to itself and to all before it.

    Args:
        kind: Names this mask in recipes.
    """

    kind: Literal["causal"] = "causal"

    def pattern(self, layer: int, depth: int) -> None:
        """All layers are alike."""

    def sees(self, q: Tensor, k: Tensor, pattern: None = None) -> Tensor:
        """Whether place q attends to place k; any shapes that broadcast."""
        return k <= q


@dataclass(frozen=True, kw_only=True)
class FullConfig:
    """A token attends to all, as in BERT: for models that fill in what is hidden. They have no cache.

    Args:
        kind: Names this mask in recipes.
    """

    kind: Literal["full"] = "full"

    def pattern(self, layer: int, depth: int) -> None:
        """All layers are alike."""

    def sees(self, q: Tensor, k: Tensor, pattern: None = None) -> Tensor:
        """True; any shapes that broadcast."""
        return (q >= 0) & (k >= 0)


@dataclass(frozen=True, kw_only=True)
class GridConfig:
    """DALL-E's sparse attention: layers attend to parts of a grid, and all of them to what is before it.

    A row layer sees so many cells back as the grid has columns, so that it crosses into the row above; a
    column layer the cells above; a convolutional layer a square around the cell, as far as it is past, whose
    rows wrap around at the grid's edges. All see the cell itself, which is the token that stands there: its
    place scores the next one.

    Args:
        kind: Names this mask in recipes.
        columns: Of the grid.
        before: Places before the grid, seen by all after them: the prefix, and text if there is any.
        layers: Kinds of layers, over and over; DALL-E's by default.
        last: Kind of the last layer.
        kernel: Side of the square, odd.
    """

    kind: Literal["grid"] = "grid"
    columns: int
    before: int = 0
    layers: tuple[Pattern, ...] = ("row", "column", "row", "row")
    last: Pattern = "convolution"
    kernel: int = 11

    def __post_init__(self) -> None:
        if self.columns < 1 or self.before < 0 or not self.layers:
            raise ValueError(
                f"a mask over {self.columns} columns after {self.before} places, in layers {self.layers}: "
                "give columns >= 1, before >= 0 and at least one kind of layer"
            )
        if self.kernel < 1 or self.kernel % 2 == 0:
            raise ValueError(f"kernel {self.kernel} has no middle: give an odd number, 11 is DALL-E's")

    def pattern(self, layer: int, depth: int) -> Pattern:
        """Kind of layer number `layer`, from 0, of `depth`."""
        return self.last if layer == depth - 1 else self.layers[layer % len(self.layers)]

    def sees(self, q: Tensor, k: Tensor, pattern: Pattern) -> Tensor:
        """Whether place q attends to place k in a layer of that kind; any shapes that broadcast."""
        back = q - k
        if pattern == "row":
            near = back <= self.columns
        elif pattern == "column":
            near = back % self.columns == 0
        else:
            reach = self.kernel // 2
            rows = ((back - reach + self.columns - 1) // self.columns).clamp(min=0)  # fewest that come near
            near = (rows <= reach) & (rows * self.columns - back <= reach)
        return (back >= 0) & (near | (k < self.before))


MaskConfig = CausalConfig | FullConfig | GridConfig  # the first is what a mapping without `kind` means


@dataclass(frozen=True)
class Places:
    """Where the tokens of one pass stand.

    Args:
        new: (t,), or (b, t) in packed sentences, of the tokens that pass.
        total: How many there are to attend to, the new ones included.
        documents: (b, t), the number of each token's document in its row; None if nothing is packed.
        padded: Whether some of those to attend to are not filled yet, so that even causal attention needs a
            mask; else the new ones are the last.
    """

    new: Tensor
    total: int
    documents: Tensor | None = None
    padded: bool = False

    @classmethod
    def between(cls, start: int, end: int, device: torch.device) -> "Places":
        """Of tokens start to end - 1 of a stream."""
        return cls(torch.arange(start, end, device=device), end)

    @classmethod
    def packed(cls, documents: Tensor) -> "Places":
        """Of documents packed into rows: wherever the number (b, t) changes, places begin with 0 anew."""
        begins = torch.ones_like(documents, dtype=torch.bool)
        begins[:, 1:] = documents[:, 1:] != documents[:, :-1]
        order = torch.arange(documents.shape[1], device=documents.device)
        new = order - torch.where(begins, order, 0).cummax(dim=1).values
        return cls(new, documents.shape[1], begins.cumsum(dim=1))

    @property
    def whole(self) -> bool:
        """Whether all tokens there are pass at once, as without a cache."""
        return self.new.shape[-1] == self.total and not self.padded

    def rows(self, table: Tensor) -> Tensor:
        """What a table (x, length, ...) holds for the new tokens, (x, t, ...) or (x, b, t, ...)."""
        if self.documents is None and not self.padded:
            return table[:, self.total - len(self.new) : self.total]
        return table[:, self.new]

    def dense(self, mask: MaskConfig, pattern: Pattern | None) -> Tensor:
        """Who attends to whom, (t, s) or (b, 1, t, s) bool."""
        if self.documents is None:
            seen = torch.arange(self.total, device=self.new.device)
            return mask.sees(self.new[:, None], seen, pattern)
        together = self.documents[:, :, None] == self.documents[:, None, :]
        return (mask.sees(self.new[:, :, None], self.new[:, None, :], pattern) & together)[:, None]
