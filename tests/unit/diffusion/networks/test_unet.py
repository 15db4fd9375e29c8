"""The UNet of DDPM: sizes, settings, layout in memory."""

import pytest
import torch

from diffusion.networks import TimeConfig, UNetConfig

T = torch.tensor([3, 500])


def test_the_papers_size():
    """The defaults are DDPM's on CIFAR-10: 35.746 M parameters, here in 304 tensors."""
    with torch.device("meta"):
        unet = UNetConfig().build()
    assert sum(weight.numel() for weight in unet.parameters()) == 35_746_307
    assert len(unet.state_dict()) == 304


@pytest.mark.parametrize(
    "settings",
    [
        {"resampling": "symmetric", "heads": 4},
        {"resampling": "blocks", "head_width": 16, "scale_shift": True},
        {"blocks": 3, "attention_levels": (0, 2), "out_channels": 6},
        {"blocks": 1, "in_channels": 1, "attention_levels": (), "dropout": 0.1},
        {"multipliers": (2,), "attention_levels": ()},
    ],
    ids=str,
)
def test_settings(settings):
    """Every setting keeps h and w, gives the channels asked for, and begins at zero."""
    config = UNetConfig(**{"channels": 32, "multipliers": (1, 2, 2), **settings})
    x = torch.randn(2, config.in_channels, 8, 12)
    out = config.build()(x, T)
    assert out.shape == (2, config.out_channels, 8, 12) and not out.any()


def test_channels_lie_last():
    """Weights and results are channels_last, whatever the input is; a gradient step keeps it."""
    unet = UNetConfig(channels=32, multipliers=(1, 2), blocks=1).build()
    for x in (torch.randn(2, 3, 8, 8), torch.randn(2, 8, 8, 3).movedim(-1, 1)):
        out = unet(x, T)
        assert out.is_contiguous(memory_format=torch.channels_last)
    (out - 1).square().sum().backward()
    torch.optim.SGD(unet.parameters(), lr=0.1).step()
    last = [w for w in unet.parameters() if w.ndim == 4]
    assert all(w.is_contiguous(memory_format=torch.channels_last) for w in last)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"channels": 48}, "channels 48 do not divide by groups 32"),
        ({"groups": 1, "channels": 33}, "channels 33 do not hold sines and cosines"),
        ({"attention_levels": (4,)}, r"attention_levels \(4,\) go beyond the levels, which are 0 to 3"),
        ({"heads": 3}, "heads 3 does not divide the 256 channels"),
        ({"head_width": 96}, "head_width 96 does not divide the 256 channels"),
        ({"heads": 2, "head_width": 64}, "both given: keep one"),
        ({"out_channels": 0}, "out_channels is 0"),
        ({"eps": 0.0}, "eps 0.0 is not above 0"),
        ({"dropout": 1.0}, r"dropout 1.0 is outside \[0, 1\)"),
        ({"time": {"shift": 2}}, "time.shift 2 is neither 1"),
    ],
    ids=str,
)
def test_bad_settings(settings, message):
    """Settings that cannot be built are refused when they are written."""
    with pytest.raises(ValueError, match=message):
        UNetConfig(**({"time": TimeConfig(**settings["time"])} if "time" in settings else settings))
