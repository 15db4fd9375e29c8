"""Vector quantization: continuous vectors <-> ids of the nearest code in a learned codebook.

van den Oord et al. 2017 (VQ-VAE), equations 1-3, and appendix A.1 for codes that are running means;
l2-normalized codes of low width as Yu et al. 2022 (ViT-VQGAN); codes that nobody chooses start again from
encoder outputs, as Dhariwal et al. 2020 (Jukebox) do.

Letters: b images, d code width, h w grid of codes (i j in ids), k codes, n = b h w vectors.
"""

from dataclasses import dataclass
from typing import Literal

import torch
import torch.nn.functional as F
from einops import rearrange
from torch import Tensor, nn

from vqtok.tokenizers.lookup import nearest_code
from vqtok.tokenizers.quantizers.gradients import rotated, squared_errors, straight_through
from vqtok.tokenizers.quantizers.kmeans import kmeans
from vqtok.tokenizers.quantizers.quantizer import Quantized, Quantizer
from vqtok.tokenizers.quantizers.ranks import draw_rows, sum_over_ranks


@dataclass(frozen=True, kw_only=True)
class VQConfig:
    """Shape and training of a codebook.

    Args:
        kind: Names this quantizer in recipes.
        codes: Ids run from 0 to codes - 1.
        width: Channels of one code.
        normalize: Compare directions only: vectors and codes are brought to length one.
        beta: Weight of the commitment term, which pulls encoder outputs to their codes (0.25 in the paper).
        legacy: Put beta on the codebook's term instead, as taming's tokenizers were trained.
        means: Codes are running means of the vectors that choose them, which fit a young encoder much sooner
            than codes learned by gradient.
        memory: Share of the running counts and means that stays at a step; 0.98 looks back about 50 steps.
        restart_below: A code chosen less often than this share of the average code starts again from an
            encoder output.
        kmeans: Rounds of k-means on the first step's vectors, where codes start; 0 starts from random codes.
        rotate: Turn the encoder's gradient with the vector (rotation trick) instead of passing it straight
            on.
    """

    kind: Literal["vq"] = "vq"
    codes: int
    width: int
    normalize: bool = True
    beta: float = 0.25
    legacy: bool = False
    means: bool = False
    memory: float = 0.98
    restart_below: float = 0.03
    kmeans: int = 0
    rotate: bool = False

    def __post_init__(self) -> None:
        check_codebook(self.codes, self.width)
        if not 0 <= self.memory < 1:
            raise ValueError(f"memory {self.memory} must lie in [0, 1): 0.98 looks back about 50 steps")
        if self.legacy and self.means:
            raise ValueError("legacy puts beta on the codebook's term, which means lack: drop one of them")

    @property
    def vocab(self) -> int:
        """Ids run from 0 to vocab - 1."""
        return self.codes


def check_codebook(codes: int, width: int) -> None:
    """Raise a ValueError for a codebook that nothing can be chosen from."""
    if codes < 2 or width < 1:
        raise ValueError(f"a codebook of {codes} codes of width {width}: need codes >= 2 and width >= 1")


class VectorQuantizer(Quantizer):
    """Nearest-code quantizer; its codebook is trained by gradient, or is the means of what chose it."""

    def __init__(self, config: VQConfig) -> None:
        super().__init__(config)
        self.embedding = nn.Embedding(config.codes, config.width)
        nn.init.normal_(self.embedding.weight)
        self.embedding.requires_grad_(not config.means)
        # Running count of choices a step, in units of the mean: 1 = chosen as often as the average code. It
        # starts at zero, so that the first training step already moves all codes to where the encoder's
        # outputs are. It is state of training, kept by checkpoints; published tokenizers have no such tensor.
        self.register_buffer("usage", torch.zeros(config.codes))

    def codebook(self) -> Tensor:
        """(k, d) the vectors that ids stand for."""
        return self._prepare(self.embedding.weight.float())

    @property
    def awaits_start(self) -> bool:
        """Whether the next `learn` gives it its first codes by k-means."""
        return self.config.kmeans > 0 and not self.usage.any()

    def _quantize(self, vectors: Tensor) -> Quantized:
        """As means over vectors and channels, of normalized vectors where the config asks for that.

        Where codes are means, the loss has the commitment's part alone.
        """
        config, vectors = self.config, self._prepare(vectors)
        ids = self._nearest(vectors)
        codes = self._decode(ids)
        loss, terms = squared_errors(vectors, codes, config.beta, config.legacy)
        if config.means:
            loss = config.beta * F.mse_loss(vectors, codes)
        through = rotated if config.rotate else straight_through
        return Quantized(through(vectors, codes), ids, loss, terms)

    def _encode(self, vectors: Tensor) -> Tensor:
        return self._nearest(self._prepare(vectors))

    def _decode(self, ids: Tensor) -> Tensor:
        return rearrange(F.embedding(ids, self.codebook()), "b h w d -> b d h w")

    def _nearest(self, vectors: Tensor) -> Tensor:
        height, width = vectors.shape[-2:]
        flat = rearrange(vectors, "b d h w -> (b h w) d")
        return rearrange(nearest_code(flat, self.codebook()), "(b h w) -> b h w", h=height, w=width)

    def _prepare(self, vectors: Tensor) -> Tensor:
        """Of length one along axis 1, if only directions count."""
        return F.normalize(vectors, dim=1) if self.config.normalize else vectors

    @torch.no_grad()
    def learn(self, vectors: Tensor, ids: Tensor, restart: bool = True) -> int:
        """Count the choices of one training step, move codes that are means, restart those out of use.

        Identical on every rank: counts and sums are those of all ranks, new codes are vectors of any of them.
        Leave out steps whose loss is not finite, or their vectors become codes.

        Args:
            vectors: (b, d, h, w) encoder outputs of this step.
            ids: (b, h, w) what they were quantized to.
            restart: Whether codes out of use start again.

        Returns:
            How many codes started again.
        """
        flat = rearrange(self._prepare(vectors.float()), "b d h w -> (b h w) d")
        ids = ids.flatten()
        if self.awaits_start:
            found = kmeans(flat, self.config.codes, self.config.kmeans, self.config.normalize)
            self.embedding.weight.copy_(found)
            ids = nearest_code(flat, self.codebook())
        counts = sum_over_ranks(torch.bincount(ids, minlength=self.config.codes).float())
        share = (1 - self.config.memory) / counts.mean()
        self.usage.mul_(self.config.memory).add_(counts * share)
        if self.config.means:
            self._move(flat, ids, counts, share)
        unused = torch.nonzero(self.usage < self.config.restart_below).flatten()
        if not restart or not len(unused):
            return 0
        self.embedding.weight[unused] = draw_rows(flat, len(unused)).to(self.embedding.weight.dtype)
        self.usage[unused] = 1.0  # a full memory's time to be chosen before it is judged again
        return len(unused)

    def _move(self, flat: Tensor, ids: Tensor, counts: Tensor, share: Tensor) -> None:
        """Appendix A.1, equations 6-8, with the sums m written as N e: e += share (sum - count e) / N."""
        sums = sum_over_ranks(torch.zeros_like(self.embedding.weight).index_add_(0, ids, flat))
        chosen = counts > 0
        code = self.embedding.weight[chosen]
        gap = sums[chosen] - counts[chosen, None] * code
        self.embedding.weight[chosen] = code + share * gap / self.usage[chosen, None]
