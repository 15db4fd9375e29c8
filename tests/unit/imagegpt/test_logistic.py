"""Logistic regression: the minimum it says it finds, by two ways, on features of any size."""

import pytest
import torch
import torch.nn.functional as F

from imagegpt.logistic import fit_lbfgs, fit_sgd


def crowds(count: int = 600, seed: int = 0) -> tuple[torch.Tensor, torch.Tensor]:
    """Features (n, 5) around three corners, of very different sizes, the last of no use; classes (n,)."""
    generator = torch.Generator().manual_seed(seed)
    labels = torch.randint(3, (count,), generator=generator)
    corners = torch.tensor([[0.0, 0, 0, 0], [3, 0, 1, 0], [0, 3, 0, 1]])
    x = corners[labels] + torch.randn(count, 4, generator=generator)
    return torch.cat([x * torch.tensor([1.0, 1000, 1e-3, 1]), torch.full((count, 1), 7.0)], dim=1), labels


def test_lbfgs_ends_in_the_minimum():
    """The gradient of the loss and its decay vanishes there."""
    x, labels = crowds()
    found = fit_lbfgs(x, labels, 3, decay=1e-3)
    weight, bias = found.weight.clone().requires_grad_(), found.bias.clone().requires_grad_()
    inside = (x - found.mean) / found.scale
    loss = F.cross_entropy(F.linear(inside, weight, bias), labels) + 1e-3 / 2 * weight.square().sum()
    loss.backward()
    assert weight.grad.abs().max() < 1e-4 and bias.grad.abs().max() < 1e-4
    assert found.weight[:, 4].abs().max() == 0  # what does not vary tells nothing


@pytest.mark.parametrize("rate", [1.0, 0.1])
def test_both_ways_agree(rate: float):
    """Stochastic gradients come as far on other samples as L-BFGS, but for a hundredth."""
    x, labels = crowds()
    other, others = crowds(seed=1)
    exact = fit_lbfgs(x, labels, 3, decay=1e-4).accuracy(other, others)
    assert exact > 0.9
    assert fit_sgd(x, labels, 3, rate=rate, steps=500).accuracy(other, others) > exact - 0.01


def test_seeded():
    """Batches follow from the seed."""
    x, labels = crowds()
    one, same, other = (fit_sgd(x, labels, 3, rate=0.1, steps=9, seed=seed).weight for seed in (0, 0, 1))
    assert torch.equal(one, same) and not torch.equal(one, other)
