"""Tokenizers small enough to test with."""

import pytest
import torch

from vqtok.tokenizers.autoencoder import AutoencoderConfig
from vqtok.tokenizers.quantizers.vq import VQConfig
from vqtok.tokenizers.tokenizer import TokenizerConfig, VQTokenizer


@pytest.fixture
def config() -> TokenizerConfig:
    """16 pixels a side, 4 pixels a code, 32 codes of width 4."""
    return TokenizerConfig(
        autoencoder=AutoencoderConfig(channels=8, multipliers=(1, 2), blocks=1, latent=8, groups=4, patch=2),
        quantizer=VQConfig(codes=32, width=4),
        size=16,
    )


@pytest.fixture
def tokenizer(config: TokenizerConfig) -> VQTokenizer:
    """With random weights, in evaluation mode."""
    torch.manual_seed(0)
    return VQTokenizer(config).eval()


@pytest.fixture
def images() -> torch.Tensor:
    """(5, 3, 16, 16) in [0, 1]."""
    return torch.rand(5, 3, 16, 16, generator=torch.Generator().manual_seed(1))
