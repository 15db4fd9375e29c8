"""Pictures behind captions: whole ones, the rest of some, pictures as they come, and the best of many.

Guidance compares, at every token, with the same picture behind the null caption (Ho & Salimans 2022).
Reranking is DALL-E's (Ramesh et al. 2021): many are drawn, and what a scorer likes best is kept.

Letters: b captions, n places of text, k tokens kept, m candidates, t tokens of a picture, c h w image.
"""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from dalle.layout import Layout
from vqtok.gpt.generation import generate, stream
from vqtok.gpt.guidance import Constant, Guidance
from vqtok.gpt.model import GPT
from vqtok.gpt.prompts import Prompt
from vqtok.gpt.sampling import Sampling

# Similarity (b, n) float, of images (b, 3, h, w) in [0, 1] to n captions; a larger one is a better fit.
Scorer = Callable[[Tensor, Sequence[str]], Tensor]


@dataclass(frozen=True)
class Start:
    """What is there before anything is drawn.

    Args:
        text: (b, n) of the stream.
        kept: (b, k) of the stream, the first tokens of the picture; k is 0 where all of it is drawn.
    """

    text: Tensor
    kept: Tensor

    @classmethod
    def of(cls, text: Tensor) -> "Start":
        """Of captions alone."""
        return cls(text, text[:, :0])

    def part(self, first: int, last: int) -> "Start":
        """Of captions `first` to `last` - 1."""
        return Start(self.text[first:last], self.kept[first:last])

    def prompt(self, layout: Layout) -> Prompt:
        """What a transformer reads; the unconditional half has the null caption and the same tokens."""
        null = layout.padding.to(self.text.device).expand_as(self.text)
        return Prompt(
            ids=torch.cat([self.text, self.kept], dim=1),
            null=Prompt(ids=torch.cat([null, self.kept], dim=1)),
        )


def guided(sampling: Sampling | None, guidance: float | Guidance | None) -> Sampling:
    """How tokens are drawn, with a scale of guidance or a schedule of it; 1 and None are none.

    Raises:
        ValueError: if `sampling` has guidance of its own.
    """
    sampling = sampling or Sampling()
    if sampling.guidance is not None:
        raise ValueError(f"sampling.guidance is {sampling.guidance}: give it as guidance= instead")
    if guidance is None or guidance == 1:
        return sampling
    schedule = Constant(scale=guidance) if isinstance(guidance, int | float) else guidance
    return replace(sampling, guidance=schedule)


def drawn(
    gpt: GPT, layout: Layout, start: Start, sampling: Sampling, seeds: Sequence[int], batch: int = 64
) -> Tensor:
    """(b m, t) of the stream: m pictures behind each caption, those of one caption side by side.

    Args:
        gpt: The transformer.
        layout: Its ids.
        start: Captions, and what of their pictures is given.
        sampling: How tokens are drawn.
        seeds: (m,) of the candidates: number j of every caption is drawn from seeds[j], whatever other
            captions and candidates there are.
        batch: Most pictures at once.
    """
    found = []
    for first in range(0, len(start.text), captions := max(1, batch // len(seeds))):
        part = start.part(first, first + captions)
        rows = len(part.text)
        several = [
            generate(
                gpt,
                part.prompt(layout),
                count=layout.tokens - part.kept.shape[1],
                sampling=sampling,
                generator=list(some) * rows,
                candidates=len(some),
            ).unflatten(0, (rows, -1))
            for some in (seeds[k : k + batch] for k in range(0, len(seeds), batch))
        ]
        rest = torch.cat(several, dim=1).flatten(0, 1)
        found.append(torch.cat([part.kept.repeat_interleave(len(seeds), dim=0), rest], dim=1))
    return torch.cat(found)


def drawn_in_steps(
    gpt: GPT, layout: Layout, start: Start, sampling: Sampling, seeds: Sequence[int], every: int
) -> Iterator[Tensor]:
    """(b m, k), ever more of the stream's tokens of the pictures that `drawn` gives at once.

    Args:
        gpt: The transformer.
        layout: Its ids.
        start: Captions, and what of their pictures is given.
        sampling: How tokens are drawn.
        seeds: (m,) of the candidates.
        every: Tokens between two; the last has all of them.

    Raises:
        ValueError: if `every` is below 1.
    """
    if every < 1:
        raise ValueError(f"every {every} tokens is never: give 1 or more, a row is {layout.row}")
    kept = start.kept.repeat_interleave(len(seeds), dim=0)
    count = layout.tokens - start.kept.shape[1]
    chances = list(seeds) * len(start.text)
    steps = stream(gpt, start.prompt(layout), count, sampling, chances, candidates=len(seeds))
    return (
        torch.cat([kept, ids], dim=1) for ids in steps if ids.shape[1] % every == 0 or ids.shape[1] == count
    )


def best(images: Tensor, captions: Sequence[str], scorer: Scorer, keep: int) -> Tensor:
    """(b keep, c, h, w): of m images of each caption the `keep` that the scorer likes best, the best first.

    Args:
        images: (b m, c, h, w), those of one caption side by side.
        captions: (b,).
        scorer: Says how well captions fit images.
        keep: Of each caption's.

    Raises:
        ValueError: if there are not so many, or the scorer gives something else than a score a pair.
    """
    groups = images.unflatten(0, (len(captions), -1))
    if not 1 <= keep <= groups.shape[1]:
        raise ValueError(f"keep {keep} of {groups.shape[1]} images of a caption: give 1 to {groups.shape[1]}")
    kept = []
    for caption, group in zip(captions, groups, strict=True):
        scores = scorer(group, [caption])
        if scores.shape != (len(group), 1):
            raise ValueError(
                f"the scorer gave {tuple(scores.shape)} for {len(group)} images and a caption: it must give "
                f"({len(group)}, 1)"
            )
        order = scores[:, 0].argsort(descending=True, stable=True)
        kept.append(group[order[:keep].to(group.device)])
    return torch.cat(kept)
