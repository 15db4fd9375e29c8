"""The named sizes: their parameters and tensors, counted without allocating them."""

import pytest
import torch

from lvm.published.sizes import SIZES, Roles, config_of_tensors, official_config
from vqtok.gpt.model import GPT
from vqtok.gpt.published.llama import NAMES
from vqtok.gpt.published.names import stacks_of

MILLIONS = {
    "debug": 2.45, "100m": 117.0, "300m": 291.0, "600m": 648.4, "1b": 1147, "3b": 3275, "7b": 6544.2,
    "13b": 12770, "20b": 20720, "30b": 32210,
}  # fmt: skip


@pytest.mark.parametrize("name", SIZES)
def test_parameters(name: str):
    """Of every size, on the meta device: two tables, and of each layer 4 d d + 3 d f + 2 d."""
    config, size = official_config(name), SIZES[name]
    with torch.device("meta"):
        gpt = GPT(config)
    count = sum(parameter.numel() for parameter in gpt.parameters())
    d, f = size.width, size.hidden
    assert count == config.parameters == 2 * 8292 * d + size.depth * (4 * d * d + 3 * d * f + 2 * d) + d
    assert count / 1e6 == pytest.approx(MILLIONS[name], rel=1e-3)
    assert len(stacks_of(gpt, NAMES)) == 9 * size.depth + 3


def test_the_published_size():
    """7b is 291 tensors of a `LlamaForCausalLM`, 6,544.2 M numbers; 16 images of 256 tokens fit."""
    config = official_config("7b")
    with torch.device("meta"):
        tensors = stacks_of(GPT(config), NAMES)
    assert len(tensors) == 291 and config.length == 16 * 256
    assert round(sum(stack.shape.numel() for stack in tensors.values()) / 1e6, 1) == 6544.2
    assert official_config("3b").head_width == 100


def test_other_sizes_are_refused():
    """The message lists those that there are."""
    with pytest.raises(ValueError, match="no size is called '70b': there are debug, 100m"):
        official_config("70b")


def test_tensors_tell_their_shape():
    """A named size comes back from its shapes; heads that nobody tells must be given."""
    with torch.device("meta"):
        shapes = {name: torch.empty(stack.shape) for name, stack in
                  stacks_of(GPT(official_config("300m")), NAMES).items()}  # fmt: skip
    roles = Roles("model.embed_tokens.weight", "model.layers.0.mlp.gate_proj.weight", "model.layers.")
    assert config_of_tensors(shapes, roles, "it") == official_config("300m")
    del shapes["model.layers.21.mlp.up_proj.weight"]
    assert config_of_tensors(shapes, roles, "it").depth == 22  # the rest of the layer tells
    fewer = {name: tensor for name, tensor in shapes.items() if ".21." not in name}
    with pytest.raises(ValueError, match="21 layers of width 1024, which is no named size: give heads="):
        config_of_tensors(fewer, roles, "it")
    assert config_of_tensors(fewer, roles, "it", heads=4).heads == 4
    with pytest.raises(ValueError, match="it is no large vision model: missing model.embed_tokens.weight"):
        config_of_tensors({}, roles, "it")
