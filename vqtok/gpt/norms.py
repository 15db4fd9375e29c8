"""Norms of the residual stream.

Letters: ... any shape, d width.

Sources: Zhang & Sennrich 2019 (RMSNorm), as in LLaMA and, under the name of a layer norm, in ImageGPT; Ba et
al. 2016 (LayerNorm), as in GPT-2.
"""

from dataclasses import dataclass
from typing import Literal

from torch import nn


@dataclass(frozen=True, kw_only=True)
class RMSNormConfig:
    """Division by the root mean square, and a gain.

    Args:
        kind: Names this norm in recipes.
        eps: Added to the mean square inside the root.
    """

    kind: Literal["rms"] = "rms"
    eps: float = 1e-6

    def __post_init__(self) -> None:
        _check(self.eps)

    def parameters(self, width: int) -> int:
        """Learned numbers of one norm."""
        return width

    def build(self, width: int) -> nn.RMSNorm:
        """A norm of (..., d)."""
        return nn.RMSNorm(width, self.eps)


@dataclass(frozen=True, kw_only=True)
class LayerNormConfig:
    """Mean taken away, division by the standard deviation, a gain and a bias.

    Args:
        kind: Names this norm in recipes.
        eps: Added to the variance inside the root.
        bias: Whether there is one.
    """

    kind: Literal["layer"] = "layer"
    eps: float = 1e-5
    bias: bool = True

    def __post_init__(self) -> None:
        _check(self.eps)

    def parameters(self, width: int) -> int:
        """Learned numbers of one norm."""
        return width * (1 + self.bias)

    def build(self, width: int) -> nn.LayerNorm:
        """A norm of (..., d)."""
        return nn.LayerNorm(width, self.eps, bias=self.bias)


NormConfig = RMSNormConfig | LayerNormConfig  # the first is what a mapping without `kind` means


def _check(eps: float) -> None:
    if not eps > 0:
        raise ValueError(f"norm.eps {eps} is not above 0: 1e-06 is usual")
