"""What is trained: a transformer and, for fine-tuning, a linear classifier of its mean features.

Letters: b pictures, t tokens of a picture, v codes, d width, c classes, n hidden tokens of a batch.

Source: Chen et al. 2020, ImageGPT, section 2: both objectives, and fine-tuning from the last norm's mean.
"""

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from vqtok.gpt.config import GPTConfig
from vqtok.gpt.loss import next_token_loss
from vqtok.gpt.model import GPT, HIDDEN
from vqtok.gpt.prefix import ClassesConfig


@dataclass(frozen=True, kw_only=True)
class ObjectiveConfig:
    """What is learned.

    Args:
        hidden: Share of the tokens of a picture that are hidden from a model that sees both sides; another
            one ignores it. 0.15 is the paper's; None draws a share from 0 to 1 for each picture, as MaskGIT
            (Chang et al. 2022) does, for a model that shall fill large holes.
        ids: What the loss of ids counts.
        classes: What the loss of classes counts; above 0 there is a classifier.
    """

    hidden: float | None = 0.15
    ids: float = 1.0
    classes: float = 0.0

    def __post_init__(self) -> None:
        if self.hidden is not None and not 0 < self.hidden < 1:
            raise ValueError(f"objective.hidden {self.hidden} is a share between 0 and 1: 0.15 is usual")
        if self.ids < 0 or self.classes < 0 or not self.ids + self.classes:
            raise ValueError(
                f"objective.ids {self.ids} and objective.classes {self.classes} are weights: give none below "
                "0, and one above"
            )

    @property
    def weights(self) -> dict[str, float]:
        """What each of `losses` counts."""
        return {"ids": self.ids, "classes": self.classes}


class Network(nn.Module):
    """Scores of ids, and of classes where there is a classifier.

    Args:
        gpt: The transformer.
        classifier: From its width to the classes, if there is one.
    """

    def __init__(self, gpt: GPT, classifier: nn.Linear | None = None) -> None:
        super().__init__()
        self.gpt, self.classifier = gpt, classifier

    def forward(
        self, ids: Tensor, labels: Tensor | None = None, hidden: Tensor | None = None
    ) -> tuple[Tensor, Tensor | None]:
        """Scores (b, t, v) of every token given those before it, or (n, v) of the hidden ones given the rest.

        Args:
            ids: (b, t) whole pictures.
            labels: (b,) classes; only a model whose prefix is a class reads them, and it needs them.
            hidden: (b, t) bool, for a model that sees both sides, and for no other.

        Returns:
            The scores, and those of the classes (b, c) or None.
        """
        x = self.features(ids, labels, hidden)
        scores = self.gpt.head(x if hidden is None else x[hidden]).float()
        return scores, None if self.classifier is None else self.classifier(x.mean(1)).float()

    def features(self, ids: Tensor, labels: Tensor | None = None, hidden: Tensor | None = None) -> Tensor:
        """The normed stream (b, t, d) in the place that says token t; arguments as `forward`."""
        if not self.gpt.config.causal:
            return self.gpt.features(ids if hidden is None else ids.masked_fill(hidden, HIDDEN))
        prefix = labels if isinstance(self.gpt.config.prefix, ClassesConfig) else None
        return self.gpt.features(ids[:, :-1], prefix=prefix)


def classifier_for(gpt: GPTConfig, classes: int) -> nn.Linear:
    """A linear classifier of a transformer's features, which at first finds all classes equally likely."""
    classifier = nn.Linear(gpt.width, classes, bias=False)
    nn.init.zeros_(classifier.weight)
    return classifier


def hide(ids: Tensor, share: float | None, generator: torch.Generator | None = None) -> Tensor:
    """Which of ids (b, t) are hidden, bool, each by itself, but at least one of every picture.

    Args:
        ids: Of any content.
        share: Of the tokens; None draws one from 0 to 1 for every picture.
        generator: Of the draws, on the ids' device; torch's own if left out.
    """
    darts = torch.rand(ids.shape, generator=generator, device=ids.device)
    if share is None:
        share = torch.rand(len(ids), 1, generator=generator, device=ids.device)
    lowest = darts == darts.amin(1, keepdim=True)
    return (darts < share) | lowest


def losses(
    scores: Tensor, ids: Tensor, hidden: Tensor | None, named: Tensor | None, labels: Tensor | None
) -> dict[str, Tensor]:
    """The losses of what `Network` gave, in nats: of an id, and of a picture's class where that is said.

    Args:
        scores: (b, t, v), or (n, v) of hidden tokens.
        ids: (b, t).
        hidden: (b, t) bool or None; every picture counts alike, however many tokens of it are hidden.
        named: (b, c) scores of classes, or None.
        labels: (b,) classes.
    """
    if hidden is None:
        found = {"ids": next_token_loss(scores, ids)}
    else:
        weights = (1 / hidden.sum(1, keepdim=True)).expand(ids.shape)
        found = {"ids": next_token_loss(scores, ids[hidden], weights[hidden])}
    return found if named is None else found | {"classes": F.cross_entropy(named, labels)}


def nats(network: Network, ids: Tensor, labels: Tensor | None = None) -> Tensor:
    """(b, t) nats of every token of pictures, given those before it.

    Args:
        network: One that sees the past only, in evaluation mode.
        ids: (b, t).
        labels: (b,) classes where its prefix is a class.
    """
    scores, _ = network(ids, labels)
    return F.cross_entropy(scores.transpose(1, 2), ids, reduction="none")
