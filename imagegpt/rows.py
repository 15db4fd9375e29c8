"""Pictures as rows of ids with their classes, in the order in which a run reads them.

Letters: n rows, t tokens of a picture.
"""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from imagegpt.layout import Layout
from vqtok.data.classes import in_order
from vqtok.data.order import shuffled
from vqtok.data.shards import Shards
from vqtok.tokenizers.fingerprint import fingerprint
from vqtok.tokenizers.interface import ImageTokenizer

NONE = -1  # the number of the class of a picture that has none


class Rows:
    """Pictures of shards and the numbers of their classes.

    Args:
        shards: What `vqtok encode` wrote.
        names: Names of the classes, by their numbers; empty if classes do not matter.

    Raises:
        ValueError: if a picture has no class, or one that is not among the names.
    """

    def __init__(self, shards: Shards, names: Sequence[str] = ()) -> None:
        self.shards, self.names = shards, tuple(names)
        self.labels = labels_of(shards, names) if names else torch.full((len(shards),), NONE)

    def __len__(self) -> int:
        return len(self.shards)

    def __getitem__(self, index: int) -> tuple[Tensor, Tensor]:
        """Ids (t,) and number of the class () of picture `index`, both int64."""
        return self.shards[index], self.labels[index]

    def part(self, chosen: Sequence[int]) -> tuple[Tensor, Tensor]:
        """Ids (n, t) and classes (n,) of some pictures."""
        return torch.stack([self.shards[index] for index in chosen]), self.labels[list(chosen)]

    def evenly(self, count: int | None) -> tuple[Tensor, Tensor]:
        """`part` of so many pictures, spread over all; None, or more than there are, takes all."""
        count = min(count or len(self), len(self))
        return self.part([number * len(self) // count for number in range(count)])


class Order:
    """Endless training order over some pictures: each once an epoch, shuffled anew, mirrored by a coin.

    Args:
        rows: Where the pictures are.
        chosen: Which of them.
        seed: Another seed is another order.
        mirror: Layout of the pictures if half of them shall be mirrored, which only ids of pixels allow.
    """

    def __init__(self, rows: Rows, chosen: Sequence[int], seed: int, mirror: Layout | None = None) -> None:
        self.rows, self.chosen, self.seed, self.mirror = rows, chosen, seed, mirror

    def __getitem__(self, index: int) -> tuple[Tensor, Tensor]:
        """Ids (t,) and number of the class ()."""
        ids, label = self.rows[self.chosen[shuffled(index, len(self.chosen), self.seed)]]
        if self.mirror and np.random.default_rng((self.seed, index)).random() < 0.5:
            ids = self.mirror.grid(ids[None]).flip(2).flatten()
        return ids, label


def open_shards(folder: Path, tokenizer: ImageTokenizer, name: str, layout: Layout) -> Shards:
    """The shards of a folder, if the tokenizer called `name` made them for pictures of this layout.

    Raises:
        ValueError: if another one did, or pictures have another size.
    """
    shards, mark = Shards(folder), fingerprint(tokenizer)
    if shards.tokenizer != mark:
        raise ValueError(
            f"{folder} was encoded by tokenizer {str(shards.tokenizer)[:12]}, {name} is {mark[:12]}: encode "
            "again with this one, or name that one"
        )
    for facts in shards.facts:
        if tuple(facts.get("grid", ())) != layout.shape:
            raise ValueError(
                f"{folder} holds pictures of {facts.get('grid')} codes, the tokenizer's size gives "
                f"{list(layout.shape)}: encode without --size, and without --pairs"
            )
    return shards


def classes_of(shards: Shards) -> tuple[str, ...]:
    """Classes that occur, numbers in their order, words in the alphabet's; () if some picture has none."""
    told = [name for facts in shards.facts for name in facts.get("labels", [])]
    return in_order(told) if len(told) == len(shards) else ()


def labels_of(shards: Shards, names: Sequence[str]) -> Tensor:
    """(n,) int64 number of every picture's class among `names`.

    Raises:
        ValueError: if one has no class, or another one.
    """
    by_name = {name: number for number, name in enumerate(names)}
    found = []
    for folder, facts in zip(shards.folders, shards.facts, strict=True):
        if "labels" not in facts:
            raise ValueError(
                f"{folder} does not tell the classes of its pictures: encode a gallery that has classes, "
                "such as a folder of one folder a class"
            )
        unknown = {*facts["labels"]} - {*by_name}
        if unknown:
            raise ValueError(
                f"{folder} has class {min(unknown)!r}, which is none of {', '.join(names[:9])}: give "
                "pictures of the classes that the model knows"
            )
        found += [by_name[name] for name in facts["labels"]]
    return torch.tensor(found)
