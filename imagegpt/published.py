"""Published ImageGPTs as bundles of ours: transformers' folders, and the variables of OpenAI's release.

transformers keeps palette and transformer in one folder, `openai/imagegpt-small` and its sisters, or what it
saves of a model that names classes. OpenAI's release is TensorFlow checkpoints; their variables by name,

    np.savez("igpt-s.npz", **{name: reader.get_tensor(name) for name in reader.get_variable_to_shape_map()})

are read here, also those of its BERT models, which transformers has no place for.

Letters: n heads, k head width, d width, v colors, c classes.
"""

import re
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any
from zipfile import BadZipFile

import numpy as np
import torch
from einops import rearrange
from torch import Tensor

from imagegpt.model import ImageGPT, ImageGPTConfig
from vqtok.gpt.config import AttentionConfig, GPTConfig
from vqtok.gpt.masks import CausalConfig, FullConfig
from vqtok.gpt.mlps import QuickGELUConfig
from vqtok.gpt.model import GPT
from vqtok.gpt.norms import RMSNormConfig
from vqtok.gpt.positions import LearnedConfig
from vqtok.gpt.prefix import SOSConfig
from vqtok.gpt.published.files import read_published
from vqtok.gpt.published.imagegpt import load_imagegpt
from vqtok.storage.hub import OutOfReach
from vqtok.storage.tensors import check_tensors
from vqtok.tokenizers.palette import PaletteTokenizer
from vqtok.tokenizers.published.files import config_of, names_file
from vqtok.tokenizers.published.palettes import MODEL, PREPROCESSOR, find_palette, read_palette

EPS = 1e-5  # of the norms in OpenAI's code
SCOPE = re.compile(r"^model/(?!.*/(Adam|Adafactor))")  # of variables, without what optimizers keep of them
WHOLE = {"wte": "embed.weight", "wpe": "positions.weight", "ln_f/g": "norm.weight", "wtet": "head.weight"}


def is_imagegpt(source: str | Path) -> bool:
    """Whether `source` is a published ImageGPT: a folder or hub id of transformers', or an .npz of variables.

    What the hub cannot be asked about is none.

    Raises:
        ValueError: if a config.json is damaged, or the hub refuses.
    """
    if Path(source).suffix == ".npz":
        return Path(source).is_file()
    try:
        return not names_file(source) and config_of(source).get("model_type") == MODEL
    except OutOfReach:
        return False


def import_imagegpt(source: str | Path, folder: str | Path, palette: str | Path | None = None) -> str:
    """Write a published ImageGPT as a folder of ours, whole or not at all.

    Args:
        source: A folder of transformers' or its hub id, or an .npz of OpenAI's variables.
        folder: Where config.json and model.safetensors shall lie.
        palette: Its colors, where `source` does not hold them: OpenAI's kmeans_centers.npy, or a folder.

    Returns:
        One line about what was found.

    Raises:
        ValueError: as `load_published`, or if `folder` holds other files.
    """
    model = load_published(source, palette)
    model.save_pretrained(folder)
    gpt = model.config.gpt
    sees = "the past" if gpt.causal else "both sides"
    named = f", {len(model.config.classes)} classes" if model.classifier is not None else ""
    silent = "" if model.gpt.head.weight.any() else ", without a head for colors"
    parameters = sum(parameter.numel() for parameter in model.parameters())
    return (
        f"ImageGPT that sees {sees}{named}{silent}: {gpt.depth} layers of width {gpt.width}, "
        f"{model.layout.tokens} tokens of {gpt.vocab} colors, {parameters:,} parameters"
    )


def load_published(source: str | Path, palette: str | Path | None = None) -> ImageGPT:
    """A published ImageGPT with its palette, in evaluation mode, float32; arguments as `import_imagegpt`.

    One that names classes has no head for colors in transformers' files; all of them are equally likely here.

    Raises:
        ValueError: naming the file that is missing or damaged, the setting that has no counterpart here, or
            the tensors that are missing, extra or mis-shaped.
    """
    npz = Path(source).suffix == ".npz"
    gpt, classifier, names = _from_variables(read_npz(source)) if npz else _from_transformers(source)
    found = find_palette(palette or (Path(source).parent if npz else source))
    if found is None:
        raise ValueError(f"{palette or source} holds no palette: give {PREPROCESSOR} or kmeans_centers.npy")
    side = round(gpt.config.length**0.5)
    tokenizer = read_palette(found, side)
    return _bundle(tokenizer, gpt, classifier, names)


def read_npz(path: str | Path) -> dict[str, np.ndarray]:
    """Arrays of an .npz file by name.

    Raises:
        ValueError: if it is damaged, or holds objects.
    """
    try:
        with np.load(path, allow_pickle=False) as arrays:
            return dict(arrays)
    except (ValueError, OSError, EOFError, BadZipFile) as error:
        raise ValueError(f"{path} is truncated or no .npz of numbers ({error}): copy it again") from error


def _bundle(
    tokenizer: PaletteTokenizer, gpt: GPT, classifier: Tensor | None, names: tuple[str, ...]
) -> ImageGPT:
    config = ImageGPTConfig(
        tokenizer=tokenizer.config, gpt=gpt.config, classes=names, classifier=classifier is not None
    )
    with torch.random.fork_rng(devices=[]):  # loading draws nothing from the caller's random numbers
        model = ImageGPT(config)
    model.tokenizer, model.gpt = tokenizer, gpt
    if classifier is not None:
        model.classifier.load_state_dict({"weight": classifier})
    return model.eval()


def _from_transformers(source: str | Path) -> tuple[GPT, Tensor | None, tuple[str, ...]]:
    """Transformer, classifier (c, d) and names of classes of a folder."""
    published = read_published(source if not Path(source).exists() else Path(source))
    tensors, settings = dict(published.tensors), published.settings
    classifier = tensors.pop("score.weight", None)
    if classifier is None:
        return load_imagegpt(tensors, settings), None, ()
    tensors["lm_head.weight"] = torch.zeros(settings.get("vocab_size", 1) - 1, classifier.shape[1])
    names = settings.get("id2label") or {}
    classes = tuple(str(names.get(str(number), number)) for number in range(len(classifier)))
    return load_imagegpt(tensors, settings), classifier, classes


def _from_variables(arrays: Mapping[str, np.ndarray]) -> tuple[GPT, Tensor | None, tuple[str, ...]]:
    """Transformer, classifier (c, d) and names of classes of OpenAI's variables."""
    found = {SCOPE.sub("", name): torch.from_numpy(np.array(array, np.float32))
             for name, array in arrays.items() if SCOPE.match(name)}  # fmt: skip
    classifier = found.pop("clf/wclf", None)
    config = _config(found)
    with torch.random.fork_rng(devices=[]):
        gpt = GPT(config)
    tensors = _renamed(found, config.depth)
    check_tensors(tensors, gpt.state_dict(), "the .npz, in our names,")
    gpt.load_state_dict(tensors)
    names = () if classifier is None else tuple(map(str, range(len(classifier))))
    return gpt.eval(), classifier, names


def _config(found: Mapping[str, Tensor]) -> GPTConfig:
    """The shape that variables tell; without a start token the model sees both sides."""
    try:
        (vocab, width), length = found["wte"].shape, len(found["wpe"])
        heads = len(found["h0/attn/q_proj"])
    except (KeyError, ValueError) as error:
        raise ValueError(f"the .npz is no ImageGPT: model/{error} is missing or has another shape") from error
    depth = 1 + max(int(name[1:].split("/")[0]) for name in found if re.match(r"h\d+/", name))
    causal = "sos" in found
    return GPTConfig(
        vocab=vocab,
        length=length,
        width=width,
        depth=depth,
        heads=heads,
        norm=RMSNormConfig(eps=EPS),
        mlp=QuickGELUConfig(bias=False),
        positions=LearnedConfig(),
        attention=AttentionConfig(mask=CausalConfig() if causal else FullConfig()),
        prefix=SOSConfig() if causal else None,
    )


def _renamed(found: Mapping[str, Tensor], depth: int) -> dict[str, Tensor]:
    """Variables under our names, turned as ours lie; those that are unknown keep theirs, and are refused."""
    rest = dict(found)
    tensors = {ours: rest.pop(theirs) for theirs, ours in WHOLE.items() if theirs in rest}
    if "sos" in rest:
        tensors["prefix.vector"] = rest.pop("sos")[None]
    for layer in range(depth):
        mine, theirs = f"blocks.{layer}.", f"h{layer}/"
        for name, turn in BLOCK.items():
            if theirs + name in rest:
                ours, tensor = turn
                tensors[mine + ours] = tensor(rest.pop(theirs + name))
        parts = [rest.pop(f"{theirs}attn/{part}_proj", None) for part in "qkv"]
        if all(part is not None for part in parts):
            tensors[f"{mine}attention.qkv.weight"] = torch.cat([_heads(part) for part in parts])
    return tensors | rest


def _heads(part: Tensor) -> Tensor:
    """(n k, d) of (n, k, d)."""
    return rearrange(part, "n k d -> (n k) d")


BLOCK: dict[str, tuple[str, Callable[[Tensor], Any]]] = {  # theirs: ours, and how it is turned
    "ln_1/g": ("attention_norm.weight", Tensor.contiguous),
    "attn/c_proj": ("attention.out.weight", lambda part: _heads(part).T.contiguous()),
    "ln_2/g": ("mlp_norm.weight", Tensor.contiguous),
    "mlp/c_fc/w": ("mlp.up.weight", lambda matrix: matrix.T.contiguous()),
    "mlp/c_proj/w": ("mlp.down.weight", lambda matrix: matrix.T.contiguous()),
}
