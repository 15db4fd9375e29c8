"""What the towers owe to images, captions and their temperature."""

import math

import pytest
import timm
import torch

from vqtok.clip.towers import TextTowerConfig, Towers, TowersConfig


@pytest.mark.parametrize("name", ["test_vit", "test_convnext", "test_efficientnet", "resnet10t"])
def test_any_network_of_timm(name):
    """Transformers, whose size is fixed, and convolutions, with a layer before the classes or without."""
    towers = Towers(TowersConfig(image=name, size=32, width=8), vocab=10).eval()
    vectors = towers.images(torch.rand(2, 3, 32, 32))
    torch.testing.assert_close(vectors.norm(dim=1), torch.ones(2))


def test_unknown_network():
    """A network that timm does not have is refused, and a near name told."""
    with pytest.raises(ValueError, match="resnet10x.*resnet10t"):
        Towers(TowersConfig(image="resnet10x"), vocab=10)


def test_size_that_does_not_fit(monkeypatch):
    """What timm has against a size is told with it."""

    def refuse(*_: object, **options: object) -> None:
        raise AssertionError(f"{options['img_size']} does not divide by 16")

    monkeypatch.setattr(timm, "create_model", refuse)
    with pytest.raises(ValueError, match="test_vit cannot be built for 33 pixels: 33 does not divide by 16"):
        Towers(TowersConfig(image="test_vit", size=33), vocab=10)


@pytest.mark.parametrize("mode", [True, False])
def test_padding_changes_nothing(towers_config, mode):
    """A caption's vector is the same alone and among longer ones, in training and in evaluation."""
    towers = Towers(towers_config, vocab=10).train(mode)
    short = torch.tensor([[3, 1, 4]])
    among = torch.tensor([[3, 1, 4, -1, -1, -1], [1, 5, 9, 2, 6, 5]])
    # Float32 sums over rows of another length.
    torch.testing.assert_close(towers.texts(among)[0], towers.texts(short)[0], atol=1e-5, rtol=0)


def test_order_matters(towers_config):
    """The same tokens in another order are another caption."""
    towers = Towers(towers_config, vocab=10)
    one, other = towers.texts(torch.tensor([[3, 1, 4], [4, 1, 3]]))
    assert (one - other).abs().max() > 1e-4


def test_every_weight_learns(towers_config):
    """The gradient reaches every weight of both towers, and the temperature."""
    towers = Towers(towers_config, vocab=4)
    images, texts, scale = towers(torch.rand(2, 3, 32, 32), torch.tensor([[0, 1, 2], [3, 2, -1]]))
    (scale * (images * texts.roll(1, 0)).sum(1) * torch.tensor([1.0, 2.0])).sum().backward()
    assert not [name for name, weight in towers.named_parameters() if weight.grad is None]


def test_first_temperature(towers_config):
    """Training starts at the paper's 0.07."""
    assert Towers(towers_config, vocab=4).log_scale.exp().item() == pytest.approx(1 / 0.07)


def test_sharpest_temperature(towers_config):
    """Cosines are never multiplied with more than 100, and a gradient still leads back from there."""
    towers = Towers(towers_config, vocab=4)
    torch.nn.init.constant_(towers.log_scale, 9.0)
    towers.limit_scale()
    scale = towers(torch.rand(1, 3, 32, 32), torch.tensor([[0]]))[2]
    assert scale.item() == pytest.approx(100)
    scale.backward()
    assert towers.log_scale.grad.item() == pytest.approx(100)


def test_low_temperature_stays(towers_config):
    """Below the limit nothing is changed."""
    towers = Towers(towers_config, vocab=4)
    towers.limit_scale()
    assert towers.log_scale.item() == pytest.approx(math.log(1 / 0.07))


@pytest.mark.parametrize("wrong", [{"length": 0}, {"width": 10, "heads": 4}, {"dropout": 1.0}])
def test_wrong_text_tower(wrong):
    """Shapes that cannot be built are refused when they are said."""
    with pytest.raises(ValueError, match=str([*wrong.values()][0])):
        TextTowerConfig(**wrong)


def test_wrong_towers():
    """A space without channels is refused."""
    with pytest.raises(ValueError, match="width 0"):
        TowersConfig(width=0)
