"""OpenAI's checkpoints: their layout written out, what is inferred, what is refused.

There is no installed peer. The forward below is stated from the layout alone: what stands under which name.
"""

import math

import pytest
import torch
import torch.nn.functional as F

from diffusion.networks import ClassesConfig, TimeConfig, UNetConfig
from diffusion.published import load_openai, openai_config, openai_tensors

THEIRS = {"eps": 1e-5, "time": TimeConfig(first="cos", shift=0)}
IMPROVED = UNetConfig(
    channels=32, multipliers=(1, 2), blocks=1, heads=4, resampling="symmetric",
    classes=ClassesConfig(count=3, null=False, drop=0.0), **THEIRS,
)  # fmt: skip
GUIDED = UNetConfig(
    channels=32, multipliers=(1, 2, 3), blocks=2, head_width=16, resampling="blocks", scale_shift=True,
    attention_levels=(1, 2), out_channels=6, **THEIRS,
)  # fmt: skip
FLAGS = {"improved": (IMPROVED, {"heads": 4}), "guided": (GUIDED, {"head_width": 16})}


def drawn(config):
    """A network with all weights moved from their beginning."""
    unet = config.build().eval()
    with torch.no_grad():
        for weight in unet.parameters():
            weight.add_(torch.randn_like(weight) * 0.05)
    return unet


class Stated:
    """Their network with 2 levels of 1 block, 32 and 64 channels, 4 heads, attention at the second level."""

    def __init__(self, tensors):
        self.tensors = tensors

    def __call__(self, x, t, labels):
        """The prediction, name by name."""
        angles = t.float()[:, None] * 10000 ** (-torch.arange(16) / 16)
        told = self.linear("time_embed.0", torch.cat((angles.cos(), angles.sin()), 1))
        told = self.linear("time_embed.2", F.silu(told)) + self.tensors["label_emb.weight"][labels]
        first = self.conv("input_blocks.0.0", x)
        second = self.block("input_blocks.1.0", first, told)
        third = self.conv("input_blocks.2.0.op", second, stride=2)
        fourth = self.attention("input_blocks.3.1", self.block("input_blocks.3.0", third, told))
        x = self.attention("middle_block.1", self.block("middle_block.0", fourth, told))
        x = self.block("middle_block.2", x, told)
        x = self.block("output_blocks.0.0", torch.cat((x, fourth), 1), told)
        x = self.attention("output_blocks.0.1", x)
        x = self.block("output_blocks.1.0", torch.cat((x, third), 1), told)
        x = self.attention("output_blocks.1.1", x)
        x = self.conv("output_blocks.1.2.conv", x.repeat_interleave(2, 2).repeat_interleave(2, 3))
        x = self.block("output_blocks.2.0", torch.cat((x, second), 1), told)
        x = self.block("output_blocks.3.0", torch.cat((x, first), 1), told)
        return self.conv("out.2", F.silu(self.norm("out.0", x)))

    def of(self, name):
        """Weight and bias."""
        return self.tensors[f"{name}.weight"], self.tensors[f"{name}.bias"]

    def linear(self, name, x):
        """A matrix."""
        return F.linear(x, *self.of(name))

    def conv(self, name, x, stride=1):
        """A convolution, padded to keep the size."""
        weight, bias = self.of(name)
        return F.conv2d(x, weight, bias, stride, padding=weight.shape[-1] // 2)

    def norm(self, name, x):
        """32 groups."""
        return F.group_norm(x, 32, *self.of(name), eps=1e-5)

    def block(self, name, x, told):
        """A residual block."""
        y = self.conv(f"{name}.in_layers.2", F.silu(self.norm(f"{name}.in_layers.0", x)))
        y = y + self.linear(f"{name}.emb_layers.1", F.silu(told))[:, :, None, None]
        y = self.conv(f"{name}.out_layers.3", F.silu(self.norm(f"{name}.out_layers.0", y)))
        skip = f"{name}.skip_connection"
        return y + (self.conv(skip, x) if f"{skip}.weight" in self.tensors else x)

    def attention(self, name, x):
        """Head by head: 3c rows of the matrix hold queries, keys and values of one head, then of the next."""
        b, c, h, w = x.shape
        qkv = F.conv1d(self.norm(f"{name}.norm", x).flatten(2), *self.of(f"{name}.qkv"))
        heads = []
        for head in qkv.chunk(4, dim=1):
            q, k, v = head.chunk(3, dim=1)  # (b, c / 4, n)
            heads.append(v @ (q.mT @ k / math.sqrt(c // 4)).softmax(-1).mT)
        y = F.conv1d(torch.cat(heads, 1), *self.of(f"{name}.proj_out"))
        return x + y.view(b, c, h, w)


@torch.no_grad()
def test_predictions(tmp_path):
    """A .pt file in their layout predicts what the layout, stated line by line, predicts, within 1e-5."""
    tensors = openai_tensors(drawn(IMPROVED))
    torch.save(tensors, tmp_path / "ema_0.9999_500000.pt")
    unet = load_openai(tmp_path / "ema_0.9999_500000.pt", heads=4)
    x, t, labels = torch.randn(3, 3, 8, 8), torch.tensor([0, 37, 999]), torch.tensor([0, 1, 2])
    expected = Stated(tensors)(x, t, labels)
    assert expected.std() > 0.1
    torch.testing.assert_close(unet(x, t, labels), expected, atol=1e-5, rtol=0)


@pytest.mark.parametrize("new_order", [False, True])
@pytest.mark.parametrize("kind", FLAGS)
def test_round_trip(kind, new_order):
    """All settings but heads are inferred, and every tensor comes back, in either order of attentions."""
    config, flags = FLAGS[kind]
    unet = drawn(config)
    found = load_openai(openai_tensors(unet, new_order=new_order), **flags, new_order=new_order)
    assert found.config == config and not found.training
    for name, weight in found.state_dict().items():
        assert torch.equal(weight, unet.state_dict()[name])


def test_the_orders_differ():
    """Rows of the three matrices lie head by head unless new_order says otherwise."""
    unet = drawn(IMPROVED)
    old, new = openai_tensors(unet), openai_tensors(unet, new_order=True)
    name = "middle_block.1.qkv.weight"
    assert old[name].shape == new[name].shape == (192, 64, 1)
    assert torch.equal(old[name][16:32], new[name][64:80])  # keys of the first head of 16
    assert all(torch.equal(old[other], new[other]) for other in old if ".qkv." not in other)


def test_heads_must_be_given():
    """They are in no tensor; the error says which flags to look for."""
    tensors = openai_tensors(IMPROVED.build())
    with pytest.raises(ValueError, match="neither is given: give heads=, their num_heads, or head_width="):
        openai_config(tensors)
    with pytest.raises(ValueError, match="both are given, 4 and 16"):
        openai_config(tensors, heads=4, head_width=16)


def test_wrong_tensors_are_named(tmp_path):
    """Missing, extra and mis-shaped tensors raise and are named; so does a file of something else."""
    tensors = openai_tensors(IMPROVED.build())
    del tensors["input_blocks.2.0.op.bias"]
    tensors["input_blocks.9.0.op.bias"] = torch.zeros(3)
    tensors["time_embed.0.weight"] = torch.zeros(4, 4)
    with pytest.raises(ValueError) as error:
        load_openai(tensors, heads=4)
    faults = ("missing input_blocks.2.0.op.b", "extra input_blocks.9.0.op.b", "mis-shaped time_embed.0.weig")
    assert all(fault in str(error.value) for fault in faults)
    with pytest.raises(ValueError, match="no UNet of improved or guided diffusion"):
        load_openai({"conv_in.weight": torch.zeros(3)}, heads=4)
    torch.save({"state": {}, "param_groups": []}, tmp_path / "opt500000.pt")
    with pytest.raises(ValueError, match="holds no tensors by name"):
        load_openai(tmp_path / "opt500000.pt", heads=4)


def test_what_theirs_never_have():
    """A network of DDPM's conventions is not written in their layout, which could not tell it."""
    unet = UNetConfig(channels=32, multipliers=(1, 2), blocks=1).build()
    with pytest.raises(ValueError, match="eps 1e-06, time .*, asymmetric resampling"):
        openai_tensors(unet)
