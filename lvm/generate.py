"""Answers: the image that follows a prompt of whole images, and what an answer costs in nats.

Letters: b prompts, i images, t tokens, v vocabulary.
"""

import torch
import torch.nn.functional as F
from torch import Tensor

from lvm.layout import Layout
from vqtok.gpt.cache import KVCache
from vqtok.gpt.generation import generate
from vqtok.gpt.model import GPT
from vqtok.gpt.sampling import Sampling, draw


def answers(
    gpt: GPT,
    layout: Layout,
    images: Tensor,
    sampling: Sampling,
    generator: torch.Generator | None = None,
    candidates: int = 1,
) -> Tensor:
    """(b candidates, tokens) ids of the image that follows each prompt; only codes are drawn.

    Args:
        gpt: The transformer.
        layout: Its ids.
        images: (b, i, tokens) codes of pairs and a query; answers to one prompt stand one after the other.
        sampling: How tokens are drawn.
        generator: Of the draws; greedy needs none.
        candidates: Answers to each prompt; the prompt is read once for all.
    """
    prompt = layout.prompt(images)
    allowed = layout.drawable.to(prompt.device)
    return generate(gpt, prompt, layout.tokens, sampling, generator, allowed, candidates)


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
