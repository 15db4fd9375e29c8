"""What tells a network which class a picture shall be of, and a vector for no class, which guidance needs.

Letters: b images, d width.

Source: Ho & Salimans 2022 (leaving the class out now and then, in one network).
"""

from dataclasses import dataclass

import torch
from torch import Tensor, nn


@dataclass(frozen=True, kw_only=True)
class ClassesConfig:
    """One vector for every class, and one for no class.

    Args:
        count: Labels run from 0 to count - 1; with `null`, `count` itself is no class.
        null: Whether there is a vector for no class. Published networks have none, unless their authors
            trained one as a further class.
        drop: Share of labels replaced by no class while training, so that guidance has something to compare
            with.
    """

    count: int
    null: bool = True
    drop: float = 0.1

    def __post_init__(self) -> None:
        if self.count < 1:
            raise ValueError(f"classes.count {self.count} is below 1: count the classes of the data")
        if not 0 <= self.drop < 1:
            raise ValueError(f"classes.drop {self.drop} is outside [0, 1): 0 leaves none out, 0.1 is usual")
        if self.drop and not self.null:
            raise ValueError(f"classes.drop {self.drop} needs a vector for no class: set null, or drop to 0")

    @property
    def rows(self) -> int:
        """Vectors of the table."""
        return self.count + self.null


class ClassEmbedding(nn.Module):
    """The vector of a class, now and then that of no class while training."""

    def __init__(self, config: ClassesConfig, width: int) -> None:
        super().__init__()
        self.config = config
        self.table = nn.Embedding(config.rows, width)

    def forward(self, labels: Tensor) -> Tensor:
        """(b, d) of labels (b,)."""
        if self.training and self.config.drop:
            left_out = torch.rand(len(labels), device=labels.device) < self.config.drop
            labels = torch.where(left_out, self.config.count, labels)
        return self.table(labels)


def check_labels(labels: Tensor | None, config: ClassesConfig | None, batch: int) -> None:
    """Raise a ValueError unless labels (b,) are there if and only if there are classes, and within them.

    Numbers are looked at on the CPU only: a look at a GPU's would wait for it.
    """
    if config is None:
        if labels is not None:
            raise ValueError("this network was built without classes: leave labels out, or set classes.count")
        return
    none = f", or {config.count} for no class" if config.null else ""
    way = f"give ({batch},) int64 labels below {config.count}{none}"
    if labels is None:
        raise ValueError(f"this network needs labels: {way}")
    if labels.shape != (batch,) or labels.dtype not in (torch.int64, torch.int32):
        raise ValueError(f"labels are {labels.dtype} of shape {tuple(labels.shape)}: {way}")
    if labels.device.type == "cpu" and not torch.compiler.is_compiling():
        low, high = labels.aminmax()
        if low < 0 or high >= config.rows:
            wrong = int(low if low < 0 else high)
            raise ValueError(f"label {wrong} is outside [0, {config.rows}): {way}")
