"""Answers: the image that follows a prompt of whole images, the images that follow a row, and their nats.

Letters: b prompts, i images, t tokens, v vocabulary.
"""

import math

import torch
import torch.nn.functional as F
from einops import rearrange
from torch import Tensor

from lvm.layout import Layout
from vqtok.gpt.cache import KVCache
from vqtok.gpt.generation import generate, generate_scored
from vqtok.gpt.model import GPT
from vqtok.gpt.prompts import Prompt
from vqtok.gpt.sampling import Sampling, draw


def answers(
    gpt: GPT,
    layout: Layout,
    images: Tensor,
    sampling: Sampling,
    generator: torch.Generator | None = None,
    candidates: int = 1,
    allowed: Tensor | None = None,
    votes: int = 1,
) -> Tensor:
    """(b candidates, tokens) ids of the image that follows each prompt; only codes are drawn.

    Guidance compares with the query alone, without pairs.

    Args:
        gpt: The transformer.
        layout: Its ids.
        images: (b votes, i, tokens) codes of pairs and a query; answers to one prompt stand one after the
            other.
        sampling: How tokens are drawn.
        generator: Of the draws; greedy needs none.
        candidates: Answers to each prompt; the prompt is read once for all.
        allowed: (v,) bool, the codes that may be drawn; None allows all.
        votes: Prompts in a row that end in the same query and answer together: their log-probabilities are
            averaged.
    """
    return scored_answers(gpt, layout, images, sampling, generator, candidates, allowed, votes)[0]


def scored_answers(
    gpt: GPT,
    layout: Layout,
    images: Tensor,
    sampling: Sampling,
    generator: torch.Generator | None = None,
    candidates: int = 1,
    allowed: Tensor | None = None,
    votes: int = 1,
) -> tuple[Tensor, Tensor]:
    """What `answers` draws, and nats (b candidates, tokens) of its tokens by the model's own odds."""
    ids = layout.prompt(images)
    null = None if sampling.guidance is None else Prompt(ids=layout.prompt(images[::votes, -1:]))
    allowed = (layout.drawable if allowed is None else allowed).to(ids.device)
    prompt = Prompt(ids=ids, null=null, votes=votes)
    return generate_scored(gpt, prompt, layout.tokens, sampling, generator, allowed, candidates)


def room(layout: Layout, length: int) -> int:
    """Most images after which a transformer of that length has room for one more."""
    images = 0
    while _start(layout, images + 1) + layout.tokens - 1 <= length:  # the last token is drawn, not read
        images += 1
    return images


def continuation(
    gpt: GPT,
    layout: Layout,
    images: Tensor,
    count: int,
    sampling: Sampling,
    generator: torch.Generator | None = None,
    allowed: Tensor | None = None,
    slide: int = 1,
) -> Tensor:
    """(b, count, tokens) ids of the images that follow rows of images; only codes are drawn.

    As long as they fit, images are read or drawn once. Where the context is full, the oldest are dropped, and
    the rest is read again as the beginning of a row.

    Args:
        gpt: The transformer.
        layout: Its ids.
        images: (b, i, tokens) codes; i is 1 or more.
        count: Images to draw.
        sampling: How tokens are drawn.
        generator: Of the draws; greedy needs none.
        allowed: (v,) bool, the codes that may be drawn; None allows all.
        slide: Images that are dropped at a time; 2 keeps the pairs of a row whole.

    Raises:
        ValueError: if there is nothing to draw or to continue, or the window cannot slide so far.
    """
    window = room(layout, gpt.config.length)
    if count < 1 or not images.shape[1]:
        raise ValueError(f"{count} images after {images.shape[1]} are no row to draw: give 1 or more of each")
    if not 1 <= slide <= window:
        raise ValueError(f"slide {slide} is outside [1, {window}]: more than are read cannot be dropped")
    allowed = (layout.drawable if allowed is None else allowed).to(images.device)
    row, first, end = images, 0, images.shape[1] + count
    while row.shape[1] < end:
        over = row.shape[1] - first - window
        first += max(0, math.ceil(over / slide)) * slide
        more = min(end - row.shape[1], window + 1 - (row.shape[1] - first))
        drawn = _next_images(gpt, layout, row[:, first:], more, sampling, generator, allowed)
        row = torch.cat([row, drawn], dim=1)
    return row[:, images.shape[1] :]


def _next_images(
    gpt: GPT,
    layout: Layout,
    images: Tensor,
    count: int,
    sampling: Sampling,
    generator: torch.Generator | None,
    allowed: Tensor,
) -> Tensor:
    """(b, count, tokens) after images (b, i, tokens), in one context; what a layout puts between is known."""
    starts = [_start(layout, images.shape[1] + new) for new in range(count)]
    blank = images.new_zeros(len(images), count - 1, layout.tokens)
    known = layout.prompt(torch.cat([images, blank], dim=1))[:, starts[0] :]
    known = F.pad(known, (0, layout.tokens))  # (b, all that is new)
    drawn = torch.zeros(known.shape[1], dtype=torch.bool, device=known.device)
    for start in starts:
        drawn[start - starts[0] :][: layout.tokens] = True
    known = known.masked_fill(drawn, -1)
    places = torch.where(drawn[:, None], allowed, True)  # (all that is new, v)
    prompt = layout.prompt(images)
    ids = generate(gpt, prompt, len(drawn), sampling, generator, places, known=None if drawn.all() else known)
    return rearrange(ids[:, drawn], "b (i t) -> b i t", i=count)


def _start(layout: Layout, images: int) -> int:
    """Place of the first token of an image that so many images precede."""
    return layout.prompt(torch.zeros(1, images, layout.tokens, dtype=torch.long)).shape[1]


@torch.inference_mode()
def answer_nats(gpt: GPT, layout: Layout, images: Tensor) -> Tensor:
    """(b, tokens) nats of every token of the last image of sentences (b, i, tokens), given all before."""
    ids = torch.cat([layout.prompt(images[:, :-1]), images[:, -1, :-1]], dim=1)
    last = torch.zeros_like(ids, dtype=torch.bool)
    last[:, -layout.tokens :] = True
    logits = gpt(ids, where=last)
    nats = F.cross_entropy(logits, images[:, -1].flatten(), reduction="none")
    return nats.view(len(images), layout.tokens)


@torch.inference_mode()
def nats_and_answers(gpt: GPT, layout: Layout, images: Tensor) -> tuple[Tensor, Tensor]:
    """What `answer_nats` and greedy `answers` give, reading each prompt once for both.

    Args:
        gpt: In evaluation mode.
        layout: Its ids.
        images: (b, i, tokens) codes of pairs, a query, and the true answer, hidden from the greedy one.

    Returns:
        Nats (b, tokens) of the true answer, and ids (b, tokens) of the greedy one.
    """
    prompt, truth = layout.prompt(images[:, :-1]), images[:, -1]
    cache = KVCache(gpt.config, len(images), length=prompt.shape[1] + layout.tokens - 1)
    first = gpt.features(prompt, cache)[:, -1:]
    features = torch.cat([first, gpt.features(truth[:, :-1].contiguous(), cache)], dim=1)  # (b, tokens, d)
    nats = F.cross_entropy(gpt.head(features).float().transpose(1, 2), truth, reduction="none")
    cache.rewind(prompt.shape[1])
    drawn, allowed = torch.empty_like(truth), layout.drawable.to(truth.device)
    for place in range(layout.tokens):
        last = gpt.features(drawn[:, place - 1 : place], cache) if place else first
        drawn[:, place] = draw(gpt.head(last[:, 0]), Sampling(temperature=0.0), allowed=allowed)
    return nats, drawn
