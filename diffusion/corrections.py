"""What may be done to an estimate of the clean picture before a step is made of it.

Pictures lie within [-1, 1], an estimate need not. Cutting it there is no part of the process, but a choice of
who samples, so it is an argument: None leaves the estimate alone.

Letters: b batch, c h w picture.

Sources: Ho et al. 2020, DDPM's code (clipping); Saharia et al. 2022, Imagen (dynamic thresholding).
"""

from dataclasses import dataclass
from typing import Literal

from torch import Tensor


@dataclass(frozen=True, kw_only=True)
class Clip:
    """Pixels beyond the limit are set to it.

    Args:
        kind: Names this correction in recipes.
        limit: Of absolute values; 1 is that of pictures.
    """

    kind: Literal["clip"] = "clip"
    limit: float = 1.0

    def __post_init__(self) -> None:
        if not self.limit > 0:
            raise ValueError(f"limit {self.limit} is not above 0: pictures reach 1")

    def __call__(self, x_0: Tensor) -> Tensor:
        """(b, c, h, w) within the limit."""
        return x_0.clamp(-self.limit, self.limit)


@dataclass(frozen=True, kw_only=True)
class DynamicThreshold:
    """A picture is clipped at a quantile of its own absolute values, if that is above 1, and divided by it.

    Strong guidance drives whole areas beyond 1; clipping them at 1 would make them flat.

    Args:
        kind: Names this correction in recipes.
        quantile: Share of a picture's values that is not clipped.
    """

    kind: Literal["dynamic"] = "dynamic"
    quantile: float = 0.995

    def __post_init__(self) -> None:
        if not 0 < self.quantile <= 1:
            raise ValueError(f"quantile {self.quantile} is outside (0, 1]: Imagen takes 0.995")

    def __call__(self, x_0: Tensor) -> Tensor:
        """(b, c, h, w) within [-1, 1]."""
        sizes = x_0.abs().flatten(1)
        rank = max(1, round(self.quantile * sizes.shape[1]))
        # kthvalue, because torch.quantile refuses large tensors.
        limit = sizes.kthvalue(rank, dim=1).values.clamp(min=1).view(-1, *(1,) * (x_0.ndim - 1))
        return x_0.clamp(-limit, limit) / limit


Correction = Clip | DynamicThreshold  # the first is what a mapping without `kind` means
