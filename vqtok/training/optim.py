"""Optimizers that all families share: AdamW, and Muon for the matrices inside a network.

Sources: Loshchilov & Hutter 2019 (decoupled weight decay); no decay of gains and biases, as in GPT-2.
Jordan et al. 2024 (Muon: the momentum of a matrix is brought to the nearest orthogonal one); Liu et al. 2025
(Muon is scalable for LLM training: its steps scaled to the size of AdamW's, so that one rate serves both).
"""

import math
from collections.abc import Iterable
from dataclasses import dataclass

import torch
from torch import Tensor, nn

# Quintic iteration whose slope at zero is steep: singular values end between 0.7 and 1.2, in five rounds.
NEWTON_SCHULZ, ROUNDS = (3.4445, -4.7750, 2.0315), 5
ADAMW_RMS = 0.2  # root mean square of AdamW's steps, in units of the rate, as Liu et al. measured it
NARROW = 16  # a matrix with fewer rows or columns has too few directions to be worth the iteration


@dataclass(frozen=True, kw_only=True)
class OptimConfig:
    """An optimizer's settings; the learning rate comes with every `Run.update`.

    Args:
        decay: Weight decay of matrices and kernels; gains and biases have none.
        betas: Decay of the running means of the gradient and of its square, each a step.
        clip: Largest norm of the whole gradient; None means no limit.
        muon: Whether matrices and kernels inside the network are trained by Muon instead of AdamW: fewer
            steps for the same loss, each of them a little dearer.
    """

    decay: float = 0.05
    betas: tuple[float, float] = (0.9, 0.95)
    clip: float | None = 1.0
    muon: bool = False

    def __post_init__(self) -> None:
        if self.decay < 0 or (self.clip is not None and self.clip <= 0):
            raise ValueError(
                f"decay {self.decay} must be at least 0 and clip {self.clip} above 0: change them"
            )
        if not all(0 <= beta < 1 for beta in self.betas):
            raise ValueError(f"betas {self.betas} must lie in [0, 1): change them")


def optimizer_for(
    model: nn.Module, config: OptimConfig, inside: Iterable[nn.Module] = ()
) -> torch.optim.Optimizer:
    """AdamW over the parameters of `model` that take gradients, or Muon where the config asks for it.

    Args:
        model: What is trained.
        config: Settings.
        inside: Parts of `model` between its first and its last layer, which Muon may train.
    """
    known = {id(p): p for p in model.parameters() if p.requires_grad}
    if config.muon:
        ours = {id(p): p for part in inside for p in part.parameters() if id(p) in known and _is_wide(p)}
    else:
        ours = {}
    rest = [p for key, p in known.items() if key not in ours]
    groups = [
        {"params": [p for p in rest if p.ndim >= 2], "weight_decay": config.decay},
        {"params": [p for p in rest if p.ndim < 2], "weight_decay": 0.0},
    ]
    groups = [group for group in groups if group["params"]]
    if not ours:
        return torch.optim.AdamW(groups, betas=config.betas, fused=True)
    orthogonal = {"params": [*ours.values()], "weight_decay": config.decay, "orthogonal": True}
    return Muon([orthogonal, *groups], betas=config.betas)


class Muon(torch.optim.Optimizer):
    """Muon for groups that say `orthogonal`, AdamW for the others, at one learning rate.

    Kernels (o, i, h, w) are matrices of o rows.
    """

    def __init__(
        self,
        groups: Iterable[dict],
        lr: float = 1e-3,
        betas: tuple[float, float] = (0.9, 0.95),
        momentum: float = 0.95,
        eps: float = 1e-8,
    ) -> None:
        defaults = {"lr": lr, "betas": betas, "momentum": momentum, "eps": eps, "weight_decay": 0.0}
        super().__init__(groups, defaults | {"orthogonal": False})

    @torch.no_grad()
    def step(self, closure: None = None) -> None:  # noqa: ARG002 - torch's signature
        """Move every parameter that has a gradient."""
        for group in self.param_groups:
            for parameter in group["params"]:
                if parameter.grad is not None:
                    move = self._muon if group["orthogonal"] else self._adamw
                    direction = move(parameter.grad, self.state[parameter], group)
                    parameter.mul_(1 - group["lr"] * group["weight_decay"])
                    parameter.add_(direction, alpha=-group["lr"])

    @staticmethod
    def _muon(gradient: Tensor, state: dict, group: dict) -> Tensor:
        if not state:
            state["momentum"] = torch.zeros_like(gradient)
        mean = state["momentum"].lerp_(gradient, 1 - group["momentum"])
        ahead = gradient.lerp(mean, group["momentum"]).flatten(1)  # Nesterov's
        return (orthogonal(ahead) * (ADAMW_RMS * math.sqrt(max(ahead.shape)))).view_as(gradient)

    @staticmethod
    def _adamw(gradient: Tensor, state: dict, group: dict) -> Tensor:
        if not state:
            state |= {"step": torch.zeros(()), "mean": torch.zeros_like(gradient)}
            state["square"] = torch.zeros_like(gradient)
        first, second = group["betas"]
        state["step"] += 1
        steps = int(state["step"])
        mean = state["mean"].lerp_(gradient, 1 - first)
        square = state["square"].lerp_(gradient.square(), 1 - second)
        root = (square / (1 - second**steps)).sqrt_().add_(group["eps"])
        return mean / root.mul_(1 - first**steps)


def orthogonal(matrix: Tensor) -> Tensor:
    """Nearly the closest matrix (rows, columns) with orthonormal rows or columns, by Newton and Schulz.

    In bfloat16, since singular values need not be more exact than [0.7, 1.2].
    """
    a, b, c = NEWTON_SCHULZ
    x = matrix.bfloat16() if matrix.shape[0] <= matrix.shape[1] else matrix.bfloat16().T
    x = x / (x.norm() + 1e-7)
    for _ in range(ROUNDS):
        square = x @ x.T
        x = a * x + (b * square + c * square @ square) @ x
    return (x if matrix.shape[0] <= matrix.shape[1] else x.T).to(matrix.dtype)


def _is_wide(parameter: Tensor) -> bool:
    return parameter.ndim >= 2 and min(parameter.shape[0], parameter[0].numel()) >= NARROW
