"""The loop that draws many tokens: prompts read once, one step a token, nothing waited for on a GPU.

Letters: b sequences, p prompts, t prompt tokens, v vocabulary.
"""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from functools import partial

import torch
from torch import Tensor

from vqtok.gpt.cache import Cache, KVCache, SharedKVCache
from vqtok.gpt.graphs import repeated
from vqtok.gpt.guidance import scales
from vqtok.gpt.model import GPT, check_ids
from vqtok.gpt.sampling import Sampling, check_allowed, check_random, choose, throw
from vqtok.gpt.transposed import transposed_copy, transposing_pays


@dataclass(frozen=True, kw_only=True)
class Prompt:
    """What stands before the tokens to be drawn.

    Args:
        ids: (p, t) in [0, v). May be (p, 0) where a prefix begins.
        prefix: What the model's prefix takes, such as classes (p,); None for models without, or whose prefix
            takes nothing.
        null: What the unconditional half of guidance reads instead, of the same shape. None means the same
            ids, after the prefix that tells nothing.
    """

    ids: Tensor
    prefix: Tensor | None = None
    null: "Prompt | None" = None


def generate(
    gpt: GPT,
    prompt: Prompt | Tensor,
    count: int,
    sampling: Sampling,
    generator: torch.Generator | Sequence[int] | None = None,
    allowed: Tensor | None = None,
    candidates: int = 1,
    known: Tensor | None = None,
) -> Tensor:
    """The `count` tokens that follow each prompt; the prompt is read once, then each token costs one step.

    Args:
        gpt: Its dropout is off meanwhile, in whatever mode it is.
        prompt: What comes before; ids (p, t) alone will do.
        count: New tokens; t + count - 1 must not exceed the model's length, since the last one is not read.
        sampling: How each token is chosen.
        generator: Where randomness comes from, on any device: one generator for all, or b seeds, one for each
            sequence, which then is the same in whatever batch it is drawn (but for rounding: scores differ in
            the last bits between batches, and an id may where its number falls just there). Only greedy
            choices can do without.
        allowed: (v,) or (count, v) bool; the ids that may be drawn, everywhere or token by token. None allows
            all.
        candidates: Continuations of each prompt; its keys and values are stored and read once for all.
        known: (b, count) ids that are given, -1 for those to be drawn. They steer what comes after them, and
            nothing before. Those before the first to be drawn are read faster as part of the prompt.

    Returns:
        (b, count) int64, where b = p candidates; those of one prompt stand one after the other.

    Raises:
        ValueError: if an id is outside the vocabulary, tokens do not fit, nothing is allowed, or guidance has
            no unconditional prompt.
    """
    *_, drawn = stream(gpt, prompt, count, sampling, generator, allowed, candidates, known)
    return drawn


def stream(
    gpt: GPT,
    prompt: Prompt | Tensor,
    count: int,
    sampling: Sampling,
    generator: torch.Generator | Sequence[int] | None = None,
    allowed: Tensor | None = None,
    candidates: int = 1,
    known: Tensor | None = None,
) -> Iterator[Tensor]:
    """As `generate`, token by token: yields the ids so far, (b, 1), (b, 2) and on to (b, count).

    What it yields are views of one tensor, whose numbers are there as soon as the device has drawn them. The
    model's dropout is off until the last token, or until the iterator is closed.
    """
    prompt = prompt if isinstance(prompt, Prompt) else Prompt(ids=prompt)
    guided = scales(sampling.guidance, count)
    prompt = _with_null(gpt, prompt) if guided else prompt
    check_prompt(gpt, prompt, count, candidates)
    rows, device = len(prompt.ids) * candidates, prompt.ids.device
    check_random(sampling, generator)
    _check_tokens(allowed, known, rows, count, gpt.config.vocab)
    course = _Course(
        scales=torch.tensor(guided, device=device),
        darts=throw(_sources(generator, rows), rows, count, device) if sampling.temperature > 0 else None,
        allowed=None if allowed is None else allowed.to(device).expand(count, -1),
        known=None if known is None else known.to(device).T,
    )
    drawn = torch.empty(rows, count, dtype=torch.int64, device=device)
    return _stream(gpt, prompt, drawn, sampling, course)


@dataclass(frozen=True, kw_only=True)
class _Course:
    """What the choices of all tokens take, made before the first; `at` gives one token's share.

    Args:
        scales: (g,) of guidance, for the first g tokens.
        darts: (count, b) random numbers, None for greedy choices.
        allowed: (count, v) bool, or None.
        known: (count, b) ids, -1 for those to be drawn, or None.
    """

    scales: Tensor
    darts: Tensor | None
    allowed: Tensor | None
    known: Tensor | None

    def at(self, place: int) -> tuple[Tensor | None, ...]:
        """Scale (), darts (b,), allowed (v,) and known (b,) of one token."""
        scale = self.scales[place] if place < len(self.scales) else None
        rows = (self.darts, self.allowed, self.known)
        return scale, *(None if row is None else row[place] for row in rows)


def _stream(gpt: GPT, prompt: Prompt, drawn: Tensor, sampling: Sampling, course: _Course) -> Iterator[Tensor]:
    """Fills `drawn` (b, count) token by token, and yields what is filled."""
    rows, count = drawn.shape
    guided = len(course.scales)
    with drawing(gpt, count) as gpt:
        with torch.inference_mode():
            logits, cache = _read(gpt, prompt, rows, count, guided > 0)
            drawn[:, 0] = ids = _pick(sampling, logits, *course.at(0))
        yield drawn[:, :1]
        for place in range(1, count):
            with torch.inference_mode():
                given = course.at(place)
                if place in (1, guided):  # from the end of guidance on, the unconditional half is left out
                    cache = cache if place < guided else cache.first(rows)
                    step = repeated(partial(_step, gpt, sampling), cache, ids, *given)
                drawn[:, place] = ids = step(ids, *given)
            yield drawn[:, : place + 1]


def _read(gpt: GPT, prompt: Prompt, rows: int, count: int, guided: bool) -> tuple[Tensor, Cache]:
    """Scores (b, v) of the first token, and the cache that goes on; with guidance twice as many sequences.

    The first half is conditional, the second unconditional; candidates of one prompt stand together.
    """
    ids, prefix = prompt.ids, prompt.prefix
    if guided:
        ids = torch.cat((ids, prompt.null.ids))
        prefix = None if prefix is None else torch.cat((prefix, prompt.null.prefix))
    times = rows // len(prompt.ids)
    read = gpt.config.prefix_places + ids.shape[1]
    cache = KVCache(gpt.config, len(ids), length=read if times > 1 else read + count - 1)
    x, places = gpt.stream(ids, cache, prefix)
    logits = gpt.score(x[:, -1], places[-1:])
    if times > 1 and count > 1:
        cache = SharedKVCache(cache, times, read + count - 1)
    return logits.repeat_interleave(times, dim=0), cache


def _step(gpt: GPT, sampling: Sampling, cache: Cache, ids: Tensor, *given: Tensor | None) -> Tensor:
    """The ids (b,) that follow ids (b,); `given` is what `_Course.at` gives."""
    read = ids if given[0] is None else ids.repeat(2)
    return _pick(sampling, gpt(read[:, None], cache)[:, 0], *given)


def _pick(
    sampling: Sampling,
    logits: Tensor,
    scale: Tensor | None,
    darts: Tensor | None,
    allowed: Tensor | None,
    known: Tensor | None,
) -> Tensor:
    """Ids (b,) by scores (b, v), or (2 b, v) where they are guided."""
    if scale is not None:
        conditional, unconditional = logits.chunk(2)
        # Where both are -inf, for ids that may not stand here, the difference is nan: nothing is to be added.
        push = (conditional - unconditional).nan_to_num(nan=0.0)
        logits = conditional + (scale - 1) * push
    ids = choose(logits, sampling, darts, allowed)
    return ids if known is None else torch.where(known < 0, ids, known)


def _with_null(gpt: GPT, prompt: Prompt) -> Prompt:
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
    return replace(prompt, null=Prompt(ids=prompt.ids, prefix=gpt.prefix.absent(prompt.prefix)))


def _sources(source: torch.Generator | Sequence[int], rows: int) -> torch.Generator | list[torch.Generator]:
    """The generator, or one for each seed.

    Raises:
        ValueError: if there is not one seed for each sequence.
    """
    if isinstance(source, torch.Generator):
        return source
    seeds = [int(seed) for seed in source]
    if len(seeds) != rows:
        raise ValueError(
            f"{len(seeds)} seeds for {rows} sequences: give one for each, or one generator for all"
        )
    return [torch.Generator().manual_seed(seed) for seed in seeds]


def check_prompt(gpt: GPT, prompt: Prompt, count: int, candidates: int = 1) -> None:
    """Raises ValueError unless `count` tokens can follow each prompt."""
    prefixed = gpt.config.prefix_places > 0
    for part in (prompt, prompt.null):
        if part is not None and (part.ids.numel() or not prefixed):
            check_ids(part.ids, gpt.config.vocab)
    for name in ("ids", "prefix") if prompt.null is not None else ():
        parts = (getattr(prompt.null, name), getattr(prompt, name))
        null, ours = (None if part is None else tuple(part.shape) for part in parts)
        if null != ours:
            raise ValueError(
                f"{name} of the unconditional prompt have shape {null}, those of the conditional one {ours}: "
                "give both alike, and fill up the shorter one"
            )
    if count < 1 or candidates < 1:
        raise ValueError(
            f"{count} tokens of {candidates} candidates are nothing to draw: ask for at least 1 of each"
        )
    read = gpt.config.prefix_places + prompt.ids.shape[1]
    if read + count - 1 > gpt.config.length:
        raise ValueError(
            f"{read} prompt tokens and {count} new ones do not fit a model of length {gpt.config.length}: "
            f"shorten the prompt, draw fewer, or build it with length={read + count - 1}"
        )


def _check_tokens(allowed: Tensor | None, known: Tensor | None, rows: int, count: int, vocab: int) -> None:
    if allowed is not None:
        check_allowed(allowed, (vocab,) if allowed.ndim == 1 else (count, vocab))
    if known is None:
        return
    if known.shape != (rows, count) or known.dtype not in (torch.int64, torch.int32):
        raise ValueError(
            f"known is {known.dtype} of shape {tuple(known.shape)}: give int64 of shape ({rows}, {count}), "
            "-1 where an id is to be drawn"
        )
    check_ids(known, vocab, lowest=-1)


@contextmanager
def drawing(gpt: GPT, count: int) -> Iterator[GPT]:
    """What draws so many tokens: the model without dropout, every module's mode as it was afterwards.

    A copy of other layout stands in where that saves time.
    """
    if transposing_pays(gpt, count):
        yield transposed_copy(gpt).eval()
        return
    modes = [(module, module.training) for module in gpt.modules()]
    gpt.eval()
    try:
        yield gpt
    finally:
        for module, mode in modes:
            module.training = mode
