"""What examples are worth: nats of answers by the number of pairs before them, and a sheet to look at.

Letters: b sentences, k pairs, i = 2 k images, t tokens of an image, v vocabulary; j codes in a row.
"""

import math

import torch
import torch.nn.functional as F
from einops import rearrange
from torch import Tensor

from lvm.generate import answers
from lvm.layout import Layout
from vqtok.gpt.model import GPT
from vqtok.gpt.sampling import Sampling
from vqtok.tokenizers.tokenizer import VQTokenizer


@torch.inference_mode()
def nats_by_shots(gpt: GPT, layout: Layout, sentences: Tensor, batch: int = 16) -> Tensor:
    """(b, k, t) nats of every token of the k-th answer, which has k - 1 pairs before it.

    Args:
        gpt: In evaluation mode.
        layout: Its ids.
        sentences: (b, 2 k, t) codes of pairs, answers at odd places.
        batch: Sentences at once.
    """
    found = []
    for part in sentences.to(gpt.embed.weight.device).split(batch):
        ids = layout.prompt(part)
        counted = layout.weights(part.shape[1], query=0.0)[: ids.shape[1] - 1].bool()  # not an EOS
        where = counted.expand(len(part), -1).to(ids.device)
        nats = F.cross_entropy(gpt(ids[:, :-1], where=where), ids[:, 1:][where], reduction="none")
        found.append(rearrange(nats, "(b k t) -> b k t", b=len(part), t=layout.tokens))
    return torch.cat(found).cpu()


def validation_losses(gpt: GPT, layout: Layout, kept: dict[str, Tensor]) -> dict[str, float]:
    """Nats per token of held-out answers: over all tasks, by shots, of the first row, and by task.

    Args:
        gpt: In evaluation mode.
        layout: Its ids.
        kept: Task -> (b, 2 k, t) codes; by task it is the k-th answer that counts.
    """
    by_task = {name: nats_by_shots(gpt, layout, sentences) for name, sentences in kept.items()}
    row = math.isqrt(layout.tokens)
    # (k,), each task counting alike
    every = torch.stack([nats.mean((0, 2)) for nats in by_task.values()]).mean(0)
    first = torch.stack([nats[..., :row].mean((0, 2)) for nats in by_task.values()]).mean(0)
    shots = {f"validation/{name}/{k}_shots": float(nats[k])
             for name, nats in (("answer", every), ("first_row", first)) for k in range(len(nats))}
    tasks = {f"validation/task/{name}": float(nats[:, -1].mean()) for name, nats in by_task.items()}
    return {"validation/loss": float(every.mean())} | shots | tasks


def answer_sheet(gpt: GPT, tokenizer: VQTokenizer, layout: Layout, kept: dict[str, Tensor]) -> Tensor:
    """(3, H, W), a line for every task: pairs of one held-out sentence, its query, the answer, the truth.

    All as the tokenizer decodes them, so that only the transformer's part in an error is seen.
    """
    sentences = torch.stack([sentences[0] for sentences in kept.values()])  # (b, i, t)
    prompts = sentences[:, :-1].to(gpt.embed.weight.device)
    found = answers(gpt, layout, prompts, Sampling(temperature=0.0)).cpu()
    lines = torch.cat([sentences[:, :-1], found[:, None], sentences[:, -1:]], dim=1)
    grids = rearrange(lines, "b i (r j) -> (b i) r j", j=math.isqrt(layout.tokens))
    device = next(tokenizer.parameters()).device
    images = torch.cat([tokenizer.decode(part.to(device)).cpu() for part in grids.split(64)])
    return rearrange(images, "(b i) c h w -> c (b h) (i w)", b=len(lines))
