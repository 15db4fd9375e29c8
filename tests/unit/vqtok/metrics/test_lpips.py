"""LPIPS: what torchmetrics makes of the same weights, and refused without the real ones."""

from importlib import import_module
from pathlib import Path

import pytest
import torch
import torchvision

from vqtok.metrics import lpips
from vqtok.metrics.lpips import LPIPS, NETWORKS, distances, load_lpips, lpips_or_reason


@pytest.fixture
def place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty folder where torchvision's downloads are looked for."""
    monkeypatch.setattr(torch.hub, "get_dir", lambda: str(tmp_path))
    (tmp_path / "checkpoints").mkdir()
    return tmp_path / "checkpoints"


@pytest.fixture
def random_alexnet(place: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Random weights of AlexNet in the place of the real ones, taken for them."""
    network = torchvision.models.alexnet(weights=None)
    network.classifier = torch.nn.Identity()  # 200 MB that nobody reads
    path = place / NETWORKS["alex"].file
    torch.save(network.state_dict(), path)
    monkeypatch.setattr(lpips, "sha256", lambda path: "7be5be79" + 56 * "0")
    return path


def test_torchmetrics(random_alexnet: Path, monkeypatch: pytest.MonkeyPatch):
    """Image by image the distance that torchmetrics measures by the same network."""
    peer = import_module("torchmetrics.functional.image.lpips")
    whole = torchvision.models.alexnet

    def offline(weights: object) -> torch.nn.Module:
        network = whole(weights=None)
        network.features.load_state_dict(
            {name.removeprefix("features."): tensor for name, tensor in torch.load(random_alexnet).items()}
        )
        return network

    monkeypatch.setattr(torchvision.models, "alexnet", offline)
    images, references = torch.rand(2, 3, 3, 64, 64)
    wanted = peer.learned_perceptual_image_patch_similarity(
        images, references, net_type="alex", reduction="none", normalize=True
    )
    monkeypatch.setattr(torchvision.models, "alexnet", whole)
    found = LPIPS("alex")(images, references)
    torch.testing.assert_close(found, wanted, rtol=1e-4, atol=1e-6)


def test_it_is_a_distance(random_alexnet: Path):
    """0 between equal images, growing with the damage, in float32 under autocast, with a gradient."""
    distance = load_lpips().train()
    assert distance.network == "alex" and not any(module.training for module in distance.modules())
    images, noise = torch.rand(2, 2, 3, 64, 64)
    assert distance(images, images).tolist() == [0, 0]
    near, far = (images.lerp(noise, share).requires_grad_() for share in (0.1, 0.6))
    assert (distance(near, images) > 0).all() and (distance(near, images) < distance(far, images)).all()
    with torch.autocast("cpu", dtype=torch.bfloat16):
        assert distance(far, images).dtype == torch.float32
    distance(far, images).sum().backward()
    assert far.grad.abs().sum() > 0


def test_a_folder_of_ones_own(random_alexnet: Path, tmp_path: Path):
    """The weights may lie elsewhere, and are asked for there alone."""
    (tmp_path / "own").mkdir()
    random_alexnet.rename(tmp_path / "own" / random_alexnet.name)
    assert LPIPS("alex", tmp_path / "own").network == "alex"
    with pytest.raises(ValueError, match="needs torchvision's weights of alexnet: put alexnet"):
        LPIPS("alex")


def test_only_the_real_networks(place: Path):
    """Without torchvision's weights there is no LPIPS, and a file of their name must have their bytes."""
    with pytest.raises(ValueError, match="takes no others: put alexnet-owt-7be5be79.pth or vgg16-397923af"):
        load_lpips()
    with pytest.raises(ValueError, match="needs torchvision's weights of vgg16: put vgg16-397923af.pth into"):
        LPIPS("vgg")
    (place / NETWORKS["vgg"].file).write_bytes(b"other weights")
    with pytest.raises(ValueError, match="vgg16-397923af.pth is not torchvision's file of that name, or dam"):
        load_lpips()


def test_the_reason_stands_where_the_network_is_not(place: Path):
    """Who measures can go on without it, and say why."""
    found, said = lpips_or_reason("cpu")
    assert found is None and said.startswith("none: LPIPS needs torchvision's weights")


def test_batches_change_nothing(random_alexnet: Path):
    """Distances of many images are those of each, with the network's name beside it."""
    found, said = lpips_or_reason("cpu")
    images, references = torch.rand(2, 3, 3, 64, 64)
    assert said == "alex"
    each = torch.cat([found(one[None], other[None]) for one, other in zip(images, references, strict=True)])
    torch.testing.assert_close(distances(found, images, references, batch=2), each, rtol=1e-5, atol=1e-7)
