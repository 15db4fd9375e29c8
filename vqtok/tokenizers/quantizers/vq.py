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
from vqtok.tokenizers.quantizers.quantizer import Codebook, Quantized, Quantizer
from vqtok.tokenizers.quantizers.ranks import draw_rows, sum_over_ranks
from vqtok.tokenizers.quantizers.scores import nearest_ids, rows

TINY = 1e-12  # a running count that is none


@dataclass(frozen=True, kw_only=True)
class VQConfig(Codebook):
    """A codebook and its training.

    Args:
        kind: Names this quantizer in recipes.
        normalize: Compare directions only: vectors and codes are brought to length one.
        beta: Weight of the commitment term, which pulls encoder outputs to their codes (0.25 in the paper).
        legacy: Put beta on the codebook's term instead, as taming's tokenizers were trained.
        means: Codes are running means of the vectors that choose them, which fit a young encoder much sooner
            than codes learned by gradient.
        memory: Share of the running counts and means that stays at a step; 0.98 looks back about 50 steps.
        restart_below: A code chosen less often than this share of the average code, below 1, starts again
            from an encoder output.
        kmeans: Rounds of k-means on the first step's vectors, where codes start; 0 starts from random codes.
        rotate: Turn the encoder's gradient with the vector (rotation trick) instead of passing it straight
            on.
    """

    kind: Literal["vq"] = "vq"
    normalize: bool = True
    beta: float = 0.25
    legacy: bool = False
    means: bool = False
    memory: float = 0.98
    restart_below: float = 0.03
    kmeans: int = 0
    rotate: bool = False

    def __post_init__(self) -> None:
        super().__post_init__()
        if not 0 <= self.memory < 1:
            raise ValueError(f"memory {self.memory} must lie in [0, 1): 0.98 looks back about 50 steps")
        if not 0 <= self.restart_below < 1:  # from 1 on average codes would start again at every step
            raise ValueError(f"restart_below {self.restart_below} must lie in [0, 1): 0.03 spares rare codes")
        if self.legacy and self.means:
            raise ValueError("legacy puts beta on the codebook's term, which means lack: drop one of them")


class VectorQuantizer(Quantizer):
    """Nearest-code quantizer; its codebook is trained by gradient, or is the means of what chose it."""

    learns = True

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
        ids = nearest_ids(vectors, self.codebook())
        codes = self._decode(ids)
        if config.means:
            commitment = F.mse_loss(vectors, codes)
            loss, terms = config.beta * commitment, {"error": commitment.detach()}
        else:
            loss, terms = squared_errors(vectors, codes, config.beta, config.legacy)
        through = rotated if config.rotate else straight_through
        return Quantized(through(vectors, codes), ids, loss, terms)

    def _encode(self, vectors: Tensor) -> Tensor:
        return nearest_ids(self._prepare(vectors), self.codebook())

    def _decode(self, ids: Tensor) -> Tensor:
        return rearrange(F.embedding(ids, self.codebook()), "b h w d -> b d h w")

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
        flat, ids = self._prepare(rows(vectors.float())), ids.flatten()
        if self.awaits_start:
            found = kmeans(flat, self.config.codes, self.config.kmeans, self.config.normalize)
            self.embedding.weight.copy_(found)
            ids = nearest_code(flat, self.codebook())
            self.usage.fill_(1.0)  # all start in use, or most would start again before they could be chosen
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
        sums = torch.zeros_like(self.embedding.weight, dtype=flat.dtype)  # float32, whatever the codes are
        sums = sum_over_ranks(sums.index_add_(0, ids, flat))
        codes = self.embedding.weight.float()
        rates = share / self.usage.clamp(min=TINY)  # a code never chosen has nothing to move by
        sums.addcmul_(counts[:, None], codes, value=-1).mul_(rates[:, None]).add_(codes)
        self.embedding.weight.copy_(sums)
