"""Gradients past a choice, and the two squared errors."""

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from vqtok.tokenizers.quantizers.gradients import rotated, squared_errors, straight_through


@pytest.fixture
def codes() -> Tensor:
    """(3, 4, 5, 7), not far from nor near to the vectors."""
    return torch.randn(3, 4, 5, 7, generator=torch.Generator().manual_seed(2), requires_grad=True)


@pytest.mark.parametrize("through", [straight_through, rotated])
def test_forward_is_the_codes(through, vectors: Tensor, codes: Tensor):
    """To the bit; and the codes take no gradient from the decoder."""
    out = through(vectors.requires_grad_(), codes)
    assert torch.equal(out, codes)
    assert torch.autograd.grad(out.sum(), codes, allow_unused=True) == (None,)


def test_straight_through(vectors: Tensor, codes: Tensor):
    """The gradient arrives unchanged."""
    out, gradient = straight_through(vectors.requires_grad_(), codes), torch.rand(3, 4, 5, 7)
    assert torch.equal(torch.autograd.grad(out, vectors, gradient)[0], gradient)


def test_rotation_keeps_the_angle(vectors: Tensor, codes: Tensor):
    """The gradient has the angle to the vector that it had to the code, and |code| / |vector| its length."""
    out, gradient = rotated(vectors.requires_grad_(), codes), torch.randn(3, 4, 5, 7)
    found = torch.autograd.grad(out, vectors, gradient)[0]
    similar = F.cosine_similarity(found, vectors, dim=1)
    torch.testing.assert_close(similar, F.cosine_similarity(gradient, codes, dim=1), atol=1e-5, rtol=0)
    length = gradient.norm(dim=1) * codes.norm(dim=1) / vectors.norm(dim=1)
    torch.testing.assert_close(found.norm(dim=1), length)


def test_rotation_is_the_matrix(vectors: Tensor, codes: Tensor):
    """It is the transposed rotation in the plane of vector and code, written out for one pair."""
    e, q = vectors[0, :, 0, 0].double(), codes[0, :, 0, 0].detach().double()
    a = e / e.norm()
    side = q - (q @ a) * a
    side /= side.norm()
    cosine, sine = (q @ a) / q.norm(), (q @ side) / q.norm()
    outer = torch.outer
    plane = outer(a, a) + outer(side, side)
    turn = cosine * plane + sine * (outer(side, a) - outer(a, side)) + torch.eye(4) - plane
    torch.testing.assert_close(turn @ a, q / q.norm())
    out, gradient = rotated(vectors.requires_grad_(), codes), torch.randn(3, 4, 5, 7)
    found = torch.autograd.grad(out, vectors, gradient)[0][0, :, 0, 0]
    expected = (q.norm() / e.norm()) * turn.T @ gradient[0, :, 0, 0].double()
    torch.testing.assert_close(found, expected.float())


@pytest.mark.parametrize(
    ("vector", "code"),
    [([1.0, 0], [-2.0, 0]), ([0.0, 0], [1.0, 0]), ([1.0, 0], [0.0, 0]), ([3.0, 4], [3.0, 4])],
)
def test_rotation_at_its_corners(vector: list[float], code: list[float]):
    """Opposite, equal and empty vectors have a finite gradient."""
    vectors = torch.tensor(vector).view(1, 2, 1, 1).requires_grad_()
    out = rotated(vectors, torch.tensor(code).view(1, 2, 1, 1))
    assert torch.equal(out.flatten(), torch.tensor(code))
    assert torch.autograd.grad(out.sum(), vectors)[0].isfinite().all()


@pytest.mark.parametrize("legacy", [False, True])
def test_beta_weighs_the_commitment(vectors: Tensor, codes: Tensor, legacy: bool):
    """Vectors are pulled with weight beta and codes with weight 1, or the other way round where legacy."""
    loss, terms = squared_errors(vectors.requires_grad_(), codes, 0.25, legacy)
    to_vectors, to_codes = torch.autograd.grad(loss, [vectors, codes])
    gap = 2 * (vectors - codes) / vectors.numel()
    torch.testing.assert_close(to_vectors, gap * (1.0 if legacy else 0.25))
    torch.testing.assert_close(to_codes, -gap * (0.25 if legacy else 1.0))
    torch.testing.assert_close(terms["error"], F.mse_loss(vectors, codes).detach())
    torch.testing.assert_close(loss.detach(), 1.25 * terms["error"])
