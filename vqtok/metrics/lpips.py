"""LPIPS: how different two images look, by the features of a classifier and weights learned from people.

Zhang et al. 2018, "The Unreasonable Effectiveness of Deep Features as a Perceptual Metric", equation 1, with
version 0.1 of its weights. It takes two files: the backbone as torchvision publishes it and the heads as the
package `lpips` carries them. Without them there is no LPIPS: a random backbone would be another ruler.

Letters: b images, c channels, h w size.
"""

from importlib.util import find_spec
from pathlib import Path
from typing import Literal

import torch
from torch import Tensor, nn

from vqtok.storage.pickles import read_pickle
from vqtok.storage.tensors import check_tensors

Net = Literal["vgg", "alex"]
BACKBONES: dict[Net, str] = {"vgg": "vgg16-*.pth", "alex": "alexnet-*.pth"}  # torchvision's names
SHIFT, SCALE = (-0.030, -0.088, -0.188), (0.458, 0.448, 0.450)  # of pixels in [-1, 1], as LPIPS 0.1 has them
SHORTEST = 1e-10  # added to the length of a feature, as published


class LPIPS(nn.Module):
    """Distance of images as people see it, with fixed weights; `load_lpips` makes the real one.

    Args:
        net: Which backbone: VGG16, which training uses, or AlexNet, which papers report.
    """

    def __init__(self, net: Net) -> None:
        super().__init__()
        self.features = _vgg16() if net == "vgg" else _alexnet()
        self.taps = (3, 8, 15, 22, 29) if net == "vgg" else (1, 4, 7, 9, 11)  # ReLUs that are looked at
        widths = (64, 128, 256, 512, 512) if net == "vgg" else (64, 192, 384, 256, 256)
        self.heads = nn.ParameterList(torch.zeros(width) for width in widths)
        self.register_buffer("shift", torch.tensor(SHIFT)[:, None, None])
        self.register_buffer("scale", torch.tensor(SCALE)[:, None, None])
        self.eval().requires_grad_(False)

    def forward(self, images: Tensor, references: Tensor) -> Tensor:
        """(b,) distances of images (b, 3, h, w) in [0, 1]; the gradient goes to `images` only."""
        with torch.autocast(images.device.type, enabled=False):
            with torch.no_grad():
                wanted = self._stages(references.float())
            pairs = zip(self.heads, self._stages(images.float()), wanted, strict=True)
            return torch.stack([((a - b).square().mean((2, 3)) @ head) for head, a, b in pairs]).sum(0)

    def _stages(self, images: Tensor) -> list[Tensor]:
        """Features (b, c, h, w) of unit length, stage by stage."""
        x, found = (2 * images - 1 - self.shift) / self.scale, []
        for number, layer in enumerate(self.features):
            x = layer(x)
            if number in self.taps:
                found.append(x / (x.norm(dim=1, keepdim=True) + SHORTEST))  # norm's gradient is finite at 0
        return found


def load_lpips(net: Net = "vgg", folder: Path | None = None) -> LPIPS:
    """LPIPS with its published weights; nothing is downloaded.

    Args:
        net: Which backbone.
        folder: Where both files lie under their published names, such as vgg16-397923af.pth and vgg.pth. If
            left out, the backbone is sought where torchvision keeps what it has downloaded, the heads in the
            package `lpips`.

    Raises:
        ValueError: if a file cannot be found, or is none of theirs.
    """
    model = LPIPS(net)
    backbone, heads = _places(net, folder)
    found = {name: t for name, t in read_pickle(backbone).items() if name.startswith("features.")}
    _fill(model.features, {name.removeprefix("features."): t for name, t in found.items()}, backbone)
    learned = read_pickle(heads)
    found = {name.split(".")[0].removeprefix("lin"): t.flatten() for name, t in learned.items()}
    _fill(model.heads, found, heads)
    return model


def _fill(part: nn.Module, tensors: dict[str, Tensor], where: Path) -> None:
    check_tensors(tensors, part.state_dict(), where)
    part.load_state_dict(tensors)


def _places(net: Net, folder: Path | None) -> tuple[Path, Path]:
    """Files of the backbone and of the heads."""
    if folder is None:
        spec = find_spec("lpips")  # imports nothing
        package = Path(next(iter(spec.submodule_search_locations))) if spec else None
        backbones = Path(torch.hub.get_dir()) / "checkpoints"
        heads = package / "weights" / "v0.1" / f"{net}.pth" if package else None
    else:
        backbones, heads = folder, folder / f"{net}.pth"
    backbone = next(iter(sorted(backbones.glob(BACKBONES[net]))), None)
    if backbone and heads and heads.is_file():
        return backbone, heads
    what = f"{BACKBONES[net]} of torchvision in {backbones}"
    missing = what if backbone is None else f"{net}.pth of the package lpips"
    raise ValueError(
        f"LPIPS ({net}) lacks {missing}: put {BACKBONES[net]} and {net}.pth into one folder and name it, or "
        "take the features of EfficientNet-Lite0 instead, which are not LPIPS"
    )


def _vgg16() -> nn.Sequential:
    """VGG16 up to its last ReLU (Simonyan & Zisserman 2015), numbered as in torchvision."""
    layers: list[nn.Module] = []
    before = 3
    for width, convolutions in ((64, 2), (128, 2), (256, 3), (512, 3), (512, 3)):
        layers += [nn.MaxPool2d(2)] if layers else []
        for _ in range(convolutions):
            layers += [nn.Conv2d(before, width, 3, padding=1), nn.ReLU()]
            before = width
    return nn.Sequential(*layers)


def _alexnet() -> nn.Sequential:
    """AlexNet up to its last ReLU (Krizhevsky 2014), numbered as in torchvision."""
    return nn.Sequential(
        nn.Conv2d(3, 64, 11, stride=4, padding=2), nn.ReLU(), nn.MaxPool2d(3, 2),
        nn.Conv2d(64, 192, 5, padding=2), nn.ReLU(), nn.MaxPool2d(3, 2),
        nn.Conv2d(192, 384, 3, padding=1), nn.ReLU(),
        nn.Conv2d(384, 256, 3, padding=1), nn.ReLU(),
        nn.Conv2d(256, 256, 3, padding=1), nn.ReLU(),
    )  # fmt: skip
