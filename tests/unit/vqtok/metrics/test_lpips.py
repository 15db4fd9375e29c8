"""LPIPS: equation 1 of its paper, its published files, and no other network under its name."""

from pathlib import Path

import pytest
import torch
import torch.nn.functional as F

from vqtok.metrics import lpips as ours
from vqtok.metrics.lpips import LPIPS, load_lpips


@pytest.fixture
def files(tmp_path: Path) -> Path:
    """A folder with random weights: a backbone as torchvision writes it, heads as the package `lpips`."""
    torch.manual_seed(0)
    model = LPIPS("alex")
    backbone = {f"features.{name}": tensor for name, tensor in model.features.state_dict().items()}
    torch.save({**backbone, "classifier.6.bias": torch.zeros(1000)}, tmp_path / "alexnet-owt-7be5be79.pth")
    heads = {f"lin{i}.model.1.weight": torch.rand(1, len(h), 1, 1) for i, h in enumerate(model.heads)}
    torch.save(heads, tmp_path / "alex.pth")
    return tmp_path


def test_definition(files: Path):
    """Unit-length features; squared differences, weighted by channel, averaged over places, summed up."""
    model = load_lpips("alex", files)
    images, references = torch.rand(2, 2, 3, 48, 40)
    x, y = (((2 * pixels - 1) - model.shift) / model.scale for pixels in (images, references))
    expected = torch.zeros(2)
    for number, layer in enumerate(model.features):
        x, y = layer(x), layer(y)
        if number in model.taps:
            head = model.heads[model.taps.index(number)]
            expected += ((F.normalize(x) - F.normalize(y)).square() * head[:, None, None]).sum(1).mean((1, 2))
    torch.testing.assert_close(model(images, references), expected, atol=1e-6, rtol=1e-5)  # order of sums
    assert model(images, images).tolist() == [0, 0]


def test_gradient(files: Path):
    """It goes to the images only, and is finite where no feature is switched on."""
    model = load_lpips("alex", files)
    for parameter in model.features.parameters():
        parameter.data[:1] = -1  # switches much off
    images = torch.zeros(1, 3, 32, 32, requires_grad=True)
    references = torch.rand(1, 3, 32, 32, requires_grad=True)
    model(images, references).sum().backward()
    assert images.grad.isfinite().all() and images.grad.any() and references.grad is None
    assert not any(parameter.requires_grad for parameter in model.parameters())


def test_the_backbone_of_training_is_vgg16():
    """Its published size: 13 convolutions, 14,714,688 weights, five stages."""
    model = LPIPS("vgg")
    assert sum(parameter.numel() for parameter in model.features.parameters()) == 14_714_688
    assert len(model.features) == 30 and [len(head) for head in model.heads] == [64, 128, 256, 512, 512]


@pytest.mark.parametrize(
    ("lost", "told"),
    [
        ("alexnet-owt-7be5be79.pth", r"lacks alexnet-\*\.pth of torchvision"),
        ("alex.pth", "lacks alex.pth of the package lpips"),
    ],
)
def test_missing_files(files: Path, lost: str, told: str):
    """What is missing is named, and the way to do without; nothing stands in for it."""
    (files / lost).unlink()
    with pytest.raises(ValueError, match=f"{told}.*EfficientNet-Lite0 instead, which are not LPIPS"):
        load_lpips("alex", files)


def test_wrong_files(files: Path):
    """Heads of another backbone do not fit, and are named."""
    torch.save({"lin0.model.1.weight": torch.rand(1, 3, 1, 1)}, files / "alex.pth")
    with pytest.raises(ValueError, match="alex.pth does not fit this model: missing 1, 2.*mis-shaped 0"):
        load_lpips("alex", files)


def test_usual_places(files: Path, monkeypatch: pytest.MonkeyPatch):
    """Without a folder: torchvision's downloads for the backbone, the package lpips for the heads."""
    (files / "checkpoints").mkdir()
    (files / "alexnet-owt-7be5be79.pth").rename(files / "checkpoints" / "alexnet-owt-7be5be79.pth")
    (files / "lpips/weights/v0.1").mkdir(parents=True)
    (files / "alex.pth").rename(files / "lpips/weights/v0.1/alex.pth")
    monkeypatch.setattr(torch.hub, "get_dir", lambda: str(files))
    spec = type("Spec", (), {"submodule_search_locations": [str(files / "lpips")]})
    monkeypatch.setattr(ours, "find_spec", lambda _: spec)
    assert load_lpips("alex").heads[0].any()


@pytest.mark.peer
@pytest.mark.parametrize("net", ["alex", "vgg"])
def test_equals_the_package(net: str, tmp_path: Path):
    """With the package's heads and one random backbone, distances are the package's."""
    lpips = pytest.importorskip("lpips")
    torch.manual_seed(0)
    theirs = lpips.LPIPS(net=net, pnet_rand=True, verbose=False)
    mine = LPIPS(net)
    # Theirs are named slice<n>.<number of the layer>.<name>.
    pretrained = {key.split(".", 1)[1]: tensor for key, tensor in theirs.net.state_dict().items()}
    mine.features.load_state_dict(pretrained)
    mine.heads.load_state_dict({str(i): lin.model[1].weight.flatten() for i, lin in enumerate(theirs.lins)})
    images, references = torch.rand(2, 2, 3, 64, 48)
    expected = theirs(images, references, normalize=True).flatten()
    torch.testing.assert_close(mine(images, references), expected, atol=1e-6, rtol=1e-5)
