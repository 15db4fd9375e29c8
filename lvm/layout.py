"""Visual sentences: which id means what, in which order, and how much each counts.

    BOS  [TASK]  [NEXT] x1  [NEXT] y1  ...  [NEXT] xk  [NEXT] yk  EOS

Every image is whole, `tokens` codes row by row. Special ids lie above the codes, so none of them is ever a
code, and the end of a sentence cannot stop an image half-way. Bai et al. 2023 (LVM), section 3.2, with the
ids declared. Two of them are options: NEXT stands before every image, and TASK says which task it is, or that
it is not told.

The published model is asked without them, and its sentences are images alone:

    x1 y1  x2 y2  ...  xk yk

Letters: b sentences, t tokens, k pairs, i images.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Literal, Self

import torch
import torch.nn.functional as F
from einops import rearrange
from torch import Tensor

SPECIALS = ("bos", "eos", "pad")
RESERVED = 100  # ids above the codes in the published model; its code does not say what they mean


@dataclass(frozen=True)
class Layout:
    """Ids of sentences over a tokenizer of `codes` codes and `tokens` tokens an image.

    Args:
        codes: Ids below it are codes.
        tokens: Of an image.
        boundary: Whether NEXT stands before every image.
        tasks: Names that have an id; none means that sentences do not say their task.
        told: The task that sentences say they are of where no other is given; None tells nothing.
    """

    codes: int
    tokens: int
    boundary: bool = False
    tasks: tuple[str, ...] = ()
    told: str | None = None

    @property
    def bos(self) -> int:
        """Begins every sentence."""
        return self.codes

    @property
    def eos(self) -> int:
        """Ends a sentence, after a whole image."""
        return self.codes + 1

    @property
    def pad(self) -> int:
        """Fills up what is left of the context after the last whole sentence."""
        return self.codes + 2

    @property
    def filler(self) -> int:
        """What padding consists of; no other token sees it, and it is no target."""
        return self.pad

    @property
    def next(self) -> int:
        """Stands before every image.

        Raises:
            AttributeError: if images have none.
        """
        if not self.boundary:
            raise AttributeError("this layout has no id between images: build it with boundary=True")
        return self.codes + len(SPECIALS)

    @property
    def vocab(self) -> int:
        """Codes and special ids."""
        told = 1 + len(self.tasks) if self.tasks else 0
        return self.codes + len(SPECIALS) + self.boundary + told

    @property
    def stride(self) -> int:
        """Ids from an image to the next."""
        return self.tokens + self.boundary

    @property
    def end(self) -> tuple[int, ...]:
        """What stands after the last image."""
        return (self.eos,)

    @property
    def lead(self) -> int:
        """Ids before the first image."""
        return len(self.begin())

    @property
    def drawable(self) -> Tensor:
        """(vocab,) bool: the ids that may stand inside an image."""
        return torch.arange(self.vocab) < self.codes

    def telling(self, task: str | None) -> Self:
        """The same layout, whose sentences say this task.

        Raises:
            ValueError: if the task has no id.
        """
        self.begin(task)
        return replace(self, told=task)

    def begin(self, task: str | None = None) -> tuple[int, ...]:
        """What stands before the first image; a task of None is the one that is `told`.

        Raises:
            ValueError: if a task is told that has no id.
        """
        task = self.told if task is None else task
        if not self.tasks:
            if task is not None:
                raise ValueError(f"task {task!r} cannot be told: this model was trained without task ids")
            return (self.bos,)
        untold = self.codes + len(SPECIALS) + self.boundary
        if task is not None and task not in self.tasks:
            raise ValueError(f"task {task!r} has no id: choose one of {', '.join(self.tasks)}, or none")
        return (self.bos, untold if task is None else untold + 1 + self.tasks.index(task))

    def length(self, images: int) -> int:
        """Tokens t of a sentence of so many images, with what stands before and after them."""
        return self.lead + images * self.stride + len(self.end)

    def fitting(self, length: int) -> int:
        """Images of the longest sentence of at most `length` tokens."""
        return max(0, (length - self.lead - len(self.end)) // self.stride)

    def sentence(self, images: Tensor, task: str | None = None) -> Tensor:
        """(t,) ids of whole images (i, tokens)."""
        begin, end = (torch.tensor(ids, dtype=torch.long) for ids in (self.begin(task), self.end))
        return torch.cat([begin, self._spaced(images).flatten(), end])

    def prompt(self, images: Tensor) -> Tensor:
        """(b, t) sentences of whole images (b, i, tokens), not ended; an image comes next."""
        begin = torch.tensor(self.begin(), dtype=torch.long, device=images.device)
        ids = rearrange(self._spaced(images), "b i t -> b (i t)")
        parts = [begin.expand(len(images), -1), ids]
        if self.boundary:
            parts.append(ids.new_full((len(images), 1), self.next))
        return torch.cat(parts, dim=1)

    def weights(self, asked: Sequence[bool], query: float) -> Tensor:
        """(t,) what the ids of a sentence count as targets: those of images asked for 1, others `query`.

        EOS counts 1. What begins a sentence, and NEXT, is told rather than asked for, and counts 0.
        """
        image = torch.tensor([1.0 if one else query for one in asked])
        codes = image[:, None].expand(-1, self.tokens)
        codes = F.pad(codes, (self.stride - self.tokens, 0))
        return torch.cat([torch.zeros(self.lead), codes.flatten(), torch.ones(len(self.end))])

    def images(self, sentence: Tensor) -> Tensor:
        """(i, tokens) the whole images of one sentence (t,), special ids left out.

        Raises:
            ValueError: if codes are left over, or a special id stands inside an image.
        """
        codes = sentence[sentence < self.codes]
        if len(codes) % self.tokens:
            raise ValueError(
                f"{len(codes)} codes are no whole number of images of {self.tokens} tokens: the sentence was "
                "cut, draw it to its end"
            )
        images = rearrange(codes, "(i t) -> i t", t=self.tokens)
        body = sentence[self.lead if tuple(sentence[:1].tolist()) == self.begin()[:1] else 0 :]
        for found, wanted in zip(body.tolist(), self._spaced(images).flatten().tolist(), strict=False):
            if found != wanted:
                fault = f"special id {found} stands among the codes"
                fault = fault if wanted < self.codes else "an image lacks the id that stands before it"
                raise ValueError(
                    f"{fault}: a sentence is BOS, whole images, EOS; draw only `drawable` ids inside images"
                )
        return images

    def _spaced(self, images: Tensor) -> Tensor:
        """Images (..., tokens) with what stands before each, (..., stride)."""
        self._check(images)
        return F.pad(images, (1, 0), value=self.next) if self.boundary else images

    def _check(self, images: Tensor) -> None:
        """Raises ValueError unless these are whole images of codes."""
        if images.shape[-1] != self.tokens:
            raise ValueError(
                f"images of {images.shape[-1]} tokens meet a layout of {self.tokens}: an image is never cut"
            )
        if images.numel() and int(images.max()) >= self.codes:
            raise ValueError(
                f"id {int(images.max())} is no code, they end at {self.codes - 1}: encode with this model's "
                "tokenizer"
            )


@dataclass(frozen=True)
class BareLayout(Layout):
    """Whole images one after the other and nothing else, as the published model is asked.

    Its vocabulary has ids above the codes, which are neither given to it nor drawn. BOS, EOS and PAD are not
    among them, as far as is known, and asking for one raises an AttributeError.
    """

    reserved: int = RESERVED

    @property
    def bos(self) -> int:
        """There is none."""
        raise AttributeError("a bare layout has no bos: its sentences begin with an image")

    @property
    def eos(self) -> int:
        """There is none."""
        raise AttributeError("a bare layout has no eos: its sentences end with an image")

    @property
    def pad(self) -> int:
        """There is none."""
        raise AttributeError("a bare layout has no pad: its sentences are of one length")

    @property
    def filler(self) -> int:
        """The first id above the codes, which the published code pads with; where there is none, a code."""
        return self.codes if self.reserved else 0

    def begin(self, task: str | None = None) -> tuple[int, ...]:
        """Nothing stands before the first image."""
        if task is not None:
            raise ValueError(f"task {task!r} cannot be told: a bare layout has images alone")
        return ()

    @property
    def end(self) -> tuple[int, ...]:
        """Nothing stands after the last image."""
        return ()

    @property
    def vocab(self) -> int:
        """Codes and the ids above them."""
        return self.codes + self.reserved


@dataclass(frozen=True, kw_only=True)
class MarkedConfig:
    """BOS before the first image, EOS after the last.

    Args:
        kind: Names this layout in config.json.
        boundary: Whether another id stands before every image.
        tasks: Names of tasks that have an id of their own; none means that sentences do not say their task.
    """

    kind: Literal["marked"] = "marked"
    boundary: bool = False
    tasks: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        if len(set(self.tasks)) != len(self.tasks):
            raise ValueError(f"layout.tasks names one twice: {', '.join(self.tasks)}; name each once")

    def build(self, codes: int, tokens: int) -> Layout:
        """The layout over a tokenizer of `codes` codes and `tokens` tokens an image."""
        return Layout(codes, tokens, self.boundary, self.tasks)


@dataclass(frozen=True, kw_only=True)
class BareConfig:
    """Images alone, as the published model is asked.

    Args:
        kind: Names this layout in config.json.
        reserved: Ids above the codes.
    """

    kind: Literal["bare"] = "bare"
    reserved: int = RESERVED

    def __post_init__(self) -> None:
        if self.reserved < 0:
            raise ValueError(f"reserved {self.reserved} is below 0: count the ids above the codes")

    def build(self, codes: int, tokens: int) -> BareLayout:
        """The layout over a tokenizer of `codes` codes and `tokens` tokens an image."""
        return BareLayout(codes, tokens, reserved=self.reserved)


LayoutConfig = MarkedConfig | BareConfig
