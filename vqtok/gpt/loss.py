"""The loss of a transformer that predicts the next token.

Letters: ... any shape, v vocabulary, d width, r rows.
"""

from collections.abc import Callable

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from vqtok.gpt.model import GPT


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
    _check(logits.shape, "logits", ids, weights)
    if weights is None:
        return F.cross_entropy(logits.float().flatten(0, -2), ids.flatten())
    losses = F.cross_entropy(logits.float().flatten(0, -2), ids.flatten(), reduction="none")
    weights = weights.flatten().float()
    return (losses * weights).sum() / weights.sum()


def chunked_loss(
    features: Tensor,
    score: Callable[..., Tensor],
    ids: Tensor,
    weights: Tensor | None = None,
    places: Tensor | None = None,
    rows: int = 1024,
) -> Tensor:
    """As `next_token_loss(score(features), ids, weights)`, without ever holding all scores.

    They are computed `rows` positions at a time, and once more for the backward: a third more work in the
    head, for memory of rows x v instead of positions x v numbers, several times over.

    Args:
        features: (..., d) what `score` turns into scores.
        score: (r, d) to (r, v), such as a model's `head`; given (r,) places too if there are any.
        ids: (...) int64 in [0, v).
        weights: (...) >= 0, not all zero; 0 leaves a token out. None weighs all alike.
        places: (...) where the features stand in the stream, for a `score` that asks.
        rows: Positions at a time.

    Raises:
        ValueError: as `next_token_loss`.
    """
    _check(features.shape, "features", ids, weights)
    weights = torch.ones_like(ids, dtype=torch.float32) if weights is None else weights.float()
    told = [tensor.flatten() for tensor in ((ids, weights) if places is None else (ids, weights, places))]
    total = features.new_zeros((), dtype=torch.float32)
    for chunk in zip(features.flatten(0, -2).split(rows), *(part.split(rows) for part in told), strict=True):
        total = total + checkpoint(_nats, score, *chunk, use_reentrant=False)
    return total / weights.sum()


class NextTokenObjective(nn.Module):
    """A transformer and the loss of what it predicts, for trainers whose vocabulary is too large for scores.

    It is a module of its own because a wrapped model, as for several processes, is called through `forward`.
    """

    def __init__(self, gpt: GPT, rows: int = 1024) -> None:
        super().__init__()
        self.gpt, self.rows = gpt, rows

    def forward(
        self,
        ids: Tensor,
        targets: Tensor,
        weights: Tensor | None = None,
        prefix: Tensor | None = None,
        documents: Tensor | None = None,
    ) -> Tensor:
        """Weighted mean of -log p(target), in nats per token.

        Args:
            ids: (b, t), what the model sees.
            targets: (b, rows) int64 in [0, v), what its scores are compared with; with a prefix there is one
                row more than ids.
            weights: (b, rows) >= 0, not all zero; None weighs all alike.
            prefix: As `GPT.forward` takes it.
            documents: As `GPT.forward` takes it.
        """
        x, places = self.gpt.stream(ids, prefix=prefix, documents=documents)
        return chunked_loss(x, self.gpt.score, targets, weights, places.expand(targets.shape), self.rows)


def _nats(score: Callable[..., Tensor], x: Tensor, ids: Tensor, weights: Tensor, *places: Tensor) -> Tensor:
    """Sum of weighted losses of one chunk."""
    losses = F.cross_entropy(score(x, *places).float(), ids, reduction="none")
    return (losses * weights).sum()


def _check(shape: torch.Size, name: str, ids: Tensor, weights: Tensor | None) -> None:
    for other, tensor in (("ids", ids), ("weights", weights)):
        if tensor is not None and tensor.shape != shape[:-1]:
            raise ValueError(
                f"{other} of shape {tuple(tensor.shape)} do not match {name} of shape {tuple(shape)}: "
                f"give {tuple(shape[:-1])}"
            )
    if weights is not None and weights.device.type == "cpu" and (weights.sum() <= 0 or weights.min() < 0):
        low, high = weights.aminmax()
        raise ValueError(f"weights run from {low:g} to {high:g}: give none below 0, and some above")
