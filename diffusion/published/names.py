"""What others call the tensors of a UNet: tables of names, and tensors copied by them, strictly.

Theirs and ours are the same network, so a tensor of theirs is a view of one of ours. The same table reads,
checks and writes.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from diffusion.networks.blocks import Attention, Double, Halve, ResidualBlock
from diffusion.networks.unet import UNet, UNetConfig
from vqtok.storage.tensors import check_tensors


@dataclass(frozen=True)
class Slot:
    """Where a tensor of theirs lies in our network.

    Args:
        view: Of ours; writing to it writes into the network.
        shape: Of theirs, with as many numbers in the same order.
    """

    view: Tensor
    shape: torch.Size

    def fill(self, tensor: Tensor) -> None:
        """Copy a tensor of theirs into the network."""
        self.view.copy_(tensor.reshape(self.view.shape))

    def read(self) -> Tensor:
        """The tensor as theirs is, a copy."""
        return self.view.clone(memory_format=torch.contiguous_format).reshape(self.shape)


@dataclass(frozen=True, kw_only=True)
class Names:
    """Names of layers inside the modules of a UNet, ours: theirs.

    Where theirs are several, stacked in one of ours, they are joined by " + ".

    Args:
        block: Inside a residual block.
        attention: Inside an attention.
        halve: Of the convolution inside what halves.
    """

    block: Mapping[str, str]
    attention: Mapping[str, str]
    halve: str

    def inside(self, module: nn.Module) -> Mapping[str, str]:
        """Those of one module; a plain layer has no layers inside."""
        tables = {ResidualBlock: self.block, Attention: self.attention}
        tables |= {Halve: {"conv": self.halve}, Double: {"conv": "conv"}}
        return tables.get(type(module), {"": ""})


def slots_of(unet: UNet, names: Names, places: Mapping[str, str]) -> dict[str, Slot]:
    """All tensors of `unet` by their names.

    Args:
        unet: Is written to by filling slots.
        names: Of layers.
        places: What they call our modules.
    """
    slots = {}
    for ours, theirs in places.items():
        module = unet.get_submodule(ours)
        for inner, named in names.inside(module).items():
            for kind, weight in module.get_submodule(inner).named_parameters():
                parts = named.split(" + ")
                for part, view in zip(parts, weight.detach().chunk(len(parts)), strict=True):
                    name = ".".join(filter(None, (theirs, part, kind)))
                    slots[name] = Slot(view, view.shape)
    return slots


@torch.no_grad()
def filled(
    config: UNetConfig, slots_of: Callable[[UNet], dict[str, Slot]], tensors: Mapping[str, Tensor], where: str
) -> UNet:
    """A UNet with published weights, in evaluation mode, float32.

    Raises:
        ValueError: naming tensors that are missing, extra or mis-shaped.
    """
    with torch.random.fork_rng(devices=[]):  # loading draws nothing from the caller's random numbers
        unet = config.build()
    slots = slots_of(unet)
    wanted = {name: torch.empty(slot.shape, device="meta") for name, slot in slots.items()}
    check_tensors(tensors, wanted, where)
    for name, slot in slots.items():
        slot.fill(tensors[name])
    return unet.eval()
