"""Residual vector quantization: each stage quantizes what the stages before it left over.

Zeghidour et al. 2021 (SoundStream), algorithm 1; Lee et al. 2022 (RQ-VAE) for images.

Letters: b images, d code width, h w grid, q stages.
"""

from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor, nn

from vqtok.tokenizers.quantizers.gradients import rotated, straight_through
from vqtok.tokenizers.quantizers.quantizer import Codebook, Quantized, Quantizer
from vqtok.tokenizers.quantizers.vq import VectorQuantizer, VQConfig


@dataclass(frozen=True, kw_only=True)
class ResidualVQConfig(Codebook):
    """Stages of codebooks of one shape.

    Codes are never normalized: what is left over has a length, too.

    Args:
        kind: Names this quantizer in recipes.
        stages: Ids of one vector.
        codes: Ids run from 0 to codes - 1 in every stage.
        beta: Weight of the commitment term.
        means: Codes are running means of what they quantize.
        memory: Share of the running counts and means that stays at a step.
        restart_below: A code chosen less often than this share of the average code of its stage starts again.
        kmeans: Rounds of k-means on the first step's vectors, where codes start; 0 starts from random codes.
        rotate: Turn the encoder's gradient with the vector (rotation trick) instead of passing it straight
            on.
    """

    kind: Literal["residual"] = "residual"
    stages: int
    beta: float = 0.25
    means: bool = False
    memory: float = 0.98
    restart_below: float = 0.03
    kmeans: int = 0
    rotate: bool = False

    def __post_init__(self) -> None:
        if self.stages < 1:
            raise ValueError(f"stages {self.stages} must be at least 1: one is plain vector quantization")
        _ = self.stage  # which checks the rest

    @property
    def stage(self) -> VQConfig:
        """One stage."""
        return VQConfig(
            codes=self.codes,
            width=self.width,
            normalize=False,
            beta=self.beta,
            means=self.means,
            memory=self.memory,
            restart_below=self.restart_below,
            kmeans=self.kmeans,
        )


class ResidualVQ(Quantizer):
    """Vectors (b, d, h, w) <-> ids (b, h, w, q): a vector is the sum of one code of each stage.

    Ids of the first stages alone decode too, coarser: `decode(ids[..., :1])`.
    """

    learns = True

    def __init__(self, config: ResidualVQConfig) -> None:
        super().__init__(config)
        self.stages = nn.ModuleList(VectorQuantizer(config.stage) for _ in range(config.stages))

    @property
    def id_shape(self) -> tuple[int, ...]:
        """One id a stage."""
        return (self.config.stages,)

    def _quantize(self, vectors: Tensor) -> Quantized:
        """The loss is the mean of the stages', so that it does not grow with them; terms are by stage."""
        left, found = vectors, []
        for stage in self.stages:
            found.append(stage(left))
            left = left - found[-1].vectors.detach()
        ids = torch.stack([out.ids for out in found], dim=-1)
        loss = torch.stack([out.loss for out in found]).mean()
        terms = {f"error/{number}": out.terms["error"] for number, out in enumerate(found, start=1)}
        through = rotated if self.config.rotate else straight_through
        return Quantized(through(vectors, self._decode(ids)), ids, loss, terms)

    def _encode(self, vectors: Tensor) -> Tensor:
        left, ids = vectors, []
        for stage in self.stages:
            ids.append(stage.encode(left))
            left = left - stage.decode(ids[-1])
        return torch.stack(ids, dim=-1)

    def _decode(self, ids: Tensor) -> Tensor:
        pairs = zip(self.stages, ids.unbind(-1), strict=False)  # the first stages alone are enough
        return torch.stack([stage.decode(part) for stage, part in pairs]).sum(0)

    @torch.no_grad()
    def learn(self, vectors: Tensor, ids: Tensor, restart: bool = True) -> int:
        """Every stage learns from what those before it left over; see `VectorQuantizer.learn`."""
        left, restarted = vectors.float(), 0
        for stage, part in zip(self.stages, ids.unbind(-1), strict=True):
            codes, starts = stage.decode(part), stage.awaits_start
            restarted += stage.learn(left, part, restart)
            left = left - (stage.decode(stage.encode(left)) if starts else codes)
        return restarted
