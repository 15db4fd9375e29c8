"""Other people's pickles, read without running what they hold.

torch's own restricted unpickler (`weights_only=True`) makes tensors, numbers, strings and plain containers,
and refuses the rest. Published checkpoints also hold a few harmless objects of libraries: those become an
`Inert`, which keeps what it is given and does nothing. So a pickle can make nothing but tensors, plain
containers and inert objects, and whatever else it names is refused, by name.
"""

import pickle
import re
import struct
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

STAND_INS = (  # classes and functions that published files name; none of them is imported, let alone called
    "argparse.Namespace",  # LlamaGen's training arguments
    "pytorch_lightning.callbacks.early_stopping.EarlyStopping",
    "pytorch_lightning.callbacks.model_checkpoint.ModelCheckpoint",  # taming's, latent diffusion's
    "pytorch_lightning.utilities.parsing.AttributeDict",
    "lightning.pytorch.callbacks.model_checkpoint.ModelCheckpoint",  # Open-MAGVIT2's, IBQ's
    "lightning.fabric.utilities.data.AttributeDict",
    "numpy.core.multiarray.scalar",  # scores that callbacks keep
    "numpy.dtype",
    "dall_e.decoder.Decoder",  # OpenAI's dVAE, pickled as modules
    "dall_e.decoder.DecoderBlock",
    "dall_e.encoder.Encoder",
    "dall_e.encoder.EncoderBlock",
    "dall_e.utils.Conv2d",
    "torch.nn.modules.activation.ReLU",
    "torch.nn.modules.container.Sequential",
    "torch.nn.modules.linear.Identity",
    "torch.nn.modules.pooling.MaxPool2d",
    "torch.nn.modules.upsampling.Upsample",
)
# What torch's unpickler raises on bytes that are cut or changed.
DAMAGED = (
    OSError, RuntimeError, EOFError, LookupError, AttributeError, TypeError, AssertionError, struct.error,
)  # fmt: skip
NAMED = re.compile(r"GLOBAL ([\w.]+)|<class '([\w.]+)'>")  # in torch's message


class Inert:
    """Stands for an object of a class that is not there: keeps its attributes, does nothing."""

    def __init__(self, *arguments: Any, **named: Any) -> None:
        """Take whatever the pickle gives and drop it."""

    def __setstate__(self, state: Any) -> None:
        """Keep attributes; what is no mapping is dropped."""
        if isinstance(state, dict):
            self.__dict__.update(state)


def read_pickle(path: Path | str) -> Any:
    """What a file written by `torch.save` holds, on the CPU, foreign objects as `Inert`.

    Raises:
        ValueError: if the file is truncated, none of torch's, or names code that has no place there.
    """
    try:
        with torch.serialization.safe_globals([(Inert, name) for name in STAND_INS]):
            return torch.load(path, map_location="cpu", weights_only=True)
    except pickle.UnpicklingError as error:
        named = NAMED.search(str(error))
        if named is None:
            raise ValueError(f"{path} is damaged or no checkpoint of torch's: copy it again") from error
        raise ValueError(
            f"{path} holds {named[1] or named[2]}, which is code and was not run: if you trust whoever made "
            "the file, have its tensors saved as safetensors"
        ) from error
    except DAMAGED as error:
        if isinstance(error, OSError) and error.filename is not None:
            raise  # there is no such file, or it may not be read
        reason = (str(error).strip() or type(error).__name__).splitlines()[0]
        raise ValueError(f"{path} is truncated or no checkpoint of torch's ({reason})") from error


def module_tensors(module: Inert, prefix: str = "") -> Iterator[tuple[str, Tensor]]:
    """Names and tensors of a pickled `nn.Module`, as its state dict would have them."""
    for kind in ("_parameters", "_buffers"):
        held = module.__dict__.get(kind)
        for name, tensor in held.items() if isinstance(held, Mapping) else ():
            if isinstance(tensor, Tensor):
                yield prefix + name, tensor.detach()
    children = module.__dict__.get("_modules")
    for name, child in children.items() if isinstance(children, Mapping) else ():
        if isinstance(child, Inert):
            yield from module_tensors(child, f"{prefix}{name}.")
