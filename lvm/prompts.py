"""What a prompt is made of: pictures, checked and fitted, orders to read pairs in, codes that are allowed.

Letters: c h w image, t tokens, v vocabulary, k pairs, n codes of the tokenizer.
"""

import math
from collections.abc import Sequence
from typing import Literal

import torch
from torch import Tensor

from lvm.layout import Layout
from vqtok.data.pictures import Fit, fitted

Allowed = Tensor | Literal["seen"] | None


def pictures_of_pairs(pairs: Sequence[Sequence[Tensor]]) -> list[Tensor]:
    """Pictures x1 y1 x2 y2 ... of pairs.

    Raises:
        ValueError: if pictures are not grouped in twos, or those of a pair differ in size.
    """
    flat = [pair for pair in pairs if isinstance(pair, Tensor) and pair.ndim < 4]
    if flat:
        odd = ", an odd number that no pairs make" if len(flat) % 2 else ""
        raise ValueError(f"pairs are {len(flat)} single pictures{odd}: give [(x1, y1), (x2, y2), ...]")
    for number, pair in enumerate(pairs, start=1):
        if len(pair) != 2:
            raise ValueError(f"pair {number} has {len(pair)} pictures: give two, before and after")
        check_pair_shapes(number, *(picture.shape[1:] for picture in pair))
    return [picture for pair in pairs for picture in pair]


def check_pair_shapes(number: int, first: Sequence[int], second: Sequence[int]) -> None:
    """Raises ValueError unless both pictures of the pair of this number have one height and width."""
    if tuple(first) != tuple(second):
        sizes = " and ".join("x".join(str(side) for side in shape) for shape in (first, second))
        raise ValueError(
            f"the pictures of pair {number} have {sizes} pixels (rows x columns): a pair shows one scene "
            "before and after, so give both in one size"
        )


def fitted_pictures(pictures: Sequence[Tensor], size: int, fit: Fit) -> Tensor:
    """(i, 3, size, size) of pictures (3, h, w) of any sizes.

    Raises:
        ValueError: naming the picture that is none.
    """
    found = []
    for number, picture in enumerate(pictures, start=1):
        try:
            found.append(fitted(picture, size, fit))
        except ValueError as error:
            raise ValueError(f"picture {number} of the prompt: {error}") from error
    return torch.stack(found)


def orders(pairs: int, shots: int, ensemble: int = 1, seed: int = 0) -> list[tuple[int, ...]]:
    """In which order each prompt of an ensemble reads which pairs, the first as they were given.

    No two are alike. Where more pairs are given than fit a prompt, each prompt reads a set of them, and those
    that none has read come next, until all have been read.

    Args:
        pairs: Given.
        shots: That fit.
        ensemble: Prompts.
        seed: Of all orders but the first.

    Raises:
        ValueError: if the pairs do not fit into so many prompts, or do not make so many.
    """
    fit = max(0, min(pairs, shots))
    if ensemble < 1:
        raise ValueError(f"an ensemble of {ensemble} prompts asks nobody: 1 is the prompt alone")
    if pairs > ensemble * shots:
        more = "" if shots < 1 else f", or ask an ensemble of {math.ceil(pairs / shots)} prompts"
        told = f"{shots} fit before a query"
        each = told if ensemble == 1 else f"{told} in each of {ensemble} prompts"
        raise ValueError(f"{pairs} pairs are too many, {each}: leave some out{more}")
    if ensemble > math.perm(pairs, fit):
        raise ValueError(
            f"an ensemble of {ensemble} prompts, but {pairs} pairs make {math.perm(pairs, fit)}: ask for "
            "fewer, or give more pairs"
        )
    generator = torch.Generator().manual_seed(seed)
    found, unread = [tuple(range(fit))], set(range(fit, pairs))
    while len(found) < ensemble:
        shuffled = torch.randperm(pairs, generator=generator).tolist()
        chosen = sorted(shuffled, key=lambda pair: pair not in unread)[:fit]
        order = tuple(chosen[place] for place in torch.randperm(fit, generator=generator).tolist())
        if order not in found:
            found.append(order)
            unread -= {*order}
    return found


def allowed_ids(layout: Layout, allowed: Allowed, shown: Tensor) -> Tensor:
    """(v,) bool of ids that may be drawn.

    Args:
        layout: Its ids.
        allowed: None for every code; "seen" for those that occur in `shown`; or (n,) bool of codes.
        shown: Codes of the pictures that answers shall be made of, of any shape.

    Raises:
        ValueError: if none is left, or it is something else.
    """
    ids = layout.drawable.to(shown.device)
    if allowed is None:
        return ids
    if isinstance(allowed, str):
        if allowed != "seen":
            raise ValueError(f"allowed is {allowed!r}: 'seen' allows codes of the answers shown, None all")
        if not shown.numel():
            raise ValueError("allowed='seen', but no answer is shown: give pairs, or leave allowed out")
        return torch.zeros_like(ids).index_fill(0, shown.flatten(), True)
    codes = int(ids.sum())
    if allowed.dtype != torch.bool or allowed.shape != (codes,) or not allowed.any():
        raise ValueError(
            f"allowed is {allowed.dtype} of shape {tuple(allowed.shape)} with {int(allowed.sum())} codes: "
            f"give bool of shape ({codes},) with at least one true"
        )
    return ids.masked_scatter(ids, allowed.to(ids.device))
