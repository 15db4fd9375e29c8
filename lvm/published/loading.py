"""Published LVMs as bundles of ours, and ours as folders for transformers.

What was published is two things: a `LlamaForCausalLM` (Emma02/LVM_ckpts), and open-muse's tokenizer of 8192
codes (Emma02/vqvae_ckpts). The layout is `lvm.layout.BareLayout`: codes, and 100 ids above them that are
neither given nor drawn.
"""

from pathlib import Path
from typing import Any

import torch

from lvm.layout import BareConfig
from lvm.model import LVM, LVMConfig, usable
from lvm.published.easylm import easylm_config, easylm_model, is_easylm, read_easylm
from lvm.published.sizes import Roles, config_of_tensors
from vqtok.gpt.config import GPTConfig
from vqtok.gpt.model import GPT
from vqtok.gpt.published.files import read_published
from vqtok.gpt.published.llama import NAMES, llama_config, load_llama, save_llama
from vqtok.gpt.published.names import check_family, filled
from vqtok.storage.flax import is_flax
from vqtok.storage.hub import OutOfReach
from vqtok.tokenizers.loading import load_tokenizer
from vqtok.tokenizers.published.files import config_of, names_file
from vqtok.tokenizers.tokenizer import VQTokenizer

MODEL = "llama"  # what config.json calls it
BESIDE = "tokenizer"  # a folder in that of the transformer
ON_HUB = {"Emma02/LVM_ckpts": "Emma02/vqvae_ckpts"}
ROLES = Roles("model.embed_tokens.weight", "model.layers.0.mlp.gate_proj.weight", "model.layers.")


def is_lvm(source: str | Path) -> bool:
    """Whether `source` is a published LVM's transformer: a LLaMA's folder or hub id, or a file of Flax's.

    What the hub cannot be asked about is none.

    Raises:
        ValueError: if a config.json is damaged, or the hub refuses.
    """
    if Path(source).is_file():
        return is_flax(source)
    try:
        return not names_file(source) and config_of(source).get("model_type") == MODEL
    except OutOfReach:
        return False


def import_lvm(
    source: str | Path, folder: str | Path, tokenizer: str | Path | None = None, heads: int | None = None
) -> str:
    """Write a published LVM as a folder of ours, whole or not at all.

    Args:
        source: As `load_lvm`.
        folder: Where config.json and model.safetensors shall lie.
        tokenizer: As `load_lvm`.
        heads: As `load_lvm`.

    Returns:
        One line about what was found.

    Raises:
        ValueError: as `load_lvm`, or if `folder` holds other files.
    """
    model = load_lvm(source, tokenizer, heads)
    model.save_pretrained(folder)
    gpt, layout = model.config.gpt, model.layout
    return (
        f"LVM: {gpt.depth} layers of width {gpt.width}, {layout.codes} codes and {gpt.vocab - layout.codes} "
        f"ids above them, {layout.tokens} tokens an image, {model.shots} pairs before a query, "
        f"{gpt.parameters:,} parameters and the tokenizer's"
    )


def load_lvm(source: str | Path, tokenizer: str | Path | None = None, heads: int | None = None) -> LVM:
    """A published LVM with its tokenizer, in evaluation mode, float32.

    Args:
        source: A `LlamaForCausalLM`'s folder, its file of weights, or `owner/name` on the hub; or EasyLM's
            file, a stream, a Flax tree or a pickled one.
        tokenizer: What `load_tokenizer` takes. None looks for a folder `tokenizer` in that of `source`, and
            on the hub for what its authors published with it.
        heads: Of attention, for a file without config.json whose size has no name (`SIZES`).

    Raises:
        ValueError: naming the file that is missing or damaged or holds code, the tensors that are missing,
            extra or mis-shaped, a setting that has no counterpart here, a head tied to the embedding, a
            vocabulary that is not the tokenizer's codes and the ids above them, or images too long for it.
    """
    place = str(tokenizer or _tokenizer_beside(source))
    images = usable(load_tokenizer(place), place)
    if is_easylm(source):
        published = read_easylm(source)
        config = _config(images, easylm_config(published, heads), published.where)
        return _bundle(config, images, easylm_model(published, config.gpt))
    return _from_transformers(source, images, heads)


def export_llama(model: LVM, folder: str | Path, dtype: torch.dtype | None = None) -> None:
    """Write an LVM's transformer as a folder that transformers reads as a `LlamaForCausalLM`.

    Its generation_config.json keeps `generate` from drawing anything but codes and from ending early, so that
    `max_new_tokens` of an image's tokens give a whole image. The tokenizer is not in it.

    Args:
        model: One of LLaMA's architecture: without `gpt.period`, which the recipes here set.
        folder: A new one, written whole or not at all.
        dtype: Keep weights as this type; None keeps theirs.

    Raises:
        ValueError: if a part of the transformer has no counterpart in a LLaMA.
        FileExistsError: if there is such a folder.
    """
    banned = (~model.layout.drawable).nonzero().flatten().tolist()
    drawing: dict[str, Any] = {"bos_token_id": None, "eos_token_id": None, "pad_token_id": None}
    save_llama(model.gpt, folder, dtype, generation=drawing | {"suppress_tokens": banned})


def _from_transformers(source: str | Path, tokenizer: VQTokenizer, heads: int | None) -> LVM:
    """As `load_lvm`, of transformers' files; what config.json tells is checked before weights are read."""
    if settings := config_of(source):
        config = _config(tokenizer, llama_config(settings), str(source))
        return _bundle(config, tokenizer, load_llama(source, config.gpt))
    published = read_published(source)
    check_family(NAMES, published)
    told = config_of_tensors(published.tensors, ROLES, published.where, heads)
    config = _config(tokenizer, told, published.where)
    return _bundle(config, tokenizer, filled(config.gpt, NAMES, published))


def _config(tokenizer: VQTokenizer, gpt: GPTConfig, where: str) -> LVMConfig:
    """Both parts' settings, if they are a published LVM's."""
    if gpt.head.tied:
        raise ValueError(
            f"{where}: tie_word_embeddings is true, but the head of an LVM is a matrix of its own: is this "
            "another model?"
        )
    layout = BareConfig()
    vocab = layout.build(tokenizer.vocab, tokenizer.tokens).vocab
    if gpt.vocab != vocab:
        raise ValueError(
            f"{where} has a vocabulary of {gpt.vocab}, but {tokenizer.vocab} codes and {layout.reserved} ids "
            f"above them make {vocab}: give the tokenizer that it was trained with"
        )
    if gpt.length < 2 * tokenizer.tokens:
        raise ValueError(
            f"{where}: {tokenizer.tokens} tokens an image leave no room for a query and its answer in "
            f"{gpt.length}: give the tokenizer that it was trained with, for pictures of its size"
        )
    return LVMConfig(tokenizer=tokenizer.config, gpt=gpt, layout=layout)


def _bundle(config: LVMConfig, tokenizer: VQTokenizer, gpt: GPT) -> LVM:
    with torch.device("meta"):  # both parts are there already, and may be large
        model = LVM(config)
    model.tokenizer, model.gpt = tokenizer, gpt
    return model.eval()


def _tokenizer_beside(source: str | Path) -> str | Path:
    """Where the tokenizer of a published LVM is.

    Raises:
        ValueError: if that cannot be told.
    """
    place = Path(source)
    if not place.exists() and str(source) in ON_HUB:
        return ON_HUB[str(source)]
    found = (place.parent if place.is_file() else place) / BESIDE
    if not found.is_dir():
        raise ValueError(
            f"{source} has no folder `{BESIDE}` with the tokenizer: name a tokenizer, such as LVM's "
            f"{', '.join(ON_HUB.values())} or where it was downloaded to"
        )
    return found
