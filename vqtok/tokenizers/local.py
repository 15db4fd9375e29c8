"""An encoder whose codes stand for their own pixels and nothing else.

VQGAN's encoder tells every code a little of the whole image, through norms over all places, attention and
wide convolutions: it spends the codes of empty places on detail elsewhere. Here every patch of f x f pixels
goes through the same residual perceptron, as through the first layers of ViT-VQGAN (Yu et al. 2022). Images
come back a little less sharp, but what a code means does not depend on the rest of the image, and a
transformer learns such codes far sooner (docs/architecture.md, "Choices").

Letters: b images, c channels, h w size, f pixels a code.
"""

import torch.nn.functional as F
from torch import Tensor, nn

from vqtok.tokenizers.autoencoder import through


class LocalEncoder(nn.Module):
    """Images (b, 3, h, w) -> (b, latent, h/f, w/f), each place from its own f x f pixels.

    Args:
        factor: Pixels a side that one code stands for.
        width: Channels of the perceptron.
        blocks: Residual blocks.
        latent: Channels that come out.
        recompute: Keep no activations inside the blocks while training, as `AutoencoderConfig` tells.
    """

    def __init__(self, factor: int, width: int, blocks: int, latent: int, recompute: bool = False) -> None:
        super().__init__()
        self.recompute = recompute
        self.fold = nn.PixelUnshuffle(factor)
        self.conv_in = nn.Conv2d(3 * factor**2, width, 1)
        self.blocks = nn.ModuleList(PointwiseBlock(width) for _ in range(blocks))
        self.conv_out = nn.Conv2d(width, latent, 1)

    def forward(self, images: Tensor) -> Tensor:
        """Encode images in the range that the network was trained on."""
        x = through(self.blocks, self.conv_in(self.fold(images)), self.recompute)
        return self.conv_out(F.silu(x))


class PointwiseBlock(nn.Module):
    """x + conv(swish(conv(swish(x)))), place by place; without norms it starts as the identity."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(width, width, 1)
        self.conv2 = nn.Conv2d(width, width, 1)
        nn.init.zeros_(self.conv2.weight)
        nn.init.zeros_(self.conv2.bias)

    def forward(self, x: Tensor) -> Tensor:
        """Keep the shape (b, c, h, w)."""
        return x + self.conv2(F.silu(self.conv1(F.silu(x))))
