"""Folders of diffusers: what is refused, and how it is told. That predictions agree is in tests/parity."""

import json

import pytest
import torch
from safetensors.torch import load_file, save_file

from diffusion.networks import ClassesConfig, UNetConfig
from diffusion.published import diffusers_config, load_diffusers, save_diffusers

CONFIG = UNetConfig(channels=32, multipliers=(1, 2), blocks=1, classes=ClassesConfig(count=3))
WEIGHTS = "diffusion_pytorch_model.safetensors"


@pytest.fixture
def folder(tmp_path):
    """A pipeline written by us."""
    save_diffusers(CONFIG.build(), tmp_path / "pipeline", size=8, scheduler={"variance_type": "fixed_large"})
    return tmp_path / "pipeline"


def settings_of(folder):
    """The network's config.json."""
    return json.loads((folder / "unet" / "config.json").read_text())


@pytest.mark.parametrize(
    "config",
    [
        CONFIG,
        UNetConfig(channels=32, multipliers=(1, 2), blocks=1, resampling="symmetric", head_width=16),
        UNetConfig(channels=32, multipliers=(1, 2), blocks=1, resampling="blocks", scale_shift=True),
    ],
)
def test_round_trip(config, tmp_path):
    """What is written is read again: the same config, tensors and scheduler."""
    unet = config.build()
    save_diffusers(unet, tmp_path / "new", size=8, scheduler={"variance_type": "fixed_large"})
    found = load_diffusers(tmp_path / "new", null_class=config.classes is not None)
    assert found.unet.config == config and found.size == 8
    assert found.scheduler == {"_class_name": "DDPMScheduler", "variance_type": "fixed_large"}
    for name, weight in found.unet.state_dict().items():
        assert torch.equal(weight, unet.state_dict()[name])


def test_null_class(folder):
    """A row of the class embedding is no class only if told so."""
    assert load_diffusers(folder).unet.config.classes == ClassesConfig(count=4, null=False, drop=0.0)


def test_loading_draws_nothing(folder):
    """The caller's random numbers are as if nothing had been loaded."""
    before = torch.get_rng_state()
    load_diffusers(folder)
    assert torch.equal(torch.get_rng_state(), before)


def test_wrong_tensors_are_named(folder):
    """Missing, extra and mis-shaped tensors raise and are named as in their file."""
    tensors = load_file(folder / "unet" / WEIGHTS)
    del tensors["mid_block.attentions.0.to_k.bias"]
    tensors["up_blocks.7.resnets.0.norm1.weight"] = torch.zeros(3)
    tensors["conv_in.weight"] = tensors["conv_in.weight"][:, :2].contiguous()
    save_file(tensors, folder / "unet" / WEIGHTS)
    with pytest.raises(ValueError) as error:
        load_diffusers(folder)
    faults = (
        "missing mid_block.attentions.0.to_k.bias",
        "extra up_blocks.7.resnets.0.norm1.weight",
        "mis-shaped conv_in.weight (32, 2, 3, 3) instead of (32, 3, 3, 3)",
    )
    assert all(fault in str(error.value) for fault in faults)


def test_both_names_of_one_tensor(folder):
    """A tensor that is there under its old and its new name is not silently chosen."""
    tensors = load_file(folder / "unet" / WEIGHTS)
    tensors["mid_block.attentions.0.query.bias"] = tensors["mid_block.attentions.0.to_q.bias"].clone()
    save_file(tensors, folder / "unet" / WEIGHTS)
    with pytest.raises(ValueError, match="extra mid_block.attentions.0.query.bias"):
        load_diffusers(folder)


def test_missing_files(folder, tmp_path):
    """Folders without weights, or of something else, are told."""
    (folder / "unet" / WEIGHTS).unlink()
    with pytest.raises(ValueError, match="no unet/diffusion_pytorch_model.safetensors or"):
        load_diffusers(folder)
    with pytest.raises(ValueError, match="neither unet/config.json nor config.json"):
        load_diffusers(tmp_path)


def test_a_scheduler_beside_the_config(folder):
    """Old repositories keep all files in one folder; without a scheduler's file there are no settings."""
    place = folder / "unet"
    (folder / "scheduler" / "scheduler_config.json").rename(place / "scheduler_config.json")
    assert load_diffusers(place).scheduler["variance_type"] == "fixed_large"
    (place / "scheduler_config.json").unlink()
    assert load_diffusers(folder).scheduler == {}


@pytest.mark.parametrize(
    ("setting", "value", "message"),
    [
        ("_class_name", "UNet2DConditionModel", "of a UNet2DConditionModel, but only a UNet2DModel"),
        ("time_embedding_type", "fourier", "time_embedding_type is 'fourier', but only 'positional'"),
        ("center_input_sample", True, "center_input_sample is True"),
        ("add_attention", False, "add_attention is False"),
        ("time_embedding_dim", 7, "time_embedding_dim is 7, but only 128"),
        ("block_out_channels", [32, 48], "multiples of the first, 32"),
        ("down_block_types", ["DownBlock2D", "SkipDownBlock2D"], "2 of DownBlock2D, AttnDownBlock2D"),
        ("up_block_types", ["UpBlock2D", "AttnUpBlock2D"], "attention where down_block_types has it"),
        ("up_block_types", ["AttnUpBlock2D"], "up_block_types is"),
        ("resnet_time_scale_shift", "scale_shift", "attn_norm_num_groups is None, but only norm_num_groups"),
        ("resnet_time_scale_shift", "spatial", "only default or scale_shift"),
        ("upsample_type", "resnet", "conv or resnet at all levels"),
        ("downsample_padding", 2, "downsample_padding is 2"),
        ("from_the_future", 3, "from_the_future is 3, but only a setting that is known here"),
    ],
)
def test_other_architectures_are_refused(folder, setting, value, message):
    """What we have no counterpart for raises and is named, rather than being computed otherwise."""
    with pytest.raises(ValueError, match=message):
        diffusers_config(settings_of(folder) | {setting: value})


def test_what_cannot_be_written(folder, tmp_path):
    """Heads of several widths, a size that does not halve, and a folder that exists are refused."""
    uneven = UNetConfig(channels=32, multipliers=(1, 2), attention_levels=(0,), heads=2)
    with pytest.raises(ValueError, match=r"heads 2 are \[16, 32\] channels wide"):
        save_diffusers(uneven.build(), tmp_path / "new", size=8)
    with pytest.raises(ValueError, match="size 9 does not divide by 2"):
        save_diffusers(CONFIG.build(), tmp_path / "new", size=9)
    with pytest.raises(FileExistsError, match="exists already"):
        save_diffusers(CONFIG.build(), folder, size=8)
    assert not (tmp_path / "new").exists()
