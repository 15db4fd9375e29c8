"""What stands beside attention in a block: two or three matrices with a bend between them.

Letters: ... any shape, d width.

Sources: Shazeer 2020 (SwiGLU), as in LLaMA; Hendrycks & Gimpel 2016 (GELU, and x sigmoid(1.702 x) near it),
as in GPT-2 and ImageGPT.
"""

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Any, Literal

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.autograd.function import once_differentiable

from vqtok.training.backwards import own_backward_pays


@dataclass(frozen=True, kw_only=True)
class SwiGLUConfig:
    """Three matrices; the inner width is 8/3 of the outer one, rounded up to a multiple of 32.

    Args:
        kind: Names this MLP in recipes.
        bias: Whether the matrices have one.
    """

    kind: Literal["swiglu"] = "swiglu"
    bias: bool = False

    def inner(self, width: int) -> int:
        """Inner channels, unless the model's config says otherwise."""
        return -(-width * 8 // 3 // 32) * 32

    def parameters(self, width: int, inner: int) -> int:
        """Learned numbers."""
        return 3 * width * inner + self.bias * (2 * inner + width)

    def build(self, width: int, inner: int) -> "SwiGLU":
        """The module."""
        return SwiGLU(width, inner, self.bias)


class TwoMatrices:
    """What MLPs of two matrices have in common; the inner width is four times the outer one."""

    bias: bool

    def inner(self, width: int) -> int:
        """Inner channels, unless the model's config says otherwise."""
        return 4 * width

    def parameters(self, width: int, inner: int) -> int:
        """Learned numbers."""
        return 2 * width * inner + self.bias * (inner + width)


@dataclass(frozen=True, kw_only=True)
class GELUConfig(TwoMatrices):
    """Two matrices with a GELU between them.

    Args:
        kind: Names this MLP in recipes.
        bias: Whether the matrices have one.
        approximate: `tanh` is GPT-2's formula for the normal distribution, `none` the distribution itself.
    """

    kind: Literal["gelu"] = "gelu"
    bias: bool = True
    approximate: Literal["none", "tanh"] = "tanh"

    def build(self, width: int, inner: int) -> "FeedForward":
        """The module."""
        return FeedForward(width, inner, self.bias, partial(F.gelu, approximate=self.approximate))


@dataclass(frozen=True, kw_only=True)
class QuickGELUConfig(TwoMatrices):
    """Two matrices with x sigmoid(1.702 x) between them.

    Args:
        kind: Names this MLP in recipes.
        bias: Whether the matrices have one. ImageGPT's have none; transformers' port of it has them, zero.
    """

    kind: Literal["quick_gelu"] = "quick_gelu"
    bias: bool = True

    def build(self, width: int, inner: int) -> "FeedForward":
        """The module."""
        return FeedForward(width, inner, self.bias, quick_gelu)


MLPConfig = SwiGLUConfig | GELUConfig | QuickGELUConfig  # the first is what a mapping without `kind` means


class SwiGLU(nn.Module):
    """down(silu(gate x) * up x); gate and up come from one matrix."""

    def __init__(self, width: int, inner: int, bias: bool = False) -> None:
        super().__init__()
        self.gate_up = nn.Linear(width, 2 * inner, bias=bias)
        self.down = nn.Linear(inner, width, bias=bias)

    def forward(self, x: Tensor) -> Tensor:
        """(..., d) from (..., d)."""
        both = self.gate_up(x)
        if own_backward_pays(both):
            return self.down(_Gated.apply(both))
        gate, up = both.chunk(2, dim=-1)
        return self.down(F.silu(gate) * up)


class _Gated(torch.autograd.Function):
    """silu(gate) * up (..., i) from both (..., 2 i), whose gradients are written side by side at once."""

    @staticmethod
    def forward(ctx: Any, gate_up: Tensor) -> Tensor:
        ctx.save_for_backward(gate_up)
        gate, up = gate_up.chunk(2, dim=-1)
        return F.silu(gate).mul_(up)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: Tensor) -> Tensor:
        (gate_up,) = ctx.saved_tensors
        gate, up = gate_up.chunk(2, dim=-1)
        grads = torch.empty_like(gate_up)
        to_gate, to_up = grads.chunk(2, dim=-1)
        torch.mul(grad, F.silu(gate), out=to_up)
        torch.ops.aten.silu_backward(grad * up, gate, grad_input=to_gate)
        return grads


class FeedForward(nn.Module):
    """down(bend(up x))."""

    def __init__(self, width: int, inner: int, bias: bool, bend: Callable[[Tensor], Tensor]) -> None:
        super().__init__()
        self.up = nn.Linear(width, inner, bias=bias)
        self.down = nn.Linear(inner, width, bias=bias)
        self.bend = bend

    def forward(self, x: Tensor) -> Tensor:
        """(..., d) from (..., d)."""
        return self.down(self.bend(self.up(x)))


def quick_gelu(x: Tensor) -> Tensor:
    """x sigmoid(1.702 x), by way of silu, whose kernel keeps one tensor for the backward instead of two."""
    return F.silu(1.702 * x) * (1 / 1.702)
