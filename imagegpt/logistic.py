"""Logistic regression of several classes, by L-BFGS or by stochastic gradients.

Features are first brought to mean 0 and variance 1, so that one decay and one rate suit all of them.

Letters: n samples, d features, c classes.
"""

import math
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

FLAT = 1e-6  # a feature that varies less tells nothing, and is left alone


@dataclass(frozen=True)
class Logistic:
    """A linear classifier.

    Args:
        mean: (d,) that features are brought to 0 from.
        scale: (d,) they are divided by.
        weight: (c, d).
        bias: (c,).
    """

    mean: Tensor
    scale: Tensor
    weight: Tensor
    bias: Tensor

    def scores(self, x: Tensor) -> Tensor:
        """(n, c) of features (n, d)."""
        return F.linear((x - self.mean) / self.scale, self.weight, self.bias)

    def accuracy(self, x: Tensor, labels: Tensor) -> float:
        """Share of features (n, d) whose class (n,) has the best score."""
        return float((self.scores(x).argmax(1) == labels).float().mean())


def fit_lbfgs(x: Tensor, labels: Tensor, classes: int, decay: float, rounds: int = 200) -> Logistic:
    """The minimum of the mean loss in nats + decay / 2 |weight|^2, by L-BFGS on all samples at once.

    Args:
        x: (n, d) features.
        labels: (n,) classes.
        classes: How many there are.
        decay: Weight of the squared weights.
        rounds: Most of them.
    """
    linear = _start(x, classes)
    inside = (x - linear.mean) / linear.scale
    weights = [linear.weight.requires_grad_(), linear.bias.requires_grad_()]
    solver = torch.optim.LBFGS(weights, max_iter=rounds, history_size=20, line_search_fn="strong_wolfe",
                               tolerance_grad=1e-6, tolerance_change=1e-9)  # fmt: skip

    def closure() -> Tensor:
        solver.zero_grad()
        loss = F.cross_entropy(F.linear(inside, *weights), labels) + decay / 2 * linear.weight.square().sum()
        loss.backward()
        return loss

    solver.step(closure)
    return _done(linear)


def fit_sgd(
    x: Tensor, labels: Tensor, classes: int, rate: float, steps: int = 2000, batch: int = 256, seed: int = 0
) -> Logistic:
    """The mean loss in nats, by gradients of batches with momentum 0.9 and a rate that falls along a cosine.

    Args:
        x: (n, d) features.
        labels: (n,) classes.
        classes: How many there are.
        rate: The first.
        steps: How many.
        batch: Samples a step, drawn with replacement.
        seed: Of the batches.
    """
    linear = _start(x, classes)
    inside = (x - linear.mean) / linear.scale
    weights = [linear.weight.requires_grad_(), linear.bias.requires_grad_()]
    solver = torch.optim.SGD(weights, lr=rate, momentum=0.9)
    generator = torch.Generator().manual_seed(seed)
    for step in range(steps):
        solver.param_groups[0]["lr"] = rate * (1 + math.cos(math.pi * step / steps)) / 2
        chosen = torch.randint(len(x), (batch,), generator=generator)
        solver.zero_grad()
        F.cross_entropy(F.linear(inside[chosen], *weights), labels[chosen]).backward()
        solver.step()
    return _done(linear)


def _start(x: Tensor, classes: int) -> Logistic:
    """Zero weights, with mean and scale of features (n, d)."""
    scale = x.std(0, correction=0)
    scale = torch.where(scale > FLAT, scale, 1)
    return Logistic(x.mean(0), scale, torch.zeros(classes, x.shape[1]), torch.zeros(classes))


def _done(linear: Logistic) -> Logistic:
    return Logistic(linear.mean, linear.scale, linear.weight.detach(), linear.bias.detach())
