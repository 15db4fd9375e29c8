"""Weights as whole numbers of eight bits, for drawing: less to read for every token.

Only the matrices of the blocks become whole numbers, with one scale for each output; embedding, head and
norms stay bfloat16. It pays where reading weights is what a token costs: a sequence or a few at a time.
Nothing is calibrated, and nothing is trained.

Letters: o outputs, d inputs, ... any shape.
"""

from copy import deepcopy

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from vqtok.gpt.model import GPT

ROWS = 16  # up to which the kernel that reads whole numbers is the faster one


class Int8Linear(nn.Module):
    """A linear layer whose weights are whole numbers from -127 to 127, times a scale for each output.

    The largest error of a weight is half its row's scale, which is the row's largest weight / 127.

    Args:
        linear: The layer that it stands for.
    """

    def __init__(self, linear: nn.Linear) -> None:
        super().__init__()
        weight = linear.weight.detach().float()
        # Rounded before it divides, so that whole numbers make up for the scale's own rounding.
        scale = (weight.abs().amax(dim=1).clamp(min=1e-12) / 127).bfloat16()
        whole = (weight / scale.float()[:, None]).round().clamp(-127, 127)
        self.register_buffer("weight", whole.to(torch.int8))  # (o, d)
        self.register_buffer("scale", scale)  # (o,)
        self.bias = linear.bias

    def forward(self, x: Tensor) -> Tensor:
        """(..., o) from (..., d), both bfloat16."""
        rows = x.numel() // x.shape[-1]
        if rows <= ROWS and x.device.type == "cpu" and hasattr(torch, "_weight_int8pack_mm"):
            y = torch._weight_int8pack_mm(x.reshape(rows, -1), self.weight, self.scale)
            y = y.view(*x.shape[:-1], -1)
        else:
            y = F.linear(x, self.weight.type_as(x)) * self.scale
        return y if self.bias is None else y + self.bias


def int8_copy(gpt: GPT) -> GPT:
    """The same transformer in bfloat16 with int8 matrices, for drawing: it neither trains nor is saved."""
    copy = deepcopy(gpt).eval().requires_grad_(False)
    for parent in list(copy.blocks.modules()):
        for name, part in list(parent.named_children()):
            if isinstance(part, nn.Linear):
                setattr(parent, name, Int8Linear(part))
    return copy.bfloat16()
