"""The loop that draws many tokens: prompts read once, one step a token, nothing waited for on a GPU.

Letters: b sequences, p prompts (those that vote together being one), t prompt tokens, v vocabulary.
"""

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial

import torch
import torch.nn.functional as F
from torch import Tensor

from vqtok.gpt.cache import Cache
from vqtok.gpt.graphs import repeated
from vqtok.gpt.guidance import scales
from vqtok.gpt.model import GPT, check_ids
from vqtok.gpt.prompts import Panel, Prompt, check_prompt, read, with_null
from vqtok.gpt.sampling import Sampling, check_allowed, check_random, choose, throw
from vqtok.gpt.transposed import transposed_copy, transposing_pays


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
        prompt: What comes before; ids (p, t) alone will do. Of several that vote on a sequence every one is
            read, and reads what is drawn.
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
    prompt, course = _prepared(gpt, prompt, count, sampling, generator, allowed, candidates, known)
    drawn = torch.empty(prompt.sequences * candidates, count, dtype=torch.int64, device=prompt.ids.device)
    return _stream(gpt, prompt, sampling, course, drawn)


def generate_scored(
    gpt: GPT,
    prompt: Prompt | Tensor,
    count: int,
    sampling: Sampling,
    generator: torch.Generator | Sequence[int] | None = None,
    allowed: Tensor | None = None,
    candidates: int = 1,
    known: Tensor | None = None,
) -> tuple[Tensor, Tensor]:
    """What `generate` draws, and what every token costs: (b, count) ids, and (b, count) float32 nats.

    Nats are minus log-probabilities by the model's own odds of all ids: at temperature 1, without guidance
    and whatever is allowed. Those of prompts that vote are by the mean of their log-probabilities.
    """
    prompt, course = _prepared(gpt, prompt, count, sampling, generator, allowed, candidates, known)
    shape, device = (prompt.sequences * candidates, count), prompt.ids.device
    drawn, nats = torch.empty(shape, dtype=torch.int64, device=device), torch.empty(shape, device=device)
    for _ in _stream(gpt, prompt, sampling, course, drawn, nats):
        pass
    return drawn, nats


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


def _prepared(
    gpt: GPT,
    prompt: Prompt | Tensor,
    count: int,
    sampling: Sampling,
    generator: torch.Generator | Sequence[int] | None,
    allowed: Tensor | None,
    candidates: int,
    known: Tensor | None,
) -> tuple[Prompt, _Course]:
    """Arguments of `generate`, checked: the whole prompt, and what choices take.

    Raises:
        ValueError: as `generate`.
    """
    prompt = prompt if isinstance(prompt, Prompt) else Prompt(ids=prompt)
    guided = scales(sampling.guidance, count)
    prompt = with_null(gpt, prompt) if guided else prompt
    check_prompt(gpt, prompt, count, candidates)
    rows, device = prompt.sequences * candidates, prompt.ids.device
    check_random(sampling, generator)
    _check_tokens(allowed, known, rows, count, gpt.config.vocab)
    return prompt, _Course(
        scales=torch.tensor(guided, device=device),
        darts=throw(_sources(generator, rows), rows, count, device) if sampling.temperature > 0 else None,
        allowed=None if allowed is None else allowed.to(device).expand(count, -1),
        known=None if known is None else known.to(device).T,
    )


def _stream(
    gpt: GPT, prompt: Prompt, sampling: Sampling, course: _Course, drawn: Tensor, nats: Tensor | None = None
) -> Iterator[Tensor]:
    """Fills `drawn` (b, count) token by token, and yields what is filled; also `nats`, if there are."""
    rows, count = drawn.shape
    guided = len(course.scales)
    pick = partial(_pick, sampling, nats is not None)
    with drawing(gpt, count) as gpt:
        for place in range(count):
            with torch.inference_mode():
                given = course.at(place)
                if place == 0:
                    scores, panel, caches = read(gpt, prompt, rows // prompt.sequences, count, guided > 0)
                    ids, cost = pick(scores, *given)
                else:
                    if place in (1, guided):  # where guidance ends, the unconditional half is left out
                        panel, caches = (panel, caches) if place < guided else panel.conditional(caches, rows)
                        step = repeated(partial(_step, gpt, panel, pick), caches, ids, *given)
                    ids, cost = step(ids, *given)
                drawn[:, place] = ids
                if cost is not None:
                    nats[:, place] = cost
            yield drawn[:, : place + 1]


def _step(
    gpt: GPT, panel: Panel, pick: Callable, caches: Sequence[Cache], ids: Tensor, *given: Tensor | None
) -> tuple[Tensor, Tensor | None]:
    """What `_pick` gives behind ids (b,); `given` is what `_Course.at` gives."""
    return pick(panel.hear(gpt, caches, ids), *given)


def _pick(
    sampling: Sampling,
    scored: bool,
    scores: list[Tensor],
    scale: Tensor | None,
    darts: Tensor | None,
    allowed: Tensor | None,
    known: Tensor | None,
) -> tuple[Tensor, Tensor | None]:
    """Ids (b,) by scores (b, v), conditional and, where guided, unconditional ones; their nats if asked."""
    logits = scores[0]
    if scale is not None:
        conditional, unconditional = scores
        # Where both are -inf, for ids that may not stand here, the difference is nan: nothing is to be added.
        push = (conditional - unconditional).nan_to_num(nan=0.0)
        logits = conditional + (scale - 1) * push
    ids = choose(logits, sampling, darts, allowed)
    ids = ids if known is None else torch.where(known < 0, ids, known)
    return ids, F.cross_entropy(scores[0], ids, reduction="none") if scored else None


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
