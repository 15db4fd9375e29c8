"""What continuations cost in nats, each prompt being read once for all that continue it.

Letters: p prompts, b continuations, t prompt tokens, v vocabulary.
"""

import torch
import torch.nn.functional as F
from torch import Tensor

from vqtok.gpt.cache import KVCache, SharedKVCache
from vqtok.gpt.generation import drawing
from vqtok.gpt.model import GPT, check_ids
from vqtok.gpt.prompts import Prompt, check_prompt


def continuation_nats(gpt: GPT, prompt: Prompt | Tensor, tokens: Tensor) -> Tensor:
    """(b, count) nats, minus log-probabilities, of every token given the prompt and those before it.

    They are the model's own: of all ids, at temperature 1, without guidance or votes.

    Args:
        gpt: Its dropout is off meanwhile, in whatever mode it is.
        prompt: What comes before, p prompts; ids (p, t) alone will do. Its null is not read.
        tokens: (b, count) ids; b is a multiple of p, and continuations of one prompt stand together, as
            `generate` gives them.

    Raises:
        ValueError: if an id is outside the vocabulary, tokens do not fit, prompts vote, or continuations are
            no whole number a prompt.
    """
    prompt = prompt if isinstance(prompt, Prompt) else Prompt(ids=prompt)
    check_ids(tokens, gpt.config.vocab)
    check_prompt(gpt, prompt, tokens.shape[1])
    if prompt.votes > 1:
        raise ValueError(f"{prompt.votes} votes have no likelihood of their own: give one prompt of them")
    times, rest = divmod(len(tokens), len(prompt.ids))
    if rest or not times:
        raise ValueError(
            f"{len(tokens)} continuations of {len(prompt.ids)} prompts: give as many for each, one or more"
        )
    with drawing(gpt, 1) as gpt, torch.inference_mode():  # one pass, for which no copy pays
        cache = KVCache(gpt.config, len(prompt.ids), gpt.config.prefix_places + prompt.ids.shape[1])
        x, places = gpt.stream(prompt.ids, cache, prompt.prefix)
        logits = gpt.score(x[:, -1:], places[-1:]).repeat_interleave(times, dim=0)  # (b, 1, v)
        if tokens.shape[1] > 1:
            shared = SharedKVCache(cache, times, cache.filled + tokens.shape[1] - 1)
            logits = torch.cat((logits, gpt(tokens[:, :-1].contiguous(), shared)), dim=1)
    return F.cross_entropy(logits.transpose(1, 2), tokens, reduction="none")
