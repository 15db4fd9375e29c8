"""A convolution of doubled pixels is the same whether pixels are doubled or taps are added up."""

import pytest
import torch
import torch.nn.functional as F

from vqtok.tokenizers import doubling
from vqtok.tokenizers.doubling import DoublingConv2d


@pytest.mark.parametrize("places", [0, 10**9], ids=["taps added up", "pixels repeated"])
@pytest.mark.parametrize("shape", [(2, 5, 4, 6), (1, 5, 1, 1), (3, 5, 2, 3)])
def test_it_is_the_convolution_of_doubled_pixels(
    shape: tuple[int, ...], places: int, monkeypatch: pytest.MonkeyPatch
):
    """Values and all gradients, in float64, at the edges too."""
    monkeypatch.setattr(doubling, "PLACES", places)
    torch.manual_seed(0)
    layer = DoublingConv2d(5, 3).double()
    x = torch.randn(shape, dtype=torch.float64, requires_grad=True)
    wanted = F.conv2d(F.interpolate(x, scale_factor=2.0, mode="nearest"), layer.weight, layer.bias, padding=1)
    grad = torch.randn_like(wanted)
    found = layer(x)
    torch.testing.assert_close(found, wanted)
    tensors = (x, layer.weight, layer.bias)
    torch.testing.assert_close(
        torch.autograd.grad(found, tensors, grad), torch.autograd.grad(wanted, tensors, grad)
    )


def test_small_images_are_repeated(monkeypatch: pytest.MonkeyPatch):
    """Taps are added up where that pays: from four pixels a channel on."""
    asked = []
    layer = DoublingConv2d(8, 8)
    monkeypatch.setattr(layer, "unrepeated", lambda: asked.append(True) or torch.zeros(8, 8, 4, 4))
    layer(torch.zeros(1, 8, 5, 6))
    assert not asked
    layer(torch.zeros(1, 8, 4, 8))
    assert asked


def test_memory_order_stays():
    """Channels last stay last, and first first."""
    x, layer = torch.randn(2, 8, 16, 16), DoublingConv2d(8, 8)
    assert layer(x).is_contiguous()
    layer.to(memory_format=torch.channels_last)
    found = layer(x.contiguous(memory_format=torch.channels_last))
    assert found.is_contiguous(memory_format=torch.channels_last)
