"""A network as a process asks it.

Letters: b pictures, c h w picture, o channels of output; t time from 1 to T.
"""

from torch import Tensor, nn

from diffusion.networks import Network


class Denoiser(nn.Module):
    """(x_t, t, labels) -> output, the times of a process turned into the steps of a network.

    Attributes:
        classes: How many classes the network knows; 0 if none.
    """

    def __init__(self, network: Network) -> None:
        super().__init__()
        self.network = network
        known = network.config.classes
        self.classes = known.count if known else 0

    @property
    def inside(self) -> tuple[nn.Module, ...]:
        """The network's, between its first and its last layer."""
        return self.network.inside

    def forward(self, x_t: Tensor, t: Tensor, labels: Tensor | None = None) -> Tensor:
        """(b, o, h, w) of x_t (b, c, h, w) at times (b,), labels (b,) of those who know classes."""
        return self.network(x_t, t - 1, labels)  # published networks count from 0; here, and nowhere else
