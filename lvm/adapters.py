"""Adapters of low rank beside the matrices of a transformer that is frozen, through the package `peft`.

A matrix W of a block becomes W + (alpha / rank) B A, with A (rank, inputs) drawn at random and B (outputs,
rank) zero, so that at first nothing has changed. Hu et al. 2022 (LoRA), section 4.1.

Queries, keys and values come from one matrix here, and so do gate and up of a SwiGLU (`vqtok.gpt`). Each such
matrix has one adapter: its parts share A, and have rows of their own in B.

Letters: b contexts, t tokens, v vocabulary.
"""

from dataclasses import dataclass
from pathlib import Path
from types import ModuleType
from typing import Any

from torch import Tensor, nn

from vqtok.gpt.model import GPT
from vqtok.storage.folders import publish

MATRICES = r"blocks\.\d+\.(attention\.(qkv|out)|mlp\.(gate_up|up|down))"


@dataclass(frozen=True, kw_only=True)
class AdapterConfig:
    """Size of the adapters.

    Args:
        rank: Of what is added to each matrix.
        alpha: What is added counts alpha / rank.
        dropout: Share of an adapter's inputs set to zero while training.
    """

    rank: int = 8
    alpha: float = 16.0
    dropout: float = 0.0

    def __post_init__(self) -> None:
        if self.rank < 1 or self.alpha <= 0:
            raise ValueError(
                f"adapter.rank {self.rank} and alpha {self.alpha} must be above 0: 8 and 16 are usual"
            )
        if not 0 <= self.dropout < 1:
            raise ValueError(f"adapter.dropout {self.dropout} is outside [0, 1): 0 leaves it out")


class Adapted(nn.Module):
    """A transformer with adapters, which alone take gradients and stand in its state dict.

    Args:
        gpt: Is changed in place: its blocks' matrices get adapters, its own weights are frozen.
        config: Size of the adapters.
        name: What the user calls the model, for the adapters' config.

    Raises:
        ValueError: if `peft` is not installed.
    """

    def __init__(self, gpt: GPT, config: AdapterConfig, name: str) -> None:
        super().__init__()
        peft = _peft()
        sizes = {"r": config.rank, "lora_alpha": config.alpha, "lora_dropout": config.dropout}
        lora = peft.LoraConfig(**sizes, target_modules=MATRICES)
        self.peft = peft.get_peft_model(gpt, lora)
        lora.base_model_name_or_path = name

    @property
    def gpt(self) -> GPT:
        """The transformer, adapters in its blocks."""
        return self.peft.get_base_model()

    def forward(self, ids: Tensor, **options: Any) -> Tensor:
        """Scores (b, t, v); arguments as `GPT.forward`."""
        return self.gpt(ids, **options)

    def state_dict(self, *arguments: Any, **options: Any) -> dict[str, Any]:
        """Of the adapters alone."""
        trained = {name for name, parameter in self.named_parameters() if parameter.requires_grad}
        whole = super().state_dict(*arguments, **options)
        return {name: whole[name] for name in whole if name in trained}

    def load_state_dict(self, state_dict: dict[str, Any], strict: bool = True, assign: bool = False) -> Any:
        """Of the adapters alone; the frozen weights stay."""
        whole = super().state_dict() | state_dict
        return super().load_state_dict(whole, strict, assign)

    def save(self, folder: Path) -> None:
        """Write the adapters in peft's own format, for `peft.PeftModel.from_pretrained(gpt, folder)`."""
        with publish(folder, replace=True) as part:
            self.peft.save_pretrained(part, save_embedding_layers=False)

    def merged(self) -> GPT:
        """The transformer with its adapters added to its matrices, in place: this object is used up."""
        return self.peft.merge_and_unload()


def _peft() -> ModuleType:
    """The package, imported only where it is used: it is an extra, and takes seconds.

    Raises:
        ValueError: if it is not there.
    """
    try:
        import peft
    except ImportError as error:
        raise ValueError("LoRA needs the package peft: pip install 'vqtok[tune]'") from error
    return peft
