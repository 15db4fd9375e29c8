"""LPIPS, the learned distance of image patches: Zhang et al. 2018, "The unreasonable effectiveness of deep
features as a perceptual metric", version 0.1.

It is LPIPS only with the networks that its weights were fitted to. They are not ours to ship, so they must
lie where torchvision keeps its downloads, and their bytes are checked; nothing else is taken in their place.
The fitted weights of the layers come with torchmetrics, which brings the authors' files along.

Letters: b images, c channels, h w size.
"""

from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from vqtok.storage.manifests import sha256

MEAN, DEVIATION = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)  # of ImageNet, in [0, 1]


@dataclass(frozen=True, kw_only=True)
class Network:
    """A classifier that LPIPS looks through.

    Args:
        name: In torchvision.
        heads: Name of the file with the layers' weights.
        file: Name of torchvision's file of its weights, which ends in the beginning of its SHA-256.
        layers: Numbers of the layers that are compared, among its `features`.
    """

    name: str
    heads: str
    file: str
    layers: tuple[int, ...]


NETWORKS = {
    "alex": Network(
        name="alexnet", heads="alex.pth", file="alexnet-owt-7be5be79.pth", layers=(1, 4, 7, 9, 11)
    ),
    "vgg": Network(name="vgg16", heads="vgg.pth", file="vgg16-397923af.pth", layers=(3, 8, 15, 22, 29)),
}


class LPIPS(nn.Module):
    """Distance of images, 0 for equal ones; larger is more different to the eye.

    Args:
        network: "alex", which the authors advise for measuring, or "vgg", which is common as a loss.
        folder: Where torchvision's file of its weights lies, if not with torchvision's downloads.

    Raises:
        ValueError: if the network's weights are not on this machine, or are not what they should be.
    """

    def __init__(self, network: str = "alex", folder: Path | None = None) -> None:
        super().__init__()
        self.network = network
        self.features = _features(NETWORKS[network], folder)
        heads = torch.load(_heads(NETWORKS[network]), map_location="cpu", weights_only=True)
        self.heads = nn.ParameterList(heads[f"lin{k}.model.1.weight"] for k in range(len(heads)))
        for name, values in (("mean", MEAN), ("deviation", DEVIATION)):
            self.register_buffer(name, torch.tensor(values).view(3, 1, 1), persistent=False)
        self.requires_grad_(False).eval()

    def train(self, mode: bool = True) -> "LPIPS":
        """Stay in evaluation mode."""
        return super().train(False)

    def forward(self, images: Tensor, references: Tensor) -> Tensor:
        """(b,) distances of images (b, 3, h, w) in [0, 1] from references; differentiable in both."""
        with torch.autocast(images.device.type, enabled=False):
            stages = zip(self._stages(images.float()), self._stages(references.float()), strict=True)
            found = [
                F.conv2d((one - other).square(), head).mean((1, 2, 3))
                for head, (one, other) in zip(self.heads, stages, strict=True)
            ]
        return torch.stack(found).sum(0)

    def _stages(self, images: Tensor) -> list[Tensor]:
        """Features of the compared layers, of length one over the channels."""
        found, seen = [], (images - self.mean) / self.deviation
        for number, layer in enumerate(self.features):
            seen = layer(seen)
            if number in NETWORKS[self.network].layers:
                found.append(F.normalize(seen, dim=1, eps=1e-10))
        return found


def load_lpips() -> LPIPS:
    """LPIPS through AlexNet, or through VGG16 where only its weights are on this machine.

    Raises:
        ValueError: if neither's are.
    """
    for network, parts in NETWORKS.items():
        if _weights(parts).is_file():
            return LPIPS(network)
    names = " or ".join(parts.file for parts in NETWORKS.values())
    raise ValueError(
        f"LPIPS needs torchvision's weights of AlexNet or VGG16 and takes no others: put {names} into "
        f"{_weights(NETWORKS['alex']).parent}"
    )


def lpips_or_reason(device: torch.device | str) -> tuple[LPIPS | None, str]:
    """What `load_lpips` finds, on `device`, with the network's name; or None, and why there is none."""
    try:
        lpips = load_lpips().to(device)
    except ValueError as error:
        return None, f"none: {error}"
    return lpips, lpips.network


@torch.inference_mode()
def distances(lpips: LPIPS, images: Tensor, references: Tensor, batch: int = 64) -> Tensor:
    """(b,) on the CPU: LPIPS of images (b, 3, h, w) in [0, 1], a few at once where the network is."""
    device = lpips.mean.device
    parts = zip(images.split(batch), references.split(batch), strict=True)
    return torch.cat([lpips(one.to(device), other.to(device)).cpu() for one, other in parts])


def _weights(network: Network, folder: Path | None = None) -> Path:
    return (folder or Path(torch.hub.get_dir()) / "checkpoints") / network.file


def _heads(network: Network) -> Path:
    """The authors' fitted weights, in torchmetrics; it is not imported, which would take seconds."""
    [package] = find_spec("torchmetrics").submodule_search_locations
    return Path(package) / "functional" / "image" / "lpips_models" / network.heads


def _features(network: Network, folder: Path | None) -> nn.Sequential:
    """The convolutions of a classifier, up to the last layer that is compared."""
    import torchvision  # takes seconds, and who does not ask for LPIPS does without it

    path, name = _weights(network, folder), network.name
    if not path.is_file():
        raise ValueError(f"LPIPS needs torchvision's weights of {name}: put {path.name} into {path.parent}")
    if not sha256(path).startswith(path.stem.rpartition("-")[2]):
        raise ValueError(f"{path} is not torchvision's file of that name, or damaged: download it again")
    with torch.device("meta"):  # the classifier behind them has 100 million parameters that nobody needs
        features = getattr(torchvision.models, name)(weights=None).features
    state = torch.load(path, map_location="cpu", weights_only=True)
    prefix = "features."
    tensors = {name.removeprefix(prefix): state[name] for name in state if name.startswith(prefix)}
    features.load_state_dict(tensors, assign=True)
    features = features[: network.layers[-1] + 1]
    for layer in features:
        if isinstance(layer, nn.ReLU):
            layer.inplace = False  # the layers before are compared too in a gradient
    return features
