"""The Fréchet distance of two clouds of features: against independent formulas, and where they break down."""

from importlib import import_module

import pytest
import torch
from torch import Tensor

from vqtok.metrics.frechet import Moments, frechet_distance


def moments(features: Tensor, batch: int = 7) -> Moments:
    """Of features (n, d), in batches."""
    found = Moments(features.shape[1])
    for part in features.split(batch):
        found.add(part)
    return found


def cloud(count: int, width: int, seed: int, mix: float = 1.0) -> Tensor:
    """(count, width) features that are correlated, float64."""
    rng = torch.Generator().manual_seed(seed)
    matrix = torch.eye(width) + mix * torch.randn(width, width, generator=rng)
    return (torch.randn(count, width, generator=rng) @ matrix + torch.randn(width, generator=rng)).double()


@pytest.mark.parametrize("batch", [1, 7, 50])
def test_moments(batch: int):
    """Mean and covariance of a stream are those of the whole, however it is cut, and far from zero too."""
    features = cloud(50, 6, seed=0)
    found = moments(features, batch)
    assert found.count == 50
    torch.testing.assert_close(found.mean, features.mean(0))
    torch.testing.assert_close(found.covariance, features.T.cov())
    away = moments(features + 1e7, batch)
    torch.testing.assert_close(away.covariance, features.T.cov(), rtol=1e-6, atol=1e-6)  # of 1e-16 * 1e7


@pytest.mark.parametrize("counts", [(40, 60), (400, 300)])
def test_independent_formula(counts: tuple[int, int]):
    """Equals tr((C1 C2)^(1/2)) by the eigenvalues of the product itself, which is not symmetric."""
    one, other = (cloud(count, 12, seed) for seed, count in enumerate(counts))
    product = one.T.cov() @ other.T.cov()
    root = torch.linalg.eigvals(product).sqrt().real.sum()
    spread = one.T.cov().trace() + other.T.cov().trace() - 2 * root
    wanted = (one.mean(0) - other.mean(0)).square().sum() + spread
    assert frechet_distance(moments(one), moments(other)) == pytest.approx(float(wanted), rel=1e-9)


def test_closed_form():
    """Of independent features the distance is that of means and of deviations."""
    basis = torch.eye(4, dtype=torch.float64)
    one = torch.cat([basis, -basis]) * torch.tensor([1.0, 2.0, 3.0, 0.0])
    other = torch.cat([basis, -basis]) * torch.tensor([2.0, 2.0, 0.5, 1.0]) + 5
    deviations = [part.std(0) for part in (one, other)]
    wanted = 4 * 25 + float((deviations[0] - deviations[1]).square().sum())
    assert frechet_distance(moments(one), moments(other)) == pytest.approx(wanted)


@pytest.mark.parametrize("count", [5, 20, 200])
def test_it_is_a_distance(count: int):
    """0 between equal sets and the same both ways, also with fewer images than features."""
    one, other = moments(cloud(count, 32, seed=1)), moments(cloud(count, 32, seed=2))
    scale = float(one.covariance.trace())
    assert frechet_distance(one, one) <= 1e-6 * scale  # roots of rounding errors
    there, back = frechet_distance(one, other), frechet_distance(other, one)
    assert there > 0.1 * scale and there == pytest.approx(back, rel=1e-6)


def test_torchmetrics():
    """The same number as torchmetrics' FID makes of the same features, by its own statistics."""
    fid = import_module("torchmetrics.image.fid")

    class Given(torch.nn.Module):
        num_features = 8

        def forward(self, images: Tensor) -> Tensor:
            return images.flatten(1)[:, :8].float()

    ours, theirs = [], fid.FrechetInceptionDistance(feature=Given(), normalize=True)
    for real, seed in ((True, 0), (False, 1)):
        images = torch.rand(60, 3, 2, 2, generator=torch.Generator().manual_seed(seed)) ** (1 + seed)
        theirs.update(images, real=real)
        ours.append(moments(Given()(images)))
    assert frechet_distance(*ours) == pytest.approx(float(theirs.compute()), abs=1e-4)  # float32 there


@pytest.mark.parametrize(
    ("features", "told"),
    [
        (torch.zeros(3, 5), r"features are \(3, 5\): give \(b, 4\)"),
        (torch.zeros(0, 4), r"features are \(0, 4\).* at least one"),
        (torch.full((2, 4), float("nan")), "not finite"),
    ],
)
def test_features_that_are_none(features: Tensor, told: str):
    """Shapes and values are checked."""
    with pytest.raises(ValueError, match=told):
        Moments(4).add(features)


def test_sets_that_cannot_be_compared():
    """One image has no covariance; features of two networks have no distance."""
    with pytest.raises(ValueError, match="1 images have no covariance: give at least 2"):
        frechet_distance(moments(torch.rand(1, 4)), moments(torch.rand(5, 4)))
    with pytest.raises(ValueError, match="3 and 4 features cannot be compared"):
        frechet_distance(moments(torch.rand(5, 3)), moments(torch.rand(5, 4)))
