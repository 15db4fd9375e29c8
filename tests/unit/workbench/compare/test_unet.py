"""Everybody trains on and draws as many pictures, of networks as large."""

import pytest
import torch

from diffusion.networks import UNetConfig
from workbench.compare.unet import COMPARISON, Case, Drawing, Training

CPU = torch.device("cpu")
CASES = [COMPARISON.toy(case) for case in COMPARISON.cases.values()]
ON_GPUS = {"vqtok, bfloat16, compiled"}


@pytest.mark.peer
@pytest.mark.parametrize("case", CASES, ids=lambda case: type(case).__name__)
@pytest.mark.parametrize("name", COMPARISON.contestants)
def test_every_contestant_runs(name: str, case: Case):
    """At toy size, twice, and draws as many pictures as all others."""
    call = COMPARISON.contestants[name].prepare(case, CPU)
    assert (call is None) == (name in ON_GPUS)
    if call is None:
        return
    call()
    drawn = call()
    if isinstance(case, Drawing) and name != COMPARISON.ceiling:
        assert len(drawn) == case.batch


@pytest.mark.peer
def test_networks_are_as_large():
    """Nine million numbers; diffusers' as many as ours, denoising-diffusion-pytorch's not fewer."""
    import diffusers
    from denoising_diffusion_pytorch import Unet

    from diffusion.published.diffusers import unet2d_settings

    case = Training(batch=1)
    with torch.device("meta"):
        theirs = diffusers.UNet2DModel.from_config(unet2d_settings(case.unet, case.size))
        others = Unet(dim=case.dim, dim_mults=case.multipliers)
    counts = [sum(weight.numel() for weight in model.parameters()) for model in (theirs, others)]
    assert case.weights == counts[0] == 8_952_067
    assert counts[1] == 9_290_595


def test_channels_first_stay_first():
    """The row says so, and the outputs show it."""
    from workbench.compare.unet import _put_channels_first

    unet = UNetConfig(channels=8, multipliers=(1, 2), groups=4, blocks=1).build()
    x, t = torch.randn(2, 3, 8, 8), torch.zeros(2, dtype=torch.int64)
    last = unet(x, t)
    assert last.is_contiguous(memory_format=torch.channels_last) and not last.is_contiguous()
    _put_channels_first(unet)
    assert unet(x, t).is_contiguous()
    torch.testing.assert_close(unet(x, t), last)


@pytest.mark.parametrize("case", CASES, ids=lambda case: type(case).__name__)
def test_the_ceiling_of_a_step_is_every_layer(case: Case):
    """All convolutions and linear layers, once each."""
    from workbench.compare.unet import _layers

    network = case.unet.build()
    x, t = torch.randn(case.shape), torch.zeros(case.batch, dtype=torch.int64)
    kinds = (torch.nn.Conv2d, torch.nn.Linear)
    met = [layer for layer, _, _ in _layers(network, x, t)]
    assert len(met) == len({*met}) == sum(isinstance(layer, kinds) for layer in network.modules())
