"""Where a backward of our own is the faster one.

torch composes some backwards on a CPU of many passes over memory, or walks it in the wrong order. `vqtok.gpt`
and `vqtok.tokenizers` hold better ones, each beside the plain formula. A GPU has fused kernels, and a
compiler makes its own.
"""

import torch
from torch import Tensor


def own_backward_pays(x: Tensor) -> bool:
    """Whether x is on a CPU, and gradients may be asked for by no compiler."""
    return x.device.type == "cpu" and torch.is_grad_enabled() and not torch.compiler.is_compiling()
