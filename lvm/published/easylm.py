"""Weights of LVM's own trainer, EasyLM: Flax streams and pickled trees, under its names.

Its matrices lie the other way round, (in, out), and its rotary embedding turns channels 2 k and 2 k + 1 of a
head together, where ours turns k and k + half (Su et al. 2021). So matrices are turned, and rows of queries
and keys put in the order of halves, as `convert_easylm_to_hf.py` of github.com/ytongbai/LVM does.

Letters: n heads, k half a head's width, d width.
"""

import re
from collections.abc import Mapping
from pathlib import Path

from einops import rearrange
from torch import Tensor

from lvm.published.sizes import Roles, config_of_tensors
from vqtok.gpt.config import GPTConfig
from vqtok.gpt.model import GPT
from vqtok.gpt.published.files import Published
from vqtok.gpt.published.names import Names, filled
from vqtok.storage.arrays import read_arrays
from vqtok.storage.flax import is_flax, read_flax

PICKLES = (".pkl", ".pickle")
NAMES = Names(
    family="a LLaMA of EasyLM",
    layer="transformer.h.{}.",
    whole={
        "embed.weight": "transformer.wte.embedding",
        "norm.weight": "transformer.ln_f.kernel",
        "head.weight": "lm_head.kernel",
    },
    block={
        "attention_norm.weight": "attention_norm.kernel",
        "attention.qkv.weight": "attention.wq.kernel + attention.wk.kernel + attention.wv.kernel",
        "attention.out.weight": "attention.wo.kernel",
        "mlp_norm.weight": "ffn_norm.kernel",
        "mlp.gate_up.weight": "feed_forward.w1.kernel + feed_forward.w3.kernel",
        "mlp.down.weight": "feed_forward.w2.kernel",
    },
)
ROLES = Roles("transformer.wte.embedding", "transformer.h.0.feed_forward.w1.kernel", "transformer.h.")
PREFIX = re.compile(r"^(params\.){1,2}")  # in whole states of training; `streaming_params` has none
LEFT_OUT = re.compile(r"^(opt_state\.|step$)")  # of such states
TURNING = re.compile(r"\.attention\.w[qk]\.kernel$")


def is_easylm(path: str | Path) -> bool:
    """Whether this is a file that EasyLM's weights may lie in: msgpack, or named as a pickle."""
    place = Path(path)
    return place.is_file() and (place.suffix in PICKLES or is_flax(place))


def read_easylm(path: str | Path) -> Published:
    """Weights of a file by EasyLM's names, matrices (out, in); what optimizers keep is left out.

    Raises:
        ValueError: if the file is damaged, holds code, or two of its names mean the same weight.
    """
    place = Path(path)
    if is_flax(place):
        found = read_flax(place, wanted=lambda name: not LEFT_OUT.match(name))
    else:
        found = {name: array for name, array in read_arrays(place).items() if not LEFT_OUT.match(name)}
    tensors: dict[str, Tensor] = {}
    for name, tensor in found.items():
        short = PREFIX.sub("", name.replace("/", "."))
        if short in tensors:
            raise ValueError(f"{place} holds {short} twice: give a file of one model")
        tensors[short] = tensor.T if short.endswith(".kernel") and tensor.ndim == 2 else tensor
    return Published(str(place), tensors)


def easylm_config(published: Published, heads: int | None = None) -> GPTConfig:
    """The shape that EasyLM's weights tell; arguments and errors as `config_of_tensors`."""
    return config_of_tensors(published.tensors, ROLES, published.where, heads)


def easylm_model(published: Published, config: GPTConfig) -> GPT:
    """A GPT with EasyLM's weights, in evaluation mode, float32.

    Raises:
        ValueError: naming, as EasyLM does, the tensors that are missing, extra or mis-shaped.
    """
    return filled(config, NAMES, Published(published.where, _in_halves(published.tensors, config)))


def _in_halves(tensors: Mapping[str, Tensor], config: GPTConfig) -> dict[str, Tensor]:
    """With rows of queries and keys in the order in which the halves of a head turn together."""
    whole = (config.width, config.width)  # what is mis-shaped stays, to be named as it is
    return {
        name: rearrange(tensor, "(n k two) d -> (n two k) d", n=config.heads, two=2)
        if TURNING.search(name) and tensor.shape == whole
        else tensor
        for name, tensor in tensors.items()
    }
