"""Vectors and one small quantizer of each kind, all of width 4."""

import pytest
import torch
from torch import Tensor

from vqtok.tokenizers.quantizers.bsq import BSQConfig
from vqtok.tokenizers.quantizers.choice import QuantizerConfig, build
from vqtok.tokenizers.quantizers.fsq import FSQConfig
from vqtok.tokenizers.quantizers.gumbel import GumbelConfig
from vqtok.tokenizers.quantizers.ibq import IBQConfig
from vqtok.tokenizers.quantizers.lfq import LFQConfig
from vqtok.tokenizers.quantizers.quantizer import Quantizer
from vqtok.tokenizers.quantizers.residual import ResidualVQConfig
from vqtok.tokenizers.quantizers.simvq import SimVQConfig
from vqtok.tokenizers.quantizers.vq import VQConfig

CONFIGS = {
    "vq": VQConfig(codes=40, width=4),
    "vq, not normalized": VQConfig(codes=40, width=4, normalize=False),
    "vq, means": VQConfig(codes=40, width=4, means=True),
    "vq, rotated": VQConfig(codes=40, width=4, rotate=True),
    "simvq": SimVQConfig(codes=40, width=4),
    "simvq, rotated": SimVQConfig(codes=40, width=4, rotate=True),
    "fsq": FSQConfig(levels=(8, 5, 3, 4)),
    "lfq": LFQConfig(bits=4),
    "bsq": BSQConfig(bits=4, group=3),
    "gumbel": GumbelConfig(codes=40, width=4),
    "gumbel, hard": GumbelConfig(codes=40, width=4, hard=True),
    "residual": ResidualVQConfig(stages=3, codes=40, width=4),
    "ibq": IBQConfig(codes=40, width=4),
}


@pytest.fixture(params=CONFIGS.values(), ids=CONFIGS)
def config(request: pytest.FixtureRequest) -> QuantizerConfig:
    """One of each kind and manner."""
    return request.param


@pytest.fixture
def quantizer(config: QuantizerConfig) -> Quantizer:
    """With random weights of seed 0, in training."""
    torch.manual_seed(0)
    return build(config)


@pytest.fixture
def vectors() -> Tensor:
    """(3, 4, 5, 7) Gaussian vectors."""
    return torch.randn(3, 4, 5, 7, generator=torch.Generator().manual_seed(1))
