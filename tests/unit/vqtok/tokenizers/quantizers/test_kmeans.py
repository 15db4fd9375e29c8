"""k-means, and codebooks that start from it."""

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from vqtok.tokenizers.quantizers.kmeans import kmeans
from vqtok.tokenizers.quantizers.vq import VectorQuantizer, VQConfig


def clusters(count: int = 5, each: int = 40) -> tuple[Tensor, Tensor]:
    """Centers (k, 2) on a circle and vectors (n, 2) close around them."""
    angles = torch.arange(count) * 2 * torch.pi / count
    centers = 3 * torch.stack([angles.cos(), angles.sin()], dim=1)
    return centers, (centers[:, None] + 0.1 * torch.randn(count, each, 2)).flatten(0, 1)


def test_means_are_those_of_their_vectors():
    """When nothing moves any more, each is the mean of the vectors nearest to it."""
    vectors = torch.randn(300, 4)
    means = kmeans(vectors, 8, rounds=60)
    ids = torch.cdist(vectors, means).argmin(1)
    expected = torch.stack([vectors[ids == k].mean(0) for k in range(8)])
    torch.testing.assert_close(means, expected, atol=1e-5, rtol=0)


def test_errors_fall():
    """No round makes the error larger, and clusters are found."""
    centers, vectors = clusters()
    errors = []
    for rounds in range(8):
        torch.manual_seed(3)
        means = kmeans(vectors, 5, rounds)
        errors.append(float(torch.cdist(vectors, means).amin(1).square().mean()))
    assert errors == sorted(errors, reverse=True) and errors[-1] < errors[0]


def test_more_centers_than_vectors():
    """Centers that nobody chooses stay where they were drawn."""
    vectors = torch.randn(3, 4)
    means = kmeans(vectors, 10, rounds=3)
    assert (torch.cdist(means, vectors).amin(1) < 1e-6).all()


def test_normalized_means():
    """Means of directions have length one."""
    vectors = F.normalize(torch.randn(100, 4), dim=1)
    torch.testing.assert_close(kmeans(vectors, 7, 4, normalize=True).norm(dim=1), torch.ones(7))


@pytest.mark.parametrize("normalize", [False, True])
@pytest.mark.parametrize("means", [False, True])
def test_a_codebook_starts_from_the_first_step(vectors: Tensor, normalize: bool, means: bool):
    """The first `learn` puts codes where vectors are; later ones go on from there."""
    torch.manual_seed(0)
    config = VQConfig(codes=16, width=4, normalize=normalize, means=means, kmeans=10)
    vq, vectors = VectorQuantizer(config), 3 + vectors  # away from the random codes
    assert vq.awaits_start
    before = vq(vectors)
    vq.learn(vectors, before.ids, restart=False)
    after = vq(vectors)
    assert not vq.awaits_start and after.terms["error"] < 0.5 * before.terms["error"]
    assert len(after.ids.unique()) == 16
    started = vq.embedding.weight.detach().clone()
    vq.learn(vectors, after.ids, restart=False)
    assert means or torch.equal(vq.embedding.weight, started)


@pytest.mark.parametrize("means", [False, True])
def test_a_start_stays(vectors: Tensor, means: bool):
    """No code that k-means has just placed starts again for want of choices, and all are in use."""
    vq = VectorQuantizer(VQConfig(codes=16, width=4, normalize=False, means=means, kmeans=10))
    assert vq.learn(vectors, torch.zeros(3, 5, 7, dtype=torch.int64)) == 0
    assert len(vq.encode(vectors).unique()) == 16
    torch.testing.assert_close(vq.usage.mean(), torch.tensor(1.0))


def test_a_start_counts_its_own_choices(vectors: Tensor):
    """Usage is that of the new codes, or those in use would start again."""
    vq = VectorQuantizer(VQConfig(codes=16, width=4, kmeans=10, memory=0.0))
    vq.learn(vectors, torch.zeros(3, 5, 7, dtype=torch.int64))
    counts = torch.bincount(vq.encode(vectors).flatten(), minlength=16)
    torch.testing.assert_close(vq.usage, counts * 16 / 105)
