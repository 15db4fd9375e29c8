"""Prompts: what stands before the tokens to be drawn, and how several of them speak for one sequence.

A sequence listens to one prompt, to several that vote on every token, and, where it is guided, to
unconditional ones as well. Those of one length are read as one batch in one cache; an unconditional prompt of
another length has a cache of its own.

Letters: b sequences, p prompts that differ in what is drawn after them, e votes, c candidates, t prompt
tokens, v vocabulary. Rows of prompts stand in the order (p e), those of what continues them in (p e c).
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace

import torch
from einops import reduce, repeat
from torch import Tensor

from vqtok.gpt.cache import Cache, KVCache, SharedKVCache
from vqtok.gpt.model import GPT, check_ids


@dataclass(frozen=True, kw_only=True)
class Prompt:
    """What stands before the tokens to be drawn.

    Args:
        ids: (p e, t) in [0, v). May be (p e, 0) where a prefix begins.
        prefix: What the model's prefix takes, such as classes (p e,); None for models without, or whose
            prefix takes nothing.
        null: What the unconditional half of guidance reads instead, of any length and with votes of its own.
            None means the same ids, after the prefix that tells nothing. One of the same length is read in
            the same pass, another costs a pass more a token.
        votes: Prompts in a row, e of them, that choose each token together: their log-probabilities are
            averaged, and what is drawn is read by all of them.
    """

    ids: Tensor
    prefix: Tensor | None = None
    null: "Prompt | None" = None
    votes: int = 1

    @property
    def sequences(self) -> int:
        """How many sequences continue it, candidates apart: p."""
        return len(self.ids) // self.votes


@dataclass(frozen=True)
class Panel:
    """How scores of all rows become scores of the sequences.

    Args:
        votes: Of every cache, for each part of its rows, how many prompts speak together. The first part is
            the conditional one, the other, if there is one, the unconditional.
        candidates: Sequences that continue each prompt.
    """

    votes: tuple[tuple[int, ...], ...]
    candidates: int

    def hear(self, gpt: GPT, caches: Sequence[Cache], ids: Tensor) -> list[Tensor]:
        """Scores (b, v) of what follows ids (b,), for each part; the caches take the ids in."""
        found = []
        for cache, votes in zip(caches, self.votes, strict=True):
            read = torch.cat([self._told(ids, voices) for voices in votes])
            found += self.agree(gpt(read[:, None], cache)[:, 0], votes)
        return found

    def agree(self, scores: Tensor, votes: tuple[int, ...]) -> list[Tensor]:
        """Scores (b, v) of each part of one cache's rows; the mean of log-probabilities where they vote."""
        one = len(scores) // sum(votes)
        parts = scores.split([one * voices for voices in votes])
        return [self._mean(part, voices) for part, voices in zip(parts, votes, strict=True)]

    def conditional(self, caches: Sequence[Cache], rows: int) -> tuple["Panel", tuple[Cache, ...]]:
        """Those who stay once `rows` sequences are guided no longer, and their cache."""
        voices = self.votes[0][0]
        return replace(self, votes=((voices,),)), (caches[0].first(rows * voices),)

    def _told(self, ids: Tensor, voices: int) -> Tensor:
        return ids if voices == 1 else repeat(ids, "(p c) -> (p e c)", c=self.candidates, e=voices)

    def _mean(self, scores: Tensor, voices: int) -> Tensor:
        if voices == 1:
            return scores
        pattern = "(p e c) v -> (p c) v"
        return reduce(scores.log_softmax(-1), pattern, "mean", c=self.candidates, e=voices)


def read(
    gpt: GPT, prompt: Prompt, candidates: int, count: int, guided: bool
) -> tuple[list[Tensor], Panel, tuple[Cache, ...]]:
    """Scores (b, v) of the first token, for each part; how later ones are heard, and what caches go on.

    Args:
        gpt: In evaluation mode.
        prompt: That was checked; with its null filled in where it is guided.
        candidates: Continuations of each prompt; its keys and values are stored once.
        count: New tokens there shall be room for.
        guided: Whether the unconditional prompt is read as well.
    """
    parts = [prompt, prompt.null] if guided else [prompt]
    groups = [parts] if not guided or _alike(*parts) else [[part] for part in parts]
    panel = Panel(tuple(tuple(part.votes for part in group) for group in groups), candidates)
    scores, caches = [], []
    for group, votes in zip(groups, panel.votes, strict=True):
        ids = torch.cat([part.ids for part in group])
        prefix = None if group[0].prefix is None else torch.cat([part.prefix for part in group])
        found, cache = _read(gpt, ids, prefix, candidates, count)
        scores += panel.agree(found, votes)
        caches.append(cache)
    return scores, panel, tuple(caches)


def with_null(gpt: GPT, prompt: Prompt) -> Prompt:
    """The prompt, with what guidance compares it with filled in.

    Raises:
        ValueError: if that is not given and there is no prefix to leave out.
    """
    if prompt.null is not None:
        return prompt
    if prompt.prefix is None:
        raise ValueError(
            "guidance compares with an unconditional prompt: give Prompt(ids=..., null=Prompt(ids=...)), "
            "or a prefix that can be left out"
        )
    return replace(prompt, null=replace(prompt, prefix=gpt.prefix.absent(prompt.prefix)))


def check_prompt(gpt: GPT, prompt: Prompt, count: int, candidates: int = 1) -> None:
    """Raises ValueError unless `count` tokens can follow each prompt."""
    if count < 1 or candidates < 1:
        raise ValueError(
            f"{count} tokens of {candidates} candidates are nothing to draw: ask for at least 1 of each"
        )
    null = prompt.null
    for part in (prompt,) if null is None else (prompt, null):
        _check_part(gpt, part, count)
    if null is None:
        return
    if null.sequences != prompt.sequences:
        raise ValueError(
            f"{null.sequences} unconditional prompts for {prompt.sequences} sequences: give one for each, or "
            "as many in a row as votes= says"
        )
    if (null.prefix is None) != (prompt.prefix is None):
        raise ValueError(
            "one of the conditional and unconditional prompts has a prefix: give both one, or none"
        )


def _check_part(gpt: GPT, prompt: Prompt, count: int) -> None:
    prefixed = gpt.config.prefix_places > 0
    if prompt.ids.numel() or not prefixed:
        check_ids(prompt.ids, gpt.config.vocab)
    if prompt.votes < 1 or len(prompt.ids) % prompt.votes:
        raise ValueError(
            f"{len(prompt.ids)} prompts are no whole number of {prompt.votes} votes: give as many in a row "
            "for each sequence as votes= says"
        )
    begun = gpt.config.prefix_places + prompt.ids.shape[1]
    if begun + count - 1 > gpt.config.length:
        raise ValueError(
            f"{begun} prompt tokens and {count} new ones do not fit a model of length {gpt.config.length}: "
            f"shorten the prompt, draw fewer, or build it with length={begun + count - 1}"
        )


def _alike(prompt: Prompt, null: Prompt) -> bool:
    """Whether both can be rows of one batch."""
    if prompt.ids.shape[1] != null.ids.shape[1]:
        return False
    return prompt.prefix is None or prompt.prefix.shape[1:] == null.prefix.shape[1:]


def _read(gpt: GPT, ids: Tensor, prefix: Tensor | None, candidates: int, count: int) -> tuple[Tensor, Cache]:
    """Scores (p e c, v) of what follows ids (p e, t), and the cache that goes on for all candidates."""
    begun = gpt.config.prefix_places + ids.shape[1]
    cache = KVCache(gpt.config, len(ids), length=begun if candidates > 1 else begun + count - 1)
    x, places = gpt.stream(ids, cache, prefix)
    scores = gpt.score(x[:, -1], places[-1:])
    if candidates > 1 and count > 1:
        cache = SharedKVCache(cache, candidates, begun + count - 1)
    return scores.repeat_interleave(candidates, dim=0), cache
