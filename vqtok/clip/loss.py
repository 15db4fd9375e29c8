"""InfoNCE: which caption of the batch belongs to an image, and which image to a caption.

Radford et al. 2021, figure 3, after van den Oord et al. 2018. There is one difference: captions of a batch
that are equal are all right answers, since what fits one fits the others, and short captions repeat often.
Where equal captions have equal vectors, the paper's single answer gives the same loss and gradient. Where
dropout gives them different ones, it would teach the text tower to tell equal captions apart by noise.

Letters: b pairs of this process, n of all processes, d width.
"""

import torch
import torch.distributed as distributed
import torch.nn.functional as F
from torch import Tensor


def contrastive_loss(images: Tensor, texts: Tensor, scale: Tensor | float, captions: Tensor) -> Tensor:
    """Mean of both directions' cross entropies, () in nats.

    Args:
        images: (n, d) of length 1.
        texts: (n, d) of length 1, in the order of `images`.
        scale: () what cosines are multiplied with, the inverse of the temperature.
        captions: (n,) whole numbers, equal where captions are; each of them shares its weight among all
            that are equal.

    Raises:
        ValueError: if shapes disagree.
    """
    if images.ndim != 2 or images.shape != texts.shape or captions.shape != images.shape[:1]:
        shapes = ", ".join(str(tuple(tensor.shape)) for tensor in (images, texts, captions))
        raise ValueError(f"images, texts and captions have shapes {shapes}: give (n, d), (n, d) and (n,)")
    logits = scale * images.float() @ texts.float().T  # (n, n)
    equal = (captions[:, None] == captions).float()
    answers = equal / equal.sum(1, keepdim=True)
    return (F.cross_entropy(logits, answers) + F.cross_entropy(logits.T, answers)) / 2


def gathered(vectors: Tensor) -> Tensor:
    """(n, d) of all processes, in their order, from (b, d) of each; all have as many.

    The gradient reaches a process's own vectors only, as many times as there are processes. Data parallelism
    takes the mean of what processes found, so parameters get the gradient of one process with all pairs. That
    holds where every process computes the same loss of what was gathered.
    """
    if not (distributed.is_available() and distributed.is_initialized()):
        return vectors
    world, rank = distributed.get_world_size(), distributed.get_rank()
    parts = [torch.empty_like(vectors) for _ in range(world)]
    distributed.all_gather(parts, vectors.detach().contiguous())
    if vectors.is_floating_point():
        parts[rank] = vectors.detach() + world * (vectors - vectors.detach())
    return torch.cat(parts)
