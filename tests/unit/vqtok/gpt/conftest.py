"""A tiny GPT whose attention is far from uniform, so that a wrong position or mask shows."""

from collections.abc import Callable

import pytest
import torch

from vqtok.gpt.config import GPTConfig
from vqtok.gpt.model import GPT


@pytest.fixture
def lively() -> Callable[[GPTConfig], GPT]:
    """Builds a GPT in evaluation mode with matrices of about unit gain, not the small initial ones."""

    def build(config: GPTConfig) -> GPT:
        gpt = GPT(config).eval()
        with torch.no_grad():
            for weight in gpt.parameters():
                weight.normal_(std=weight.shape[-1] ** -0.5) if weight.ndim == 2 else weight.uniform_(
                    0.5, 1.5
                )
            for part in (gpt.embed, gpt.place, gpt.positions, gpt.prefix):
                for table in part.parameters() if part is not None else ():
                    table.normal_()
        return gpt

    return build
