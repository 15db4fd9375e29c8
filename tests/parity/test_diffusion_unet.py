"""The UNet against diffusers' `UNet2DModel`: the same weights give the same predictions, both ways."""

import json

import diffusers
import pytest
import torch
from safetensors.torch import load_file

from diffusion.networks import UNetConfig
from diffusion.published import load_diffusers, save_diffusers
from diffusion.published.diffusers import diffusers_slots

pytestmark = pytest.mark.peer

DDPM = {  # what google/ddpm-cifar10-32 says, smaller
    "block_out_channels": (32, 64, 64),
    "down_block_types": ("DownBlock2D", "AttnDownBlock2D", "DownBlock2D"),
    "up_block_types": ("UpBlock2D", "AttnUpBlock2D", "UpBlock2D"),
    "downsample_padding": 0,
    "flip_sin_to_cos": False,
    "freq_shift": 1,
    "norm_eps": 1e-6,
    "attention_head_dim": None,
}
SHAPES = {
    "DDPM's: asymmetric, sines first, one head": DDPM,
    "diffusers' defaults: symmetric, cosines first, heads of 8": {
        "block_out_channels": (32, 64),
        "down_block_types": ("DownBlock2D", "AttnDownBlock2D"),
        "up_block_types": ("AttnUpBlock2D", "UpBlock2D"),
        "num_class_embeds": 5,
        "out_channels": 6,
    },
    "guided diffusion's: residual blocks resample, scale and shift": {
        "block_out_channels": (32, 64, 96),
        "down_block_types": ("ResnetDownsampleBlock2D", "AttnDownBlock2D", "AttnDownBlock2D"),
        "up_block_types": ("AttnUpBlock2D", "AttnUpBlock2D", "ResnetUpsampleBlock2D"),
        "downsample_type": "resnet",
        "upsample_type": "resnet",
        "resnet_time_scale_shift": "scale_shift",
        "attn_norm_num_groups": 32,
        "attention_head_dim": 16,
        "layers_per_block": 1,
    },
}
OLD = {"to_q": "query", "to_k": "key", "to_v": "value", "to_out.0": "proj_attn"}


@pytest.fixture(params=SHAPES.values(), ids=SHAPES, scope="module")
def peer(request):
    """A random UNet2DModel, every gain and bias drawn too, since 1 and 0 would hide a mistake."""
    torch.manual_seed(0)
    model = diffusers.UNet2DModel(sample_size=16, **request.param).eval()
    with torch.no_grad():
        for weight in model.parameters():
            weight.add_(torch.randn_like(weight) * 0.05)
    return model


@pytest.fixture(scope="module")
def folder(peer, tmp_path_factory):
    """The peer in a pipeline, saved by diffusers."""
    place = tmp_path_factory.mktemp("pipeline")
    scheduler = diffusers.DDPMScheduler(beta_schedule="squaredcos_cap_v2", num_train_timesteps=400)
    diffusers.DDPMPipeline(peer, scheduler).save_pretrained(place)
    return place


@torch.no_grad()
def predictions(peer, unet):
    """Theirs and ours, for the same images, steps and labels."""
    x, t = torch.randn(3, 3, 16, 16), torch.tensor([0, 37, 999])
    labels = None if peer.config.num_class_embeds is None else torch.tensor([0, 4, 2])
    return peer(x, t, labels).sample, unet(x, t, labels)


def test_predictions(peer, folder):
    """From the pipeline's folder, predictions are within 1e-5, and the scheduler's settings come along."""
    found = load_diffusers(folder)
    theirs, ours = predictions(peer, found.unet)
    assert theirs.std() > 0.1
    torch.testing.assert_close(ours, theirs, atol=1e-5, rtol=0)
    assert found.size == 16 and found.scheduler["beta_schedule"] == "squaredcos_cap_v2"
    assert load_diffusers(folder / "unet").scheduler == found.scheduler


def test_old_names_in_a_pickle(peer, tmp_path):
    """A .bin with query, key, value and proj_attn, as old folders on the hub have it, is within 1e-5."""
    old = {}
    for name, tensor in peer.state_dict().items():
        for new, before in OLD.items():
            name = name.replace(f".{new}.", f".{before}.")
        old[name] = tensor
    assert any(".proj_attn." in name for name in old)
    torch.save(old, tmp_path / "diffusion_pytorch_model.bin")
    (tmp_path / "config.json").write_text(json.dumps(dict(peer.config)))
    theirs, ours = predictions(peer, load_diffusers(tmp_path).unet)
    torch.testing.assert_close(ours, theirs, atol=1e-5, rtol=0)


def test_written_back(peer, folder, tmp_path):
    """What we write has diffusers' tensors bit for bit and its model predicts the same."""
    save_diffusers(load_diffusers(folder).unet, tmp_path / "ours", size=16)
    theirs = load_file(folder / "unet" / "diffusion_pytorch_model.safetensors")
    ours = load_file(tmp_path / "ours" / "unet" / "diffusion_pytorch_model.safetensors")
    assert ours.keys() == theirs.keys() and all(torch.equal(ours[name], theirs[name]) for name in ours)
    again = diffusers.UNet2DModel.from_pretrained(tmp_path / "ours" / "unet")
    assert torch.equal(*predictions(peer, lambda *given: again(*given).sample))


def test_a_pipeline_draws_what_ours_would(tmp_path):
    """DDPMPipeline runs a network of ours for 2 steps, and every step sees our prediction, within 1e-5."""
    unet = UNetConfig(channels=32, multipliers=(1, 2), blocks=1, head_width=32).build().eval()
    torch.nn.init.normal_(unet.conv_out.weight, std=0.1)
    save_diffusers(unet, tmp_path / "ours", size=8, scheduler={"clip_sample": False})
    pipeline = diffusers.DDPMPipeline.from_pretrained(tmp_path / "ours")
    pipeline.set_progress_bar_config(disable=True)
    seen = []
    pipeline.unet.register_forward_hook(lambda _, given, out: seen.append((*given, out.sample)))
    images = pipeline(2, torch.Generator().manual_seed(0), num_inference_steps=2, output_type="np").images
    assert images.shape == (2, 8, 8, 3) and len(seen) == 2
    for x, t, theirs in seen:
        assert theirs.std() > 0.1
        with torch.no_grad():
            torch.testing.assert_close(unet(x, t.expand(2)), theirs, atol=1e-5, rtol=0)


def test_ddpm_on_cifar10():
    """At the shape of google/ddpm-cifar10-32, both have 35,746,307 parameters, diffusers in 328 tensors."""
    shape = DDPM | {
        "block_out_channels": (128, 256, 256, 256),
        "down_block_types": (*DDPM["down_block_types"], "DownBlock2D"),
        "up_block_types": ("UpBlock2D", *DDPM["up_block_types"]),
    }
    with torch.device("meta"):
        theirs, ours = diffusers.UNet2DModel(**shape), UNetConfig().build()
    assert {sum(w.numel() for w in model.parameters()) for model in (theirs, ours)} == {35_746_307}
    assert {name: tuple(w.shape) for name, w in theirs.state_dict().items()} == named(ours)
    assert len(named(ours)) == 328


def named(unet):
    """Shapes of our tensors by diffusers' names."""
    return {name: tuple(slot.shape) for name, slot in diffusers_slots(unet).items()}
