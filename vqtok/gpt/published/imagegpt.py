"""transformers' `ImageGPTForCausalImageModeling` (Chen et al. 2020), as on the hub under `openai/imagegpt-*`.

What it calls a layer norm does not take the mean away: it is an RMSNorm. Its last id is a start token that is
never scored: here it is a prefix, and the vocabulary is the palette. Biases, which OpenAI's model lacks, are
zero in its files and kept.
"""

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from vqtok.gpt.config import GPTConfig
from vqtok.gpt.model import GPT
from vqtok.gpt.norms import RMSNormConfig
from vqtok.gpt.prefix import SOSConfig
from vqtok.gpt.published.files import Source, read_published
from vqtok.gpt.published.gpt2 import BLOCK, IGNORED, gpt2_config, rescaled, settings_of
from vqtok.gpt.published.names import Names, check_family, filled

NAMES = Names(
    family="an ImageGPT",
    layer="transformer.h.{}.",
    whole={
        "embed.weight + prefix.vector": "transformer.wte.weight",
        "positions.weight": "transformer.wpe.weight",
        "norm.weight": "transformer.ln_f.weight",
        "head.weight": "lm_head.weight",
    },
    block=BLOCK,
    transposed=True,
    ignored=IGNORED,
)


def load_imagegpt(source: Source, settings: Mapping[str, Any] | None = None) -> GPT:
    """A GPT with the weights of an ImageGPT, in evaluation mode, float32, without dropout.

    Its start token comes by itself: `gpt(pixels[:, :-1])` scores every pixel, the first too.

    Args:
        source: A folder with config.json and weights, safetensors or .bin, in one file or in shards with
            their index; `owner/name` on the hub; or tensors by name.
        settings: What config.json says; None reads it.

    Raises:
        ValueError: naming the file that is missing or damaged, the setting that has no counterpart here, or
            the tensors that are missing, extra or mis-shaped.
    """
    published = read_published(source)
    check_family(NAMES, published)
    if "score.weight" in published.tensors:
        raise ValueError(
            f"{published.where} is an ImageGPT that classifies, without a head for pixels: take the one it "
            "began from"
        )
    settings = settings_of(published, settings)
    return rescaled(filled(imagegpt_config(settings), NAMES, published), settings)


def imagegpt_config(settings: Mapping[str, Any]) -> GPTConfig:
    """The shape told by an ImageGPT's config.json.

    Raises:
        ValueError: if a setting is missing, or has no counterpart here.
    """
    settings = {"activation_function": "quick_gelu", "tie_word_embeddings": False, **settings}
    if settings["tie_word_embeddings"]:
        raise ValueError("config.json: tie_word_embeddings is True, but ImageGPT's head has a row less")
    config = gpt2_config(settings)
    norm = RMSNormConfig(eps=config.norm.eps)
    return replace(config, vocab=config.vocab - 1, norm=norm, prefix=SOSConfig())
