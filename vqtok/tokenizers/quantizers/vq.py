"""Vector quantization: continuous vectors <-> ids of the nearest code in a learned codebook.

van den Oord et al. 2017 (VQ-VAE), equations 1-3, and appendix A.1 for codes that are running means;
l2-normalized codes of low width as Yu et al. 2022 (ViT-VQGAN); codes that nobody chooses start again from
encoder outputs, as Dhariwal et al. 2020 (Jukebox) do.

Letters: b images, d code width, h w grid of codes (i j in ids), k codes, n = b h w vectors.
"""

from dataclasses import dataclass

import torch
import torch.distributed as distributed
import torch.nn.functional as F
from einops import rearrange
from torch import Tensor, nn

from vqtok.tokenizers.lookup import nearest_code


@dataclass(frozen=True, kw_only=True)
class VQConfig:
    """Shape and training of a codebook.

    Args:
        codes: Ids run from 0 to codes - 1.
        width: Channels of one code.
        normalize: Compare directions only: vectors and codes are brought to length one.
        beta: Weight of the commitment term, which pulls encoder outputs to their codes (0.25 in the paper).
        means: Codes are running means of the vectors that choose them, which fit a young encoder much sooner
            than codes learned by gradient.
        memory: Share of the running counts and means that stays at a step; 0.98 looks back about 50 steps.
        restart_below: A code chosen less often than this share of the average code starts again from an
            encoder output.
    """

    codes: int
    width: int
    normalize: bool = True
    beta: float = 0.25
    means: bool = False
    memory: float = 0.98
    restart_below: float = 0.03

    def __post_init__(self) -> None:
        if self.codes < 2 or self.width < 1:
            raise ValueError(
                f"a codebook of {self.codes} codes of width {self.width}: need codes >= 2 and width >= 1"
            )
        if not 0 <= self.memory < 1:
            raise ValueError(f"memory {self.memory} must lie in [0, 1): 0.98 looks back about 50 steps")


@dataclass(frozen=True)
class Quantized:
    """What a quantizer gives: vectors (b, d, h, w) with straight-through gradient, ids (b, h, w), loss ()."""

    vectors: Tensor
    ids: Tensor
    loss: Tensor


class VectorQuantizer(nn.Module):
    """Nearest-code quantizer; its codebook is trained by gradient, or is the means of what chose it."""

    def __init__(self, config: VQConfig) -> None:
        super().__init__()
        self.config = config
        self.embedding = nn.Embedding(config.codes, config.width)
        nn.init.normal_(self.embedding.weight)
        self.embedding.requires_grad_(not config.means)
        # Running count of choices a step, in units of the mean: 1 = chosen as often as the average code. It
        # starts at zero, so that the first training step already moves all codes to where the encoder's
        # outputs are. It is state of training, kept by checkpoints; published tokenizers have no such tensor.
        self.register_buffer("usage", torch.zeros(config.codes))

    def codebook(self) -> Tensor:
        """(k, d) the vectors that ids stand for."""
        weight = self.embedding.weight.float()
        return F.normalize(weight, dim=1) if self.config.normalize else weight

    def forward(self, vectors: Tensor) -> Quantized:
        """Replace (b, d, h, w) vectors by their nearest codes.

        The loss is equation 3 without its first term: codebook + beta * commitment, as means over vectors and
        channels, of the normalized vectors where the config asks for that; without the codebook's part where
        codes are means.
        """
        with torch.autocast(vectors.device.type, enabled=False):
            vectors = self._prepare(vectors.float())
            ids = self.encode_prepared(vectors)
            codes = rearrange(F.embedding(ids, self.codebook()), "b h w d -> b d h w")
            loss = self.config.beta * F.mse_loss(vectors, codes.detach())
            if not self.config.means:
                loss = loss + F.mse_loss(codes, vectors.detach())
            through = vectors + (codes - vectors).detach()
        return Quantized(through, ids, loss)

    def encode(self, vectors: Tensor) -> Tensor:
        """(b, h, w) int64 ids of (b, d, h, w) vectors."""
        return self.encode_prepared(self._prepare(vectors.float()))

    def encode_prepared(self, vectors: Tensor) -> Tensor:
        """As `encode`, for float32 vectors that are already normalized where the config asks for it."""
        height, width = vectors.shape[-2:]
        flat = rearrange(vectors, "b d h w -> (b h w) d")
        return rearrange(nearest_code(flat, self.codebook()), "(b h w) -> b h w", h=height, w=width)

    def decode(self, ids: Tensor) -> Tensor:
        """(b, d, h, w) vectors of (b, h, w) ids."""
        return rearrange(F.embedding(ids, self.codebook()), "b h w d -> b d h w")

    def _prepare(self, vectors: Tensor) -> Tensor:
        return F.normalize(vectors, dim=1) if self.config.normalize else vectors

    @torch.no_grad()
    def learn(self, vectors: Tensor, ids: Tensor, restart: bool = True) -> int:
        """Count the choices of one training step, move codes that are means, restart those out of use.

        Identical on every rank: counts and sums are those of all ranks, new codes come from rank 0. Leave out
        steps whose loss is not finite, or their vectors become codes.

        Args:
            vectors: (b, d, h, w) encoder outputs of this step.
            ids: (b, h, w) what they were quantized to.
            restart: Whether codes out of use start again.

        Returns:
            How many codes started again.
        """
        flat = rearrange(self._prepare(vectors.float()), "b d h w -> (b h w) d")
        counts = torch.bincount(ids.flatten(), minlength=self.config.codes).float()
        _sum_over_ranks(counts)
        share = (1 - self.config.memory) / counts.mean()
        self.usage.mul_(self.config.memory).add_(counts * share)
        if self.config.means:
            self._move(flat, ids.flatten(), counts, share)
        unused = torch.nonzero(self.usage < self.config.restart_below).flatten()
        if not restart or not len(unused):
            return 0
        fresh = flat[torch.randint(len(flat), (len(unused),), device=flat.device)]
        if _together():
            distributed.broadcast(fresh, src=0)
        self.embedding.weight[unused] = fresh.to(self.embedding.weight.dtype)
        self.usage[unused] = 1.0  # a full memory's time to be chosen before it is judged again
        return len(unused)

    def _move(self, flat: Tensor, ids: Tensor, counts: Tensor, share: Tensor) -> None:
        """Appendix A.1, equations 6-8, with the sums m written as N e: e += share (sum - count e) / N."""
        sums = torch.zeros_like(self.embedding.weight).index_add_(0, ids, flat)
        _sum_over_ranks(sums)
        chosen = counts > 0
        code = self.embedding.weight[chosen]
        gap = sums[chosen] - counts[chosen, None] * code
        self.embedding.weight[chosen] = code + share * gap / self.usage[chosen, None]


def _together() -> bool:
    return distributed.is_available() and distributed.is_initialized()


def _sum_over_ranks(tensor: Tensor) -> None:
    if _together():
        distributed.all_reduce(tensor)
