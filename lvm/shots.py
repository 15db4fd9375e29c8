"""What examples are worth: nats of answers by the number of rows before them, and a sheet to look at.

Letters: b sentences, k images asked for, i images, t tokens of an image, v vocabulary; j codes in a row.
"""

import math
from collections.abc import Sequence

import torch
import torch.nn.functional as F
from einops import rearrange
from torch import Tensor

from lvm.data import Kept
from lvm.generate import answers
from lvm.layout import Layout
from vqtok.gpt.model import GPT
from vqtok.gpt.sampling import Sampling
from vqtok.tokenizers.tokenizer import VQTokenizer


@torch.inference_mode()
def nats_of(gpt: GPT, layout: Layout, sentences: Tensor, asked: Sequence[bool], batch: int = 16) -> Tensor:
    """(b, k, t) nats of every token of the images asked for, each given all before it.

    Of pairs, the k-th answer has k - 1 pairs before it.

    Args:
        gpt: In evaluation mode.
        layout: Its ids.
        sentences: (b, i, t) codes.
        asked: (i,) which images.
        batch: Sentences at once.
    """
    end = layout.lead + len(asked) * layout.stride  # neither EOS nor another NEXT
    counted = layout.weights(asked, query=0.0)[1:end] > 0
    found = []
    for part in sentences.to(gpt.embed.weight.device).split(batch):
        ids = layout.prompt(part)[:, :end]
        where = counted.expand(len(part), -1).to(ids.device)
        nats = F.cross_entropy(gpt(ids[:, :-1], where=where), ids[:, 1:][where], reduction="none")
        if len(nats) < len(part) * sum(asked) * layout.tokens:  # a bare sentence's first code is no target
            nats = F.pad(rearrange(nats, "(b n) -> b n", b=len(part)), (1, 0)).flatten()
        found.append(rearrange(nats, "(b k t) -> b k t", b=len(part), t=layout.tokens))
    return torch.cat(found).cpu()


def validation_losses(
    gpt: GPT, layout: Layout, kept: dict[str, Kept], told: bool = False
) -> dict[str, float]:
    """Nats per token of held-out answers: of pairs by shots and of their first row, and by task.

    Args:
        gpt: In evaluation mode.
        layout: Its ids.
        kept: Task -> sentences; by task it is the last answer of pairs that counts, of other rows all of
            what is asked for.
        told: Whether sentences begin with the id of their task, where it has one.
    """
    by_task = {name: nats_of(gpt, _telling(layout, name, told), held.images, held.asked.tolist())
               for name, held in kept.items()}
    pairs = [by_task[name] for name, held in kept.items() if held.pairs]
    means = [nats.mean() for nats in pairs or by_task.values()]
    found = {"validation/loss": float(torch.stack(means).mean())}
    if pairs:
        row = math.isqrt(layout.tokens)
        # (k,), each task counting alike
        every = torch.stack([nats.mean((0, 2)) for nats in pairs]).mean(0)
        first = torch.stack([nats[..., :row].mean((0, 2)) for nats in pairs]).mean(0)
        found |= {f"validation/{name}/{k}_shots": float(nats[k])
                  for name, nats in (("answer", every), ("first_row", first)) for k in range(len(nats))}
    last = {name: float((nats[:, -1] if kept[name].pairs else nats).mean()) for name, nats in by_task.items()}
    losses = {f"validation/task/{name}": nats for name, nats in last.items()}
    return found | losses | {f"validation/perplexity/{name}": math.exp(nats) for name, nats in last.items()}


def answer_sheet(
    gpt: GPT, tokenizer: VQTokenizer, layout: Layout, kept: dict[str, Kept], told: bool = False
) -> Tensor:
    """(3, H, W), a line for every task: one held-out sentence, its last image as answered, and as it is.

    All as the tokenizer decodes them, so that only the transformer's part in an error is seen. Prompts may be
    `told` their task, as in `validation_losses`.
    """
    device = next(tokenizer.parameters()).device
    longest = max(held.images.shape[1] for held in kept.values()) + 1
    lines = []
    for name, held in kept.items():
        sentence = held.images[0]  # (i, t)
        prompt = sentence[None, :-1].to(gpt.embed.weight.device)
        if prompt.shape[1] or layout.lead:
            found = answers(gpt, _telling(layout, name, told), prompt, Sampling(temperature=0.0)).cpu()
            sentence = torch.cat([sentence[:-1], found, sentence[-1:]])
        grids = rearrange(sentence, "i (r j) -> i r j", j=math.isqrt(layout.tokens))
        images = tokenizer.decode(grids.to(device)).cpu()
        blank = images.new_ones(longest - len(images), *images.shape[1:])
        lines.append(rearrange(torch.cat([images, blank]), "i c h w -> c h (i w)"))
    return torch.cat(lines, dim=1)


def _telling(layout: Layout, task: str, told: bool) -> Layout:
    """The layout that says the task, if it shall and there is an id."""
    return layout.telling(task) if told and task in layout.tasks else layout
