"""Norms of the residual stream.

Letters: ... any shape, d width.

Sources: Zhang & Sennrich 2019 (RMSNorm), as in LLaMA and, under the name of a layer norm, in ImageGPT; Ba et
al. 2016 (LayerNorm), as in GPT-2.
"""

from dataclasses import dataclass
from typing import Any, Literal

import torch
from torch import Tensor, nn
from torch.autograd.function import once_differentiable

from vqtok.training.backwards import own_backward_pays


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

    def build(self, width: int) -> "RMSNorm":
        """A norm of (..., d)."""
        return RMSNorm(width, self.eps)


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


class RMSNorm(nn.RMSNorm):
    """torch's, with a backward of its own where torch has none: on a CPU, a third of the time."""

    def forward(self, x: Tensor) -> Tensor:
        """(..., d) from (..., d)."""
        if x.dtype == self.weight.dtype == torch.float32 and own_backward_pays(x):
            return _Normed.apply(x, self.weight, self.eps)
        return super().forward(x)


class _Normed(torch.autograd.Function):
    """x / root(mean x^2 + eps) * gain, for x (..., d)."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, gain: Tensor, eps: float) -> Tensor:
        scale = torch.rsqrt(x.square().mean(-1, keepdim=True) + eps)
        ctx.save_for_backward(x, gain, scale)
        return (x * scale).mul_(gain)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor, Tensor, None]:
        x, gain, scale = ctx.saved_tensors
        met = (grad * x).flatten(0, -2)
        mean = (met @ gain).view_as(scale) / x.shape[-1] * scale.square()
        to_gain = scale.flatten() @ met
        return torch.addcmul(grad * gain, x, mean, value=-1).mul_(scale), to_gain, None


def _check(eps: float) -> None:
    if not eps > 0:
        raise ValueError(f"norm.eps {eps} is not above 0: 1e-06 is usual")
