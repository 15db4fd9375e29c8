"""Reads the shape of a network off the names and shapes of its tensors.

Names are ours, as `loading.py` makes them. What tensors do not tell, such as the size and the range of
pixels, comes from the layout, and from the config beside the weights where there is one.
"""

import re
from collections.abc import Mapping
from typing import Any

from vqtok.tokenizers.autoencoder import AutoencoderConfig
from vqtok.tokenizers.dvae import DVAEConfig
from vqtok.tokenizers.magvit2 import MAGVIT2Config
from vqtok.tokenizers.maskgit import MaskGITConfig
from vqtok.tokenizers.quantizers.choice import QuantizerConfig
from vqtok.tokenizers.quantizers.gumbel import GumbelConfig
from vqtok.tokenizers.quantizers.ibq import IBQConfig
from vqtok.tokenizers.quantizers.lfq import LFQConfig
from vqtok.tokenizers.quantizers.vq import VQConfig
from vqtok.tokenizers.tokenizer import TokenizerConfig

Shape = tuple[int, ...]


class Shapes(dict[str, Shape]):
    """Shapes by name; a name that is not there is the user's file's fault, and says so."""

    def __missing__(self, name: str) -> Shape:
        raise ValueError(f"missing {name}, without which the network's shape is unknown")

    def kernel(self, name: str) -> Shape:
        """The four sizes of a convolution's weight."""
        return self._with_axes(name, 4)

    def table(self, name: str) -> Shape:
        """Rows and columns of a codebook."""
        return self._with_axes(name, 2)

    def _with_axes(self, name: str, axes: int) -> Shape:
        shape = self[name]
        if len(shape) != axes or 0 in shape:
            raise ValueError(f"mis-shaped {name} {shape}, which should have {axes} axes, none of them empty")
        return shape

    def count(self, pattern: str) -> int:
        """How many numbers stand where `pattern` has `#`, in names that begin so."""
        expression = re.compile(re.escape(pattern).replace(r"\#", r"(\d+)"))
        return len({found[1] for name in self if (found := expression.match(name))})

    def has(self, beginning: str) -> bool:
        """Whether any name begins so."""
        return any(name.startswith(beginning) for name in self)


def vq_config(shapes: Shapes, facts: Mapping[str, Any]) -> TokenizerConfig:
    """The ResNet family: taming, latent diffusion, open-muse, LlamaGen, Chameleon, Janus, diffusers."""
    return _resnet(shapes, facts, _codebook(shapes, normalize=facts["normalize"]))


def ibq_config(shapes: Shapes, facts: Mapping[str, Any]) -> TokenizerConfig:
    """The same network around a codebook that is asked for the largest dot product."""
    codes, width = shapes.table("quantize.embedding.weight")
    return _resnet(shapes, facts, IBQConfig(codes=codes, width=width))


def gumbel_config(shapes: Shapes, facts: Mapping[str, Any]) -> TokenizerConfig:
    """The same network around a classifier of codes."""
    codes, width = shapes.table("quantize.embed.weight")
    return _resnet(shapes, facts, GumbelConfig(codes=codes, width=width, hard=True))


def maskgit_config(shapes: Shapes, facts: Mapping[str, Any]) -> MaskGITConfig:
    """MaskGIT's VQGAN."""
    return MaskGITConfig(
        **_pyramid(shapes),
        quantizer=_codebook(shapes, normalize=False),
        groups=facts["groups"],
        size=facts["size"],
    )


def magvit2_config(shapes: Shapes, facts: Mapping[str, Any]) -> MAGVIT2Config:
    """Open-MAGVIT2's tokenizer."""
    return MAGVIT2Config(
        **_pyramid(shapes),
        quantizer=LFQConfig(bits=shapes.kernel("encoder.conv_out.weight")[0]),
        groups=facts["groups"],
        size=facts["size"],
        low=facts["low"],
    )


def dvae_config(shapes: Shapes, facts: Mapping[str, Any]) -> DVAEConfig:
    """OpenAI's dVAE, or its encoder alone."""
    decodes = shapes.has("decoder.")
    embedding = {"embedding": shapes.kernel("decoder.blocks.input.weight")[0]} if decodes else {}
    return DVAEConfig(
        **embedding,
        vocab=shapes.kernel("encoder.blocks.output.conv.weight")[0],
        channels=shapes.kernel("encoder.blocks.input.weight")[0],
        blocks=shapes.count("encoder.blocks.group_1.block_#."),
        size=facts["size"],
        decodes=decodes,
    )


def _resnet(shapes: Shapes, facts: Mapping[str, Any], quantizer: QuantizerConfig) -> TokenizerConfig:
    levels = range(shapes.count("encoder.down.#."))
    autoencoder = AutoencoderConfig(
        **_pyramid(shapes),
        attention_levels=tuple(level for level in levels if shapes.has(f"encoder.down.{level}.attn.")),
        middle_attention=shapes.has("encoder.mid.attn_1."),
        latent=shapes.kernel("encoder.conv_out.weight")[0],
        groups=facts["groups"],
    )
    decodes = shapes.has("decoder.")
    return TokenizerConfig(
        autoencoder=autoencoder, quantizer=quantizer, size=facts["size"], low=facts["low"], decodes=decodes
    )


def _pyramid(shapes: Shapes) -> dict[str, Any]:
    """Channels, multipliers and blocks, as all ResNet encoders here tell them."""
    channels = shapes.kernel("encoder.conv_in.weight")[0]
    levels = shapes.count("encoder.down.#.")
    widths = [shapes.kernel(f"encoder.down.{level}.block.0.conv1.weight")[0] for level in range(levels)]
    if any(width % channels for width in widths):
        raise ValueError(f"levels of {widths} channels, which are no multiples of the first's {channels}")
    return {
        "channels": channels,
        "multipliers": tuple(width // channels for width in widths),
        "blocks": shapes.count("encoder.down.0.block.#."),
    }


def _codebook(shapes: Shapes, normalize: bool) -> VQConfig:
    codes, width = shapes.table("quantize.embedding.weight")
    return VQConfig(codes=codes, width=width, normalize=normalize)
