"""Scores of all codes, a chunk of vectors at a time."""

import pytest
import torch
import torch.nn.functional as F

from vqtok.tokenizers.quantizers import scores
from vqtok.tokenizers.quantizers.scores import best_ids, by_chunks, through_weights


@pytest.fixture(params=[1, 4, 1000])
def chunk(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> int:
    """Vectors compared at once."""
    monkeypatch.setattr(scores, "chunk_rows", lambda *_: request.param)
    return request.param


def test_chunks_change_nothing(chunk: int):
    """Values and gradients are those of all vectors at once; what a chunk held is computed once more."""
    vectors, codes = torch.randn(9, 4, requires_grad=True), torch.randn(6, 4, requires_grad=True)
    seen = []

    def score(part: torch.Tensor) -> tuple[torch.Tensor]:
        seen.append(len(part))
        return (F.softmax(part @ codes.T, dim=1) @ codes,)

    found = torch.cat([part for (part,) in by_chunks(score, vectors, 6)])
    assert sum(seen) == 9 and max(seen) <= chunk
    found_gradients = torch.autograd.grad(found.square().sum(), [vectors, codes])
    assert sum(seen) == 18
    expected = F.softmax(vectors @ codes.T, dim=1) @ codes
    torch.testing.assert_close(found, expected)
    torch.testing.assert_close(
        found_gradients, torch.autograd.grad(expected.square().sum(), [vectors, codes])
    )


def test_best_ids(chunk: int):
    """The place of the highest score, the first of equal ones."""
    vectors, codes = torch.randn(2, 4, 3, 5), torch.randn(6, 4).repeat(2, 1)
    found = best_ids(lambda part: part @ codes.T, vectors, 12)
    assert torch.equal(found, torch.einsum("b d h w, k d -> b h w k", vectors, codes[:6]).argmax(3))


def test_no_vectors():
    """None give none."""
    assert best_ids(lambda part: part @ torch.zeros(4, 6), torch.zeros(0, 4, 3, 5), 6).shape == (0, 3, 5)


def test_through_weights():
    """Forward and backward are those of one_hot + weights - weights.detach(), written out."""
    weights = torch.rand(5, 6, requires_grad=True)
    codebook, gradient = torch.randn(6, 4, requires_grad=True), torch.randn(5, 4)
    ids = weights.argmax(1)
    found = through_weights(weights, codebook, ids)
    assert torch.equal(found, codebook[ids])
    expected = (F.one_hot(ids, 6) + weights - weights.detach()) @ codebook
    torch.testing.assert_close(
        torch.autograd.grad(found, [weights, codebook], gradient),
        torch.autograd.grad(expected, [weights, codebook], gradient),
    )
