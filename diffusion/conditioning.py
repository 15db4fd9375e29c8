"""Class labels for a network, and classifier-free guidance.

A network maps (x_t (b, c, h, w), t (b,) int64, labels (b,) int64 or None) to its output (b, o, h, w). If it
knows classes it says how many as its attribute `classes`; the label `classes`, one beyond the last, then
means none.

    output = unconditional + scale (conditional - unconditional)       on all channels

Both are one batch, twice as large. Scale 1 is no guidance, and costs none.

Letters: b batch, c h w picture, o channels of output; t time from 1 to T.

Source: Ho & Salimans 2022, eq. 6, with its w = scale - 1.
"""

import math
from collections.abc import Callable
from typing import Protocol

import torch
from torch import Tensor

from diffusion.schedules import Times


class Network(Protocol):
    """What is asked at every step. It may have an attribute `classes`; who has none takes no labels."""

    def __call__(self, x_t: Tensor, t: Tensor, labels: Tensor | None) -> Tensor:
        """(b, o, h, w) of x_t (b, c, h, w), t (b,) and labels (b,)."""


Asked = Callable[[Tensor, Times], Tensor]  # (b, o, h, w) of x_t and its time, labels and guidance seen to


def classes_of(network: Network) -> int:
    """How many classes the network knows, 0 if none; looks through the wrapper of data-parallel training."""
    inner = getattr(network, "module", network)
    return getattr(inner, "classes", None) or 0


def conditioned(network: Network, labels: Tensor | None, guidance: float | None, count: int) -> Asked:
    """A function of (x_t, t) that asks the network with these labels.

    Args:
        network: Of a process.
        labels: (b,) int64; None draws from all classes.
        guidance: Scale; None or 1 asks once.
        count: b.

    Raises:
        ValueError: if labels are wrong, or there is guidance without labels.
    """
    classes = classes_of(network)
    labels = check_labels(labels, classes, count)
    guided = guidance is not None and guidance != 1
    if guided and (labels is None or not 0 <= guidance < math.inf):
        raise ValueError(
            f"guidance {guidance} needs labels, and a scale in [0, inf): give labels, or guidance=None"
        )
    if labels is None and classes:
        labels = torch.full((count,), classes)
    if guided:
        labels = torch.cat((labels, torch.full_like(labels, classes)))

    def ask(x_t: Tensor, t: Times) -> Tensor:
        times = torch.as_tensor(t, device=x_t.device).expand(len(x_t))
        own = None if labels is None else labels.to(x_t.device)
        if not guided:
            return network(x_t, times, own)
        with_label, without = network(x_t.repeat(2, 1, 1, 1), times.repeat(2), own).chunk(2)
        return without + guidance * (with_label - without)

    return ask


def check_labels(labels: Tensor | None, classes: int, count: int) -> Tensor | None:
    """The labels, if a network of so many classes can take them for `count` pictures.

    Raises:
        ValueError: if the network knows no classes, or labels have another shape, type or range.
    """
    if labels is None:
        return None
    if not classes:
        raise ValueError("labels for a network that knows no classes: leave them out")
    if labels.shape != (count,) or labels.is_floating_point() or labels.dtype == torch.bool:
        raise ValueError(f"labels are {tuple(labels.shape)} {labels.dtype}: give ({count},) int64")
    low, high = int(labels.min()), int(labels.max())
    if low < 0 or high > classes:
        raise ValueError(
            f"label {low if low < 0 else high} is outside [0, {classes}): {classes} itself means no class"
        )
    return labels.long()
