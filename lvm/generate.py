"""Answers: the image that follows a prompt of whole images, and what an answer costs in nats.

Letters: b prompts, i images, t tokens, v vocabulary.
"""

import torch
import torch.nn.functional as F
from torch import Tensor

from vqtok.gpt.model import GPT
from vqtok.gpt.sampling import Sampling, generate

from lvm.layout import Layout


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
    """(b, tokens) nats of every token of the last image of each sentence (b, i, tokens), given all before it."""
    ids = layout.prompt(images)
    last = torch.zeros_like(ids[:, :-1], dtype=torch.bool)
    last[:, -layout.tokens :] = True
    logits = gpt(ids[:, :-1], where=last)
    nats = F.cross_entropy(logits, images[:, -1].flatten(), reduction="none")
    return nats.view(len(images), layout.tokens)
