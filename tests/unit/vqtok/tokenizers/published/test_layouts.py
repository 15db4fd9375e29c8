"""Layouts without an installable peer: names, shapes and counts are those of the authors' networks.

Everything is on the meta device, names and shapes without memory behind them. A published file is made by
renaming our tensors into theirs, by tables written here, and must come back as it was; the names and shapes
listed, and the counts, were taken from networks built by the authors' code.
"""

import re
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from vqtok.storage.tensors import check_tensors
from vqtok.tokenizers.autoencoder import AutoencoderConfig
from vqtok.tokenizers.choice import build
from vqtok.tokenizers.dvae import DVAEConfig
from vqtok.tokenizers.magvit2 import MAGVIT2Config
from vqtok.tokenizers.maskgit import MaskGITConfig
from vqtok.tokenizers.published.files import Published
from vqtok.tokenizers.published.loading import plan_for
from vqtok.tokenizers.quantizers.gumbel import GumbelConfig
from vqtok.tokenizers.quantizers.ibq import IBQConfig
from vqtok.tokenizers.quantizers.vq import VQConfig
from vqtok.tokenizers.tokenizer import TokenizerConfig

Renames = tuple[tuple[str, str], ...]
LLAMAGEN = (
    (r"^encoder\.down", "encoder.conv_blocks"),
    (r"^decoder\.up", "decoder.conv_blocks"),
    (r"(\d)\.block\.", r"\1.res."),
    (r"mid\.block_1", "mid.0"),
    (r"mid\.attn_1", "mid.1"),
    (r"mid\.block_2", "mid.2"),
)
OPENAI = ((r"\.weight$", ".w"), (r"\.bias$", ".b"))
FLAVA = (
    (r"^encoder\.", ""),
    (r"\.block_", ".group.block_"),
    (r"res_path\.", "res_path.path."),
)


@dataclass(frozen=True, kw_only=True)
class Case:
    """A published tokenizer: its layout, our config, the file, and what is known of its tensors."""

    layout: str
    config: Any
    file: str
    tensors: int
    parameters: int
    theirs: Renames = ()
    run_order: bool = False
    riders: dict[str, tuple[int, ...]] = field(default_factory=dict)
    samples: dict[str, tuple[int, ...]] = field(default_factory=dict)
    beside: dict[str, Any] = field(default_factory=dict)


def vq(codes: int, width: int, low: float = -1.0, normalize: bool = False, **shape: Any) -> TokenizerConfig:
    """A tokenizer of the ResNet family for 256 pixels."""
    return TokenizerConfig(
        autoencoder=AutoencoderConfig(**shape),
        quantizer=VQConfig(codes=codes, width=width, normalize=normalize),
        low=low,
    )


F16 = {"multipliers": (1, 1, 2, 2, 4), "attention_levels": (4,)}
F8 = {"multipliers": (1, 2, 2, 4), "attention_levels": (3,)}
USED = {"quantize.codebook_used": (65536,)}
DISCRIMINATOR = {
    "loss.discriminator.main.0.weight": (64, 3, 4, 4),
    "loss.perceptual_loss.lin0.model.1.weight": (1, 64, 1, 1),
}
LVM = vq(8192, 64, low=0.0, multipliers=(1, 2, 2, 4, 6), middle_attention=False, latent=64)
LVM_SAMPLES = {
    "encoder.down.0.downsample.conv.weight": (128, 128, 3, 3),
    "encoder.down.4.block.1.conv2.bias": (768,),
    "encoder.conv_out.weight": (64, 768, 3, 3),
    "quantize.embedding.weight": (8192, 64),
    "decoder.up.4.upsample.conv.weight": (768, 768, 3, 3),
    "decoder.up.3.block.0.nin_shortcut.weight": (512, 768, 1, 1),
}
CASES = {
    "taming f16-1024": Case(
        layout="taming VQGAN",
        config=vq(1024, 256, **F16),
        file="last.ckpt",
        tensors=343,
        parameters=72_141_699,
        riders=DISCRIMINATOR,
        samples={
            "encoder.down.4.attn.1.proj_out.weight": (512, 512, 1, 1),
            "decoder.mid.attn_1.k.bias": (512,),
            "decoder.up.4.attn.2.q.weight": (512, 512, 1, 1),
            "quant_conv.weight": (256, 256, 1, 1),
        },
    ),
    "taming f16-16384": Case(
        layout="taming VQGAN",
        config=vq(16384, 256, **F16),
        file="last.ckpt",
        tensors=343,
        parameters=76_073_859,
    ),
    "minDALL-E": Case(  # trained on from taming's
        layout="taming VQGAN",
        config=vq(16384, 256, **F16),
        file="stage1_last.ckpt",
        tensors=343,
        parameters=76_073_859,
    ),
    "taming f8 Gumbel": Case(  # its config was not published; these are latent diffusion's widths
        layout="taming Gumbel VQGAN",
        config=TokenizerConfig(
            autoencoder=AutoencoderConfig(**F8),
            quantizer=GumbelConfig(codes=8192, width=256, hard=True),
        ),
        file="last.ckpt",
        tensors=301,
        parameters=74_308_483,
        riders=DISCRIMINATOR,
        samples={
            "quantize.proj.weight": (8192, 256, 1, 1),
            "quantize.proj.bias": (8192,),
            "quantize.embed.weight": (8192, 256),
        },
    ),
    "IBQ 16384": Case(
        layout="IBQ",
        config=TokenizerConfig(
            autoencoder=AutoencoderConfig(**F16, blocks=4),
            quantizer=IBQConfig(codes=16384, width=256),
        ),
        file="IBQ_16384.ckpt",
        tensors=543,
        parameters=110_982_019,
        riders={"model_ema.decay": (), "model_ema.num_updates": ()},
        samples={"encoder.down.0.block.3.conv2.weight": (128, 128, 3, 3)},
    ),
    "latent diffusion vq-f4": Case(
        layout="taming VQGAN",
        config=vq(8192, 3, multipliers=(1, 2, 4), latent=3),
        file="model.ckpt",
        tensors=205,
        parameters=55_322_782,
        samples={"encoder.conv_out.weight": (3, 512, 3, 3)},
    ),
    "latent diffusion vq-f4-noattn": Case(
        layout="taming VQGAN",
        config=vq(8192, 3, multipliers=(1, 2, 4), latent=3, middle_attention=False),
        file="model.ckpt",
        tensors=185,
        parameters=53_219_486,
    ),
    "latent diffusion vq-f8": Case(
        layout="taming VQGAN",
        config=vq(16384, 4, **F8, latent=4),
        file="model.ckpt",
        tensors=299,
        parameters=67_717_295,
        riders=DISCRIMINATOR,
    ),
    "latent diffusion vq-f16": Case(
        layout="taming VQGAN",
        config=vq(16384, 8, **F16, latent=8),
        file="model.ckpt",
        tensors=343,
        parameters=69_593_371,
    ),
    "LVM": Case(
        layout="open-muse VQGANModel",
        config=LVM,
        file="pytorch_model.bin",
        tensors=277,
        parameters=146_244_675,
        beside={"_class_name": "VQGANModel", "resolution": 256, "no_attn_mid_block": True},
        samples=LVM_SAMPLES,
    ),
    "LVM without its config": Case(
        layout="open-muse VQGANModel",
        config=LVM,
        file="pytorch_model.bin",
        tensors=277,
        parameters=146_244_675,
        samples=LVM_SAMPLES,
    ),
    "muse with attention": Case(
        layout="open-muse VQGANModel",
        config=vq(1024, 256, low=0.0, **F16),
        file="pytorch_model.bin",
        tensors=343,
        parameters=72_141_699,
        beside={"_class_name": "VQGANModel"},
    ),
    "LlamaGen VQ-16": Case(
        layout="LlamaGen VQ",
        config=vq(16384, 8, normalize=True, **F16),
        file="vq_ds16_c2i.pt",
        tensors=344,
        parameters=71_883_403,
        theirs=LLAMAGEN,
        run_order=True,
        riders=USED,
        samples={
            "encoder.conv_blocks.1.downsample.conv.weight": (128, 128, 3, 3),
            "encoder.conv_blocks.4.attn.1.q.weight": (512, 512, 1, 1),
            "encoder.conv_blocks.4.res.0.nin_shortcut.weight": (512, 256, 1, 1),
            "encoder.mid.1.norm.weight": (512,),
            "decoder.conv_blocks.0.attn.2.proj_out.bias": (512,),
            "decoder.conv_blocks.0.upsample.conv.weight": (512, 512, 3, 3),
            "decoder.conv_blocks.3.res.0.conv1.weight": (128, 256, 3, 3),
            "decoder.conv_blocks.4.res.2.conv2.weight": (128, 128, 3, 3),
        },
    ),
    "LlamaGen VQ-8": Case(
        layout="LlamaGen VQ",
        config=vq(16384, 8, normalize=True, **F8),
        file="vq_ds8_c2i.pt",
        tensors=300,
        parameters=70_109_835,
        theirs=LLAMAGEN,
        run_order=True,
        riders=USED,
    ),
    "MaskGIT-VQGAN": Case(
        layout="MaskGIT-VQGAN",
        config=MaskGITConfig(quantizer=VQConfig(codes=1024, width=256, normalize=False)),
        file="maskgit-vqgan-imagenet-f16-256.bin",
        tensors=168,
        parameters=54_515_587,
        samples={
            "encoder.conv_in.weight": (128, 3, 3, 3),
            "encoder.down.2.block.0.nin_shortcut.weight": (256, 256, 1, 1),
            "encoder.mid.1.conv2.weight": (512, 512, 3, 3),
            "encoder.conv_out.weight": (256, 512, 1, 1),
            "decoder.conv_in.bias": (512,),
            "decoder.up.3.upsample_conv.weight": (256, 256, 3, 3),
            "decoder.up.3.block.0.nin_shortcut.weight": (256, 256, 1, 1),
            "decoder.up.1.block.0.conv1.weight": (128, 256, 3, 3),
        },
    ),
    "Open-MAGVIT2": Case(
        layout="Open-MAGVIT2",
        config=MAGVIT2Config(),
        file="imagenet_256_L.ckpt",
        tensors=339,
        parameters=115_127_829,
        samples={
            "encoder.down.1.downsample.weight": (128, 128, 3, 3),
            "encoder.down.2.block.0.nin_shortcut.weight": (256, 128, 1, 1),
            "encoder.mid_block.3.conv2.weight": (512, 512, 3, 3),
            "encoder.conv_out.weight": (18, 512, 1, 1),
            "decoder.adaptive.3.gamma.weight": (512, 18),
            "decoder.up.4.upsample.conv1.bias": (2048,),
            "decoder.up.1.block.0.nin_shortcut.weight": (128, 256, 1, 1),
        },
    ),
    "OpenAI dVAE": Case(
        layout="OpenAI dVAE",
        config=DVAEConfig(),
        file="encoder.pkl",
        tensors=74 + 76,
        parameters=53_786_240 + 43_829_766,
        theirs=OPENAI,
        samples={
            "encoder.blocks.input.w": (256, 3, 7, 7),
            "encoder.blocks.group_2.block_1.id_path.w": (512, 256, 1, 1),
            "encoder.blocks.group_4.block_2.res_path.conv_4.b": (2048,),
            "encoder.blocks.output.conv.w": (8192, 2048, 1, 1),
            "decoder.blocks.input.w": (128, 8192, 1, 1),
            "decoder.blocks.group_1.block_1.res_path.conv_1.w": (512, 128, 1, 1),
            "decoder.blocks.output.conv.b": (6,),
        },
    ),
    "FLAVA image codebook": Case(
        layout="FLAVA image codebook",
        config=DVAEConfig(size=112, decodes=False),
        file="pytorch_model.bin",
        tensors=74,
        parameters=53_786_240,
        theirs=FLAVA,
        samples={"blocks.group_1.group.block_1.res_path.path.conv_1.weight": (64, 256, 3, 3)},
    ),
}


def published(case: Case) -> dict[str, Tensor]:
    """The tensors that the authors' file holds, by their names."""
    with torch.device("meta"):
        ours = dict(build(case.config).named_parameters())
        tensors = {name: torch.empty(shape) for name, shape in case.riders.items()}
    for name, tensor in ours.items():
        if case.run_order:
            last = len(case.config.autoencoder.multipliers) - 1
            name = re.sub(r"(?<=decoder\.up\.)\d+", lambda found, last=last: str(last - int(found[0])), name)
        for pattern, replacement in case.theirs:
            name = re.sub(pattern, replacement, name)
        tensors[name] = tensor.detach()
    return tensors


@pytest.mark.parametrize("name", CASES)
def test_published_counts(name: str):
    """As many tensors and parameters as the authors' network, under the same names, in the same shapes."""
    case, tensors = CASES[name], published(CASES[name])
    assert {key: tuple(tensors[key].shape) for key in case.samples} == case.samples
    learned = [tensor for key, tensor in tensors.items() if key not in case.riders]
    assert sum(tensor.numel() for tensor in learned) == case.parameters
    assert case.tensors == len(learned) + (len(USED) if case.riders is USED else 0)  # counted by the authors


@pytest.mark.parametrize("name", CASES)
def test_recognized(name: str):
    """Names and shapes alone give the layout, our config, and our name of every tensor."""
    case = CASES[name]
    plan = plan_for(Published(published(case), Path(case.file), case.beside))
    assert plan.layout.name == case.layout
    assert plan.config == case.config
    with torch.device("meta"):
        parameters = dict(build(plan.config).named_parameters())
    check_tensors(plan.tensors, parameters, name)


@pytest.mark.parametrize("name", CASES)
@pytest.mark.parametrize("number", [0, -1])
def test_a_missing_tensor_is_named(name: str, number: int):
    """Without one of its tensors no layout loads, and the message names it."""
    case, tensors = CASES[name], published(CASES[name])
    lost = [key for key in tensors if key not in case.riders and re.search(r"norm2|conv_2", key)][number]
    ours = plan_for(Published(tensors, Path(case.file), case.beside)).tensors
    del tensors[lost]
    plan = plan_for(Published(tensors, Path(case.file), case.beside))
    (missing,) = {*ours} - {*plan.tensors}
    with torch.device("meta"):
        parameters = dict(build(plan.config).named_parameters())
    with pytest.raises(ValueError, match=f"missing {re.escape(missing)}$"):
        check_tensors(plan.tensors, parameters, name)
