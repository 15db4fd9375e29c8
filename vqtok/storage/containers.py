"""Files that others keep weights in: safetensors, and what `torch.save` wrote, opened down to the tensors.

Pickles are read without running what they hold, `vqtok.storage.pickles`.
"""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from torch import Tensor

from vqtok.storage.pickles import Inert, module_tensors, read_pickle
from vqtok.storage.tensors import read_tensors

INSIDE = ("ema", "model", "module", "state_dict", "model_state_dict")  # where checkpoints keep weights


def open_checkpoint(
    path: Path, inside: Sequence[str] = INSIDE
) -> tuple[dict[str, Tensor], dict[str, Any]]:
    """The tensors of one file by name, and what a checkpoint of training keeps beside them.

    Args:
        path: The file; its suffix says what it is.
        inside: Entries in which tensors may lie, the preferred first; one may lie in another.

    Raises:
        ValueError: if the file is truncated, no checkpoint, holds code, or holds no tensors by name.
    """
    if path.suffix == ".safetensors":
        return read_tensors(path), {}
    content, beside = read_pickle(path), {}
    if isinstance(content, Inert):
        content = dict(module_tensors(content))
    for key in inside:
        if isinstance(content, dict) and isinstance(content.get(key), dict):
            beside |= {name: item for name, item in content.items() if name != key}
            content = content[key]
    tensors = content if isinstance(content, dict) else {}
    tensors = {name: item for name, item in tensors.items() if isinstance(item, Tensor)}
    if not tensors:
        raise ValueError(f"{path} holds no tensors by name: is this a checkpoint of a model?")
    return tensors, beside
