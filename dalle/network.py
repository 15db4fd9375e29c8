"""What is trained: a transformer with one head for text and one for pictures, and the two losses.

Both heads are parts of one matrix. Each is read only where its ids may stand: the same losses as from
`GPT.forward`, where what may not stand has score -inf, for less work and memory.

Letters: b rows, n places of text, t tokens of a picture, w ids of text with paddings, c codes.

Source: Ramesh et al. 2021 (DALL-E), section 2.2: 1/8 of the loss is text's mean, 7/8 that of pictures.
"""

from dataclasses import dataclass

import torch.nn.functional as F
from torch import Tensor, nn

from dalle.layout import Layout
from vqtok.gpt.loss import next_token_loss
from vqtok.gpt.model import GPT


@dataclass(frozen=True, kw_only=True)
class ObjectiveConfig:
    """What the losses count.

    Args:
        text: Weight of the mean loss of text.
        image: Weight of the mean loss of a picture's tokens.
        padding: Whether every place of text counts, padding too. Padding is a token in DALL-E, and so we read
            its mean over text tokens as one over all places, which the paper does not spell out. False counts
            words and the padding that ends them, and every caption alike.
    """

    text: float = 1 / 8
    image: float = 7 / 8
    padding: bool = True

    def __post_init__(self) -> None:
        if self.text < 0 or self.image < 0 or not self.text + self.image:
            raise ValueError(
                f"objective.text {self.text} and objective.image {self.image} are weights: give none below "
                "0, and one above"
            )

    @property
    def weights(self) -> dict[str, float]:
        """What each of `losses` counts."""
        return {"text": self.text, "image": self.image}


class Network(nn.Module):
    """Scores of words and of codes.

    Args:
        gpt: The transformer; its shape was checked by the layout.
        layout: What its ids are.
    """

    def __init__(self, gpt: GPT, layout: Layout) -> None:
        super().__init__()
        self.gpt, self.layout = gpt, layout

    def forward(self, ids: Tensor) -> tuple[Tensor, Tensor]:
        """Scores of text (b, n, w) and of codes (b, t, c), float32, of each given all before it.

        Args:
            ids: (b, n + t) of whole rows.
        """
        x = self.gpt.features(ids[:, :-1])
        places, first = self.layout.places, self.layout.first_code
        words, codes = self.gpt.head.weight.split([first, self.layout.codes])
        return F.linear(x[:, :places], words).float(), F.linear(x[:, places:], codes).float()


def losses(
    scores: tuple[Tensor, Tensor], ids: Tensor, layout: Layout, padding: bool = True
) -> dict[str, Tensor]:
    """The losses `text` and `image` in nats per token, each normalized by its own count.

    Args:
        scores: What `Network` gave.
        ids: (b, n + t).
        layout: What ids are.
        padding: As in `ObjectiveConfig`.
    """
    text, image = _split(ids, layout)
    weights = None if padding else _even(_spoken(text, layout))
    return {"text": next_token_loss(scores[0], text, weights), "image": next_token_loss(scores[1], image)}


def nats(network: Network, ids: Tensor) -> tuple[Tensor, Tensor]:
    """Nats of every place of text (b, n), and of every token of the picture (b, t), given all before it.

    Args:
        network: In evaluation mode.
        ids: (b, n + t).
    """
    parts = zip(network(ids), _split(ids, network.layout), strict=True)
    text, image = (F.cross_entropy(s.transpose(1, 2), part, reduction="none") for s, part in parts)
    return text, image


def spoken_mean(found: Tensor, ids: Tensor, layout: Layout) -> Tensor:
    """(b,) mean of numbers (b, n) of text over the words of each caption and the padding that ends them.

    Args:
        found: Nats.
        ids: (b, n + t).
        layout: What ids are.
    """
    return (found * _even(_spoken(_split(ids, layout)[0], layout))).sum(1)


def _split(ids: Tensor, layout: Layout) -> tuple[Tensor, Tensor]:
    """Targets of both heads: text (b, n), and codes (b, t) counted from 0."""
    return ids[:, : layout.places], ids[:, layout.places :] - layout.first_code


def _spoken(text: Tensor, layout: Layout) -> Tensor:
    """(b, n) bool: words, and the padding behind them, which says that they end."""
    worded = layout.worded(text)
    return worded | F.pad(worded[:, :-1], (1, 0), value=True)


def _even(counted: Tensor) -> Tensor:
    """Weights (b, n) that are alike within a row and sum to 1 in every row."""
    return counted / counted.sum(1, keepdim=True)
