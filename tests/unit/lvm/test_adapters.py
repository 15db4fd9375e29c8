"""Adapters: none at first, alone in the state dict, merged without a change, read again by peft."""

import sys
from pathlib import Path

import peft
import pytest
import torch
from torch import Tensor

from lvm.adapters import Adapted, AdapterConfig
from vqtok.gpt.config import GPTConfig
from vqtok.gpt.mlps import GELUConfig, MLPConfig, SwiGLUConfig
from vqtok.gpt.model import GPT

IDS = torch.arange(24).view(2, 12) % 11


def gpt(mlp: MLPConfig | None = None) -> GPT:
    """An untrained transformer, the same every time."""
    torch.manual_seed(0)
    return GPT(GPTConfig(vocab=11, length=12, width=16, depth=2, heads=2, mlp=mlp or SwiGLUConfig())).eval()


def learned(seed: int = 1, **settings: float) -> Adapted:
    """Adapters as if they had learned something."""
    adapted = Adapted(gpt(), AdapterConfig(**settings), "somebody/lvm").eval()
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for weight in adapted.parameters():
            if weight.requires_grad:
                weight.normal_(std=0.3, generator=generator)
    return adapted


def base(adapted: Adapted) -> dict[str, Tensor]:
    """What is frozen, by the names that it has without adapters."""
    return {
        name.replace(".base_layer", ""): weight
        for name, weight in adapted.gpt.named_parameters() if "lora" not in name
    }  # fmt: skip


@pytest.mark.parametrize("mlp", [SwiGLUConfig(), GELUConfig()])
def test_new_adapters_change_nothing(mlp: MLPConfig):
    """Scores are those of the transformer to the bit, and all matrices of its blocks have an adapter."""
    wanted = gpt(mlp)(IDS)
    adapted = Adapted(gpt(mlp), AdapterConfig(rank=3), "somebody/lvm").eval()
    assert torch.equal(adapted(IDS), wanted)
    matrices = sum(weight.ndim == 2 for weight in gpt(mlp).blocks.parameters())
    assert len(adapted.state_dict()) == 2 * matrices


def test_what_is_added_is_the_product_of_two_matrices():
    """W + alpha / rank B A, for the one matrix of queries, keys and values as for any other."""
    adapted = learned(rank=3, alpha=12.0)
    name = "peft.base_model.model.blocks.1.attention.qkv.lora_{}.default.weight"
    a, b = (adapted.state_dict()[name.format(letter)] for letter in "AB")
    assert a.shape == (3, 16) and b.shape == (48, 3)
    wanted = gpt().blocks[1].attention.qkv.weight + 12 / 3 * b @ a
    torch.testing.assert_close(adapted.merged().blocks[1].attention.qkv.weight, wanted)


def test_merged_is_adapted():
    """The scores of both are the same, to the rounding of float32, and those of the base are others."""
    adapted = learned()
    wanted = adapted(IDS)
    merged = adapted.merged()
    assert type(merged) is GPT and merged.state_dict().keys() == gpt().state_dict().keys()
    torch.testing.assert_close(merged(IDS), wanted, atol=1e-5, rtol=1e-5)
    assert (wanted - gpt()(IDS)).abs().max() > 0.1


def test_only_adapters_learn():
    """The transformer's own weights take no gradient, and stay as they are in a step."""
    adapted = Adapted(gpt(), AdapterConfig(), "somebody/lvm").train()
    optimizer = torch.optim.SGD([weight for weight in adapted.parameters() if weight.requires_grad], lr=1.0)
    before = {name: tensor.clone() for name, tensor in adapted.state_dict().items()}
    adapted(IDS).square().sum().backward()
    optimizer.step()
    after = adapted.state_dict()
    assert all(not torch.equal(after[name], before[name]) for name in before if "lora_B" in name)
    assert all(torch.equal(weight, gpt().state_dict()[name]) for name, weight in base(adapted).items())
    assert all(weight.grad is None for weight in base(adapted).values())


def test_a_state_dict_comes_back():
    """Adapters are read without the weights beside them, and a foreign name is refused."""
    one, other = learned(1), learned(2)
    other.load_state_dict(one.state_dict())
    assert torch.equal(one(IDS), other(IDS))
    with pytest.raises(RuntimeError, match="strange"):
        other.load_state_dict({"strange": torch.zeros(1)})


def test_peft_reads_what_was_saved(tmp_path: Path):
    """Its own format, onto a transformer of ours; the config says whose weights they belong to."""
    adapted = learned()
    for _ in range(2):  # a second time in the place of the first
        adapted.save(tmp_path / "adapter")
    assert {"adapter_config.json", "adapter_model.safetensors"} <= {
        path.name for path in (tmp_path / "adapter").iterdir()
    }
    found = peft.PeftModel.from_pretrained(gpt(), str(tmp_path / "adapter")).eval()
    assert torch.equal(found(IDS), adapted(IDS))
    assert found.peft_config["default"].base_model_name_or_path == "somebody/lvm"


def test_a_missing_peft_says_the_way_out(monkeypatch: pytest.MonkeyPatch):
    """It is an extra, and the message has the command that brings it."""
    monkeypatch.setitem(sys.modules, "peft", None)
    with pytest.raises(ValueError, match=r"needs the package peft: pip install 'vqtok\[tune\]'"):
        Adapted(gpt(), AdapterConfig(), "somebody/lvm")


@pytest.mark.parametrize("setting", [{"rank": 0}, {"alpha": 0.0}, {"dropout": 1.0}])
def test_senseless_settings_are_refused(setting: dict):
    """With the setting's name and what makes sense."""
    with pytest.raises(ValueError, match=f"adapter.*{[*setting][0]}"):
        AdapterConfig(**setting)
