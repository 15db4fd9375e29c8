"""AdamW as all families use it.

Source: Loshchilov & Hutter 2019 (decoupled weight decay); no decay of gains and biases as in GPT-2 and after.
"""

from dataclasses import dataclass

import torch
from torch import nn


@dataclass(frozen=True, kw_only=True)
class OptimConfig:
    """AdamW's settings; the learning rate comes with every `Run.update`.

    Args:
        decay: Weight decay of matrices and kernels; gains and biases have none.
        betas: Decay of the running means of the gradient and of its square, each a step.
        clip: Largest norm of the whole gradient; None means no limit.
    """

    decay: float = 0.05
    betas: tuple[float, float] = (0.9, 0.95)
    clip: float | None = 1.0

    def __post_init__(self) -> None:
        if self.decay < 0 or (self.clip is not None and self.clip <= 0):
            raise ValueError(
                f"decay {self.decay} must be at least 0 and clip {self.clip} above 0: change them"
            )
        if not all(0 <= beta < 1 for beta in self.betas):
            raise ValueError(f"betas {self.betas} must lie in [0, 1): change them")


def adamw(model: nn.Module, config: OptimConfig) -> torch.optim.AdamW:
    """AdamW over the parameters of `model` that take gradients; those of two or more dimensions decay."""
    parameters = [parameter for parameter in model.parameters() if parameter.requires_grad]
    groups = [
        {"params": [p for p in parameters if p.ndim >= 2], "weight_decay": config.decay},
        {"params": [p for p in parameters if p.ndim < 2], "weight_decay": 0.0},
    ]
    return torch.optim.AdamW([group for group in groups if group["params"]], betas=config.betas, fused=True)
