"""SimVQ: a frozen random table seen through one learned linear map, which moves all codes at once.

Zhu et al. 2024, "Addressing Representation Collapse in Vector Quantized Models with One Linear Layer": a code
that nobody chooses moves with the map all the same, so none dies. What ids decode to lies *behind* the map.

Letters: b images, d code width, h w grid, k codes.
"""

from dataclasses import dataclass
from typing import Literal

import torch.nn.functional as F
from einops import rearrange
from torch import Tensor, nn

from vqtok.tokenizers.quantizers.gradients import rotated, squared_errors, straight_through
from vqtok.tokenizers.quantizers.quantizer import Codebook, Quantized, Quantizer
from vqtok.tokenizers.quantizers.scores import nearest_ids


@dataclass(frozen=True, kw_only=True)
class SimVQConfig(Codebook):
    """A frozen table and the map it is seen through.

    Args:
        kind: Names this quantizer in recipes.
        beta: Weight of the commitment term, which pulls encoder outputs to their codes.
        rotate: Turn the encoder's gradient with the vector (rotation trick) instead of passing it straight
            on.
    """

    kind: Literal["simvq"] = "simvq"
    beta: float = 0.25
    rotate: bool = False


class SimVQ(Quantizer):
    """Nearest-code quantizer whose codes are the rows of a frozen table behind a learned linear map.

    The tensors have the names of the authors' implementation.
    """

    def __init__(self, config: SimVQConfig) -> None:
        super().__init__(config)
        self.embedding = nn.Embedding(config.codes, config.width)
        nn.init.normal_(self.embedding.weight, std=config.width**-0.5)
        self.embedding.requires_grad_(False)
        self.embedding_proj = nn.Linear(config.width, config.width)

    def codebook(self) -> Tensor:
        """(k, d) the vectors that ids stand for."""
        return self._map(self.embedding.weight)

    def _map(self, rows: Tensor) -> Tensor:
        return F.linear(rows.float(), self.embedding_proj.weight.float(), self.embedding_proj.bias.float())

    def _quantize(self, vectors: Tensor) -> Quantized:
        ids = self._encode(vectors)
        codes = self._decode(ids)
        loss, terms = squared_errors(vectors, codes, self.config.beta)
        through = rotated if self.config.rotate else straight_through
        return Quantized(through(vectors, codes), ids, loss, terms)

    def _encode(self, vectors: Tensor) -> Tensor:
        return nearest_ids(vectors, self.codebook().detach())

    def _decode(self, ids: Tensor) -> Tensor:
        """Only the rows in use are mapped, so only they cost anything on the way back."""
        return rearrange(self._map(F.embedding(ids, self.embedding.weight)), "b h w d -> b d h w")
