"""How far apart two sets of images are, as clouds of features: the Fréchet distance of two Gaussians.

Heusel et al. 2017, equation 6, who use the features of Inception and call it FID; of other features it is a
distance of another name (`vqtok.metrics.features`), and no figure of one compares with a figure of the other.

Letters: b images of a batch, d features.
"""

import torch
from torch import Tensor


class Moments:
    """Count, mean and covariance of features that come in batches, in float64.

    Batches are merged by the formulas of Chan et al. 1979, which do not subtract large sums from one another.

    Args:
        width: Features d of an image.
        device: Where sums are kept.

    Attributes:
        count: Images so far.
        mean: (d,) float64.
    """

    def __init__(self, width: int, device: torch.device | str = "cpu") -> None:
        self.count = 0
        self.mean = torch.zeros(width, dtype=torch.float64, device=device)
        self._scatter = torch.zeros(width, width, dtype=torch.float64, device=device)

    def add(self, features: Tensor) -> None:
        """Take in (b, d) features.

        Raises:
            ValueError: if their shape is another, or a value is not finite.
        """
        width = len(self.mean)
        if features.ndim != 2 or features.shape[1] != width or not len(features):
            raise ValueError(f"features are {tuple(features.shape)}: give (b, {width}), at least one row")
        if not features.isfinite().all():
            raise ValueError("some features are not finite: look for images that are not either")
        features = features.to(self.mean)
        mean, count = features.mean(0), len(features)
        centered, step = features - mean, mean - self.mean
        total = self.count + count
        self._scatter += centered.T @ centered + step.outer(step) * (self.count * count / total)
        self.mean = self.mean + step * (count / total)
        self.count = total

    @property
    def covariance(self) -> Tensor:
        """(d, d) float64, unbiased.

        Raises:
            ValueError: if there are fewer than two images.
        """
        if self.count < 2:
            raise ValueError(f"{self.count} images have no covariance: give at least 2")
        return self._scatter / (self.count - 1)


def frechet_distance(first: Moments, second: Moments) -> float:
    """|m1 - m2|^2 + tr(C1 + C2 - 2 (C1 C2)^(1/2)), at least 0.

    Needs more images than features to mean much beyond the set it is taken on: below, the covariances are
    singular and the distance of any two samples of one distribution is well above 0.

    Raises:
        ValueError: if a set has fewer than two images, or the widths differ.

    Source: Heusel et al. 2017, equation 6.
    """
    if first.mean.shape != second.mean.shape:
        raise ValueError(
            f"{len(first.mean)} and {len(second.mean)} features cannot be compared: use one network for both"
        )
    between = (first.mean - second.mean).square().sum()
    spread = first.covariance.trace() + second.covariance.trace()
    distance = between + spread - 2 * _trace_of_root(first.covariance, second.covariance)
    return max(0.0, float(distance))  # rounding takes that of equal sets below


def _trace_of_root(first: Tensor, second: Tensor) -> Tensor:
    """tr((first second)^(1/2)) of two covariances (d, d).

    With first = F F^T, the product has the eigenvalues of F^T second F, which is symmetric: no root of a
    matrix that is not, and no imaginary parts to drop. Eigenvalues that are rounding errors are left out of
    F, since their roots are not small.
    """
    values, vectors = torch.linalg.eigh(first)
    kept = values > values[-1] * len(values) * torch.finfo(values.dtype).eps
    factor = vectors[:, kept] * values[kept].sqrt()
    return torch.linalg.eigvalsh(factor.T @ second @ factor).clamp(min=0).sqrt().sum()
