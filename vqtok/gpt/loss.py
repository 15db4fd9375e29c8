"""The loss of a transformer that predicts the next token.

Letters: ... any shape, v vocabulary.
"""

import torch.nn.functional as F
from torch import Tensor


def next_token_loss(logits: Tensor, ids: Tensor, weights: Tensor | None = None) -> Tensor:
    """Weighted mean of -log p(id), in nats per token, computed in float32.

    Args:
        logits: (..., v) scores for `ids`, position by position.
        ids: (...) int64 in [0, v).
        weights: (...) >= 0, not all zero; 0 leaves a token out. None weighs all alike.

    Raises:
        ValueError: if shapes disagree, or a weight is negative or all are zero (looked at on the CPU only: it
            would stall a GPU, where the loss of no tokens is nan).
    """
    for name, other in (("ids", ids), ("weights", weights)):
        if other is not None and other.shape != logits.shape[:-1]:
            raise ValueError(
                f"{name} of shape {tuple(other.shape)} do not match logits of shape {tuple(logits.shape)}: "
                f"give {tuple(logits.shape[:-1])}"
            )
    if weights is None:
        return F.cross_entropy(logits.float().flatten(0, -2), ids.flatten())
    if weights.device.type == "cpu" and (weights.sum() <= 0 or weights.min() < 0):
        low, high = weights.aminmax()
        raise ValueError(f"weights run from {low:g} to {high:g}: give none below 0, and some above")
    losses = F.cross_entropy(logits.float().flatten(0, -2), ids.flatten(), reduction="none")
    weights = weights.flatten().float()
    return (losses * weights).sum() / weights.sum()
