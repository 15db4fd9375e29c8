"""The published layouts, as data: how each is recognized, what its tensors are called here, what is left out.

Names of ours are taming's (and open-muse's, Open-MAGVIT2's, OpenAI's for the networks of their own), so that
most tables are short. A rename is a regular expression and its replacement, applied in order to each name.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from typing import Any

from vqtok.tokenizers.published.shapes import (
    Shapes,
    dvae_config,
    gumbel_config,
    ibq_config,
    magvit2_config,
    maskgit_config,
    vq_config,
)

Renames = tuple[tuple[str, str], ...]

# Beginnings of names inside larger models; the rest of such a model is left out.
PARTS = ("model.vqmodel.", "gen_vision_model.", "vqmodel.", "image_codebook.")
# What rides along in checkpoints of training: losses with their discriminator, and shadows, read by then.
RIDERS = (r"loss\.", r"model_ema\.", r"colorize$")


@dataclass(frozen=True, kw_only=True)
class Layout:
    """One published layout.

    Args:
        name: What it is called in messages and in the guide.
        marks: Regular expressions, each of which some name must match from its start.
        absent: Regular expressions that no name may match from its start.
        classes: If given, the config beside the weights must name one of these classes.
        suffixes: If given, the file must end in one of these.
        renames: Their names into ours.
        riders: Names left out knowingly, on top of `RIDERS`.
        run_order: Whether levels of the decoder are numbered from the smallest grid, as they run.
        shape: Reads the network's shape off the renamed tensors.
        size: Pixels a side of the training images, where no config tells.
        low: Black as the network sees it.
        normalize: Whether codes and vectors are compared by direction only.
    """

    name: str
    marks: tuple[str, ...]
    absent: tuple[str, ...] = ()
    classes: tuple[str, ...] = ()
    suffixes: tuple[str, ...] = ()
    renames: Renames = ()
    riders: tuple[str, ...] = ()
    run_order: bool = False
    shape: Callable[[Shapes, Mapping[str, Any]], Any] = vq_config
    size: int = 256
    low: float = -1.0
    normalize: bool = False


RESNET = (r"encoder\.down\.0\.block\.0\.", r"quantize\.embedding\.weight$")
MIDDLE_ATTENTION = r"encoder\.mid\.attn_1\."

LLAMAGEN: Renames = (
    (r"^encoder\.conv_blocks\.", "encoder.down."),
    (r"^decoder\.conv_blocks\.", "decoder.up."),
    (r"\.res\.", ".block."),
    (r"\.mid\.0\.", ".mid.block_1."),
    (r"\.mid\.1\.", ".mid.attn_1."),
    (r"\.mid\.2\.", ".mid.block_2."),
)
DIFFUSERS: Renames = (
    (r"^encoder\.down_blocks\.", "encoder.down."),
    (r"^decoder\.up_blocks\.", "decoder.up."),
    (r"\.mid_block\.resnets\.0\.", ".mid.block_1."),
    (r"\.mid_block\.resnets\.1\.", ".mid.block_2."),
    (r"\.mid_block\.attentions\.0\.", ".mid.attn_1."),
    (r"\.resnets\.", ".block."),
    (r"\.attentions\.", ".attn."),
    (r"\.conv_shortcut\.", ".nin_shortcut."),
    (r"\.downsamplers\.0\.", ".downsample."),
    (r"\.upsamplers\.0\.", ".upsample."),
    (r"\.conv_norm_out\.", ".norm_out."),
    (r"\.group_norm\.", ".norm."),
    (r"\.(?:to_q|query)\.", ".q."),
    (r"\.(?:to_k|key)\.", ".k."),
    (r"\.(?:to_v|value)\.", ".v."),
    (r"\.(?:to_out\.0|proj_attn)\.", ".proj_out."),
)
OPENAI: Renames = ((r"\.w$", ".weight"), (r"\.b$", ".bias"))
FLAVA: Renames = (
    (r"^blocks\.", "encoder.blocks."),
    (r"\.group\.block_", ".block_"),
    (r"\.res_path\.path\.", ".res_path."),
)

MUSE = Layout(name="open-muse VQGANModel", marks=RESNET, classes=("VQGANModel",), low=0.0)

# The first that fits is taken.
LAYOUTS = (
    Layout(
        name="LlamaGen VQ",
        marks=(r"encoder\.conv_blocks\.0\.res\.0\.",),
        renames=LLAMAGEN,
        riders=(r"quantize\.codebook_used$",),  # ids that training saw last
        run_order=True,
        normalize=True,
    ),
    Layout(
        name="diffusers VQModel",
        marks=(r"encoder\.down_blocks\.0\.resnets\.0\.",),
        renames=DIFFUSERS,
        run_order=True,
    ),
    Layout(
        name="MaskGIT-VQGAN",
        marks=(r"encoder\.mid\.0\.conv1\.", r"decoder\.up\.\d+\.upsample_conv\."),
        shape=maskgit_config,
    ),
    Layout(
        name="Open-MAGVIT2",
        marks=(r"decoder\.adaptive\.0\.gamma\.",),
        shape=magvit2_config,
    ),
    Layout(
        name="OpenAI dVAE",
        marks=(r"encoder\.blocks\.input\.w$",),
        renames=OPENAI,
        shape=dvae_config,
    ),
    Layout(
        name="FLAVA image codebook",
        marks=(r"blocks\.group_1\.group\.block_1\.",),
        renames=FLAVA,
        shape=dvae_config,
        size=112,
    ),
    Layout(
        name="transformers Janus VQ",
        marks=(*RESNET, r"decoder\.up\.0\.upsample\.conv\."),  # a full-size level has none in taming's order
        run_order=True,
        size=384,
        normalize=True,
    ),
    Layout(
        name="transformers Chameleon VQ",  # the encoder alone; Meta's vqgan.ckpt is whole, in taming's layout
        marks=RESNET,
        absent=(r"decoder\.",),
        riders=(r"post_quant_conv\.",),
        size=512,
    ),
    Layout(
        name="taming Gumbel VQGAN",
        marks=(RESNET[0], r"quantize\.proj\."),
        shape=gumbel_config,
    ),
    Layout(  # taming's names, but other codes are chosen: told by deeper levels and the means it came with
        name="IBQ",
        marks=(*RESNET, r"encoder\.down\.0\.block\.3\.", r"model_ema\."),
        shape=ibq_config,
    ),
    MUSE,
    # Without a config: taming and latent diffusion publish .ckpt; only open-muse's has no attention there.
    replace(MUSE, classes=(), absent=(MIDDLE_ATTENTION,), suffixes=(".bin", ".safetensors", ".pt", ".pth")),
    Layout(name="taming VQGAN", marks=RESNET),  # latent diffusion's and Meta's Chameleon too
)
