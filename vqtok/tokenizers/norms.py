"""Group norm, with a backward of its own for channels that lie last, in bfloat16.

torch's is made for channels that lie first. Measured on one core: with channels last, 16 images of 64
channels of 32x32 take it 14.4 ms in bfloat16; the one here takes 1.5. In a step of float32 the two are even.

Letters: b images, c channels, h w size, g groups, m numbers of a group.

Source: Wu & He 2018, Group Normalization.
"""

from typing import Any

import torch
from torch import Tensor, nn
from torch.autograd.function import once_differentiable

from vqtok.training.backwards import own_backward_pays


class GroupNorm(nn.GroupNorm):
    """torch's, for images (b, c, h, w)."""

    def forward(self, x: Tensor) -> Tensor:
        """Keep shape and order in memory."""
        if x.dtype == torch.bfloat16 and _channels_last(x) and own_backward_pays(x):
            return _Normed.apply(x, self.weight, self.bias, self.num_groups, self.eps)
        return super().forward(x)


class _Normed(torch.autograd.Function):
    """(x - mean) / deviation * gain + bias, both over the channels of a group and all places."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, gain: Tensor, bias: Tensor, groups: int, eps: float) -> Tensor:
        b, c, h, w = x.shape
        y, mean, scale = torch.native_group_norm(x, gain, bias, b, c, h * w, groups, eps)
        ctx.save_for_backward(x, gain, mean, scale)
        return y

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor, Tensor, Tensor, None, None]:
        """With xn the normed x: dx = scale (gain grad - mean(gain grad) - xn mean(gain grad xn)), by group.

        xn is never made: its sums follow from those of grad and grad x, and dx is a multiple of grad, one of
        x and a constant, each per image and channel.
        """
        x, gain, *moments = ctx.saved_tensors
        grad = grad.contiguous(memory_format=torch.channels_last)
        precise = torch.promote_types(x.dtype, torch.float32)
        mean, scale = (part.to(precise)[..., None] for part in moments)  # (b, g, 1)
        to_gain, to_bias = (_sums(part, precise).view(*mean.shape[:2], -1) for part in (grad * x, grad))
        to_gain = (to_gain - mean * to_bias) * scale  # sums of grad xn and of grad, (b, g, c / g)
        gains, m = gain.to(precise).view(mean.shape[1], -1), x[0].numel() // mean.shape[1]
        of_normed, of_one = ((gains * part).sum(2, keepdim=True) / m for part in (to_gain, to_bias))
        of_x = -scale.square() * of_normed
        rest = -scale * of_one - mean * of_x
        of_grad, of_x, rest = (_spread(part, x) for part in (gains * scale, of_x, rest))
        sums = (part.sum(0).flatten().to(gain.dtype) for part in (to_gain, to_bias))
        return torch.addcmul(rest, grad, of_grad).addcmul_(x, of_x), *sums, None, None


def _channels_last(x: Tensor) -> bool:
    return x.ndim == 4 and x.is_contiguous(memory_format=torch.channels_last) and not x.is_contiguous()


def _sums(x: Tensor, dtype: torch.dtype) -> Tensor:
    """(b, c), over all places."""
    return x.sum((2, 3), dtype=dtype)


def _spread(values: Tensor, x: Tensor) -> Tensor:
    """(b, c, 1, 1) in the type of x, of values (b, g, c / g or 1)."""
    b, c = x.shape[:2]
    return values.expand(b, values.shape[1], c // values.shape[1]).reshape(b, c, 1, 1).to(x.dtype)
