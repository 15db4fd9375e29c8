"""Index backpropagation quantization: the gradient goes through the softmax over all codes, so all learn.

Shi et al. 2024, "Scalable Image Tokenization with Index Backpropagation Quantization": the code of the
largest dot product is chosen, and the one-hot choice has the gradient of the softmax. The loss is their
double quantization loss, an error of the vectors reached through the index beside codebook and commitment,
and the entropies of MAGVIT-v2.

Letters: b images, d width, h w grid, n = b h w vectors, r of a chunk, k codes.
"""

from dataclasses import dataclass
from typing import Literal

import torch
import torch.nn.functional as F
from einops import rearrange
from torch import Tensor, nn

from vqtok.tokenizers.quantizers.entropy import entropy
from vqtok.tokenizers.quantizers.gradients import squared_errors
from vqtok.tokenizers.quantizers.quantizer import Codebook, Quantized, Quantizer
from vqtok.tokenizers.quantizers.ranks import mean_over_ranks
from vqtok.tokenizers.quantizers.scores import best_ids, by_chunks, rows, through_weights


@dataclass(frozen=True, kw_only=True)
class IBQConfig(Codebook):
    """A codebook that learns through its choices.

    Args:
        kind: Names this quantizer in recipes.
        beta: Weight of the commitment term.
        legacy: Put beta on the codebook's term instead, as the authors' tokenizers were trained.
        entropy: Weight of the entropies, which are in nats.
        diversity: Weight of the entropy of the average distribution, against that of each.
        temperature: Of the distributions in the entropies; the choice itself has temperature 1.
    """

    kind: Literal["ibq"] = "ibq"
    beta: float = 0.25
    legacy: bool = False
    entropy: float = 0.05
    diversity: float = 1.0
    temperature: float = 0.01

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.temperature <= 0:
            raise ValueError(f"temperature {self.temperature} must be above 0: take 0.01")


class IBQ(Quantizer):
    """Chooses the code of the largest dot product; the decoder's gradient comes back through the softmax."""

    def __init__(self, config: IBQConfig) -> None:
        super().__init__(config)
        self.embedding = nn.Embedding(config.codes, config.width)

    def _quantize(self, vectors: Tensor) -> Quantized:
        config, (b, _, h, w) = self.config, vectors.shape
        parts = by_chunks(self._choose, rows(vectors), config.codes)
        chosen, ids, sure, mean = zip(*parts, strict=True)
        ids = rearrange(torch.cat(ids), "(b h w) -> b h w", b=b, h=h)
        through = rearrange(torch.cat(chosen), "(b h w) d -> b d h w", b=b, h=h)
        sure, mean = torch.stack(sure).sum() / (b * h * w), torch.stack(mean).sum(0) / (b * h * w)
        even = entropy(mean_over_ranks(mean) if self.training else mean)
        loss, terms = squared_errors(vectors, self._decode(ids), config.beta, config.legacy)
        loss = loss + F.mse_loss(through, vectors) + config.entropy * (sure - config.diversity * even)
        terms |= {"entropy": sure.detach(), "diversity": even.detach()}
        return Quantized(through, ids, loss, terms)

    def _choose(self, vectors: Tensor) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        """Codes (r, d) and ids (r,), sums () of entropies and (k,) of distributions, of vectors (r, d)."""
        scores = self._scores(vectors)
        ids = scores.argmax(1)
        chosen = through_weights(F.softmax(scores, dim=1), self.embedding.weight.float(), ids)
        q = F.softmax(scores / self.config.temperature, dim=1)
        return chosen, ids, entropy(q), q.sum(0)

    def _scores(self, vectors: Tensor) -> Tensor:
        return vectors @ self.embedding.weight.float().T

    def _encode(self, vectors: Tensor) -> Tensor:
        return best_ids(self._scores, vectors, self.config.codes)

    def _decode(self, ids: Tensor) -> Tensor:
        return rearrange(F.embedding(ids, self.embedding.weight.float()), "b h w d -> b d h w")
