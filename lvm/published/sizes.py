"""The sizes that Bai et al. 2023 named, and the shape that tensors alone tell.

From `LLAMA_STANDARD_CONFIGS` in EasyLM/models/llama/llama_model.py of github.com/ytongbai/LVM, where they are
called vqlm_debug, vqlm_100m and so on. All have LLaMA's parts, untied.
"""

from collections.abc import Mapping
from dataclasses import dataclass

from torch import Tensor

from lvm.layout import RESERVED
from vqtok.gpt.config import GPTConfig
from vqtok.gpt.norms import RMSNormConfig
from vqtok.gpt.positions import RoPEConfig

CODES, LENGTH = 8192, 4096


@dataclass(frozen=True)
class Size:
    """What differs from size to size; arguments as `GPTConfig`."""

    width: int
    hidden: int
    depth: int
    heads: int


SIZES = {
    "debug": Size(128, 256, 2, 4),
    "100m": Size(640, 1664, 22, 10),
    "300m": Size(1024, 2688, 22, 8),
    "600m": Size(1536, 4096, 22, 16),
    "1b": Size(2048, 5504, 22, 16),
    "3b": Size(3200, 8640, 26, 32),
    "7b": Size(4096, 11008, 32, 32),  # the one whose weights were published
    "13b": Size(5120, 13824, 40, 40),
    "20b": Size(6144, 16128, 46, 48),
    "30b": Size(6656, 17920, 60, 52),
}


@dataclass(frozen=True)
class Roles:
    """Names of the tensors that tell a shape.

    Args:
        embed: (v, d).
        gate: (f, d), of the first layer; f is the hidden width.
        layer: What the names of a layer's tensors begin with, up to its number.
    """

    embed: str
    gate: str
    layer: str


def official_config(size: str) -> GPTConfig:
    """The transformer of a named size, for `lvm.layout.BareConfig`.

    Args:
        size: One of `SIZES`, such as 7b.

    Raises:
        ValueError: if there is no such size.
    """
    if size not in SIZES:
        raise ValueError(f"no size is called {size!r}: there are {', '.join(SIZES)}")
    return _config(CODES + RESERVED, SIZES[size])


def config_of_tensors(
    tensors: Mapping[str, Tensor], roles: Roles, where: str, heads: int | None = None
) -> GPTConfig:
    """The shape that tensors tell; the number of heads, which they do not, is that of the named size.

    Args:
        tensors: By name, matrices (out, in).
        roles: Names of those that tell.
        where: Name of the file, for errors.
        heads: Of a size that has no name.

    Raises:
        ValueError: if one that tells is missing, or the number of heads cannot be told.
    """
    for name in (roles.embed, roles.gate):
        if name not in tensors or tensors[name].ndim != 2:
            raise ValueError(f"{where} is no large vision model: missing {name}, a matrix")
    vocab, width = tensors[roles.embed].shape
    numbers = [
        name.removeprefix(roles.layer).split(".")[0] for name in tensors if name.startswith(roles.layer)
    ]
    depth = 1 + max(int(number) for number in numbers if number.isdecimal())
    named = [size.heads for size in SIZES.values() if (size.width, size.depth) == (width, depth)]
    if heads is None and not named:
        raise ValueError(
            f"{where} has {depth} layers of width {width}, which is no named size: give heads=, or put the "
            "weights into a folder with a config.json"
        )
    return _config(vocab, Size(width, len(tensors[roles.gate]), depth, heads or named[0]))


def _config(vocab: int, size: Size) -> GPTConfig:
    """LLaMA of that size, with the constants of all of them."""
    norm, positions = RMSNormConfig(eps=1e-6), RoPEConfig(base=10_000.0)
    return GPTConfig(vocab=vocab, length=LENGTH, **vars(size), norm=norm, positions=positions)
