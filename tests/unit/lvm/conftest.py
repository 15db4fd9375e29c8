"""A tiny model that sees 64-pixel pictures as 4x4 codes, and what it was encoded into."""

from collections.abc import Callable
from pathlib import Path

import pytest
import torch

from lvm import evaluate as evaluation
from lvm.encode import Job, encode
from lvm.kind import KindClassifier, KindConfig
from lvm.layout import Layout
from lvm.model import LVM, LVMConfig
from lvm.report import Report
from lvm.tasks import task
from vqtok.gpt.config import GPTConfig
from vqtok.tokenizers.autoencoder import AutoencoderConfig
from vqtok.tokenizers.quantizers.vq import VQConfig
from vqtok.tokenizers.tokenizer import TokenizerConfig, VQTokenizer

TOKENS, CODES, PAIRS = 16, 32, 3

TOKENIZER = TokenizerConfig(
    size=64,
    autoencoder=AutoencoderConfig(channels=8, multipliers=(1, 1, 1), blocks=1, latent=8, groups=4, patch=4),
    quantizer=VQConfig(codes=CODES, width=4),
)
LENGTH = (2 * PAIRS + 2) * TOKENS + 2
GPT = GPTConfig(vocab=CODES + 3, length=LENGTH, width=16, depth=1, heads=2, period=2 * TOKENS)


def _tokenizer(seed: int = 0) -> VQTokenizer:
    torch.manual_seed(seed)
    return VQTokenizer(TOKENIZER).eval()


@pytest.fixture(scope="session")
def tiny_tokenizer() -> Callable[..., VQTokenizer]:
    """Make an untrained tokenizer of that seed; `tokenizer_folder` has the one of seed 0."""
    return _tokenizer


@pytest.fixture(scope="session")
def model() -> LVM:
    """An untrained LVM with room for three pairs and a query; its scores are lively."""
    torch.manual_seed(0)
    model = LVM(LVMConfig(tokenizer=TOKENIZER, gpt=GPT)).eval()
    with torch.no_grad():
        for weight in (model.gpt.embed.weight, model.gpt.head.weight):
            weight.normal_(std=0.5)
    return model


@pytest.fixture(scope="session")
def judge() -> KindClassifier:
    """Untrained."""
    torch.manual_seed(0)
    return KindClassifier(KindConfig(channels=(8, 8))).eval()


@pytest.fixture(scope="session")
def report(model: LVM, judge: KindClassifier) -> Report:
    """Three names, four tasks, one of them held out."""
    asked = [task(name) for name in ("shaded to line", "shaded to mask", "invert", "upend")]
    return evaluation.evaluate(model, evaluation.Job(names=3, shots=(0, 1, 3)), tasks=asked, judge=judge)


@pytest.fixture
def layout() -> Layout:
    """Of the tiny model."""
    return Layout(codes=CODES, tokens=TOKENS)


@pytest.fixture(scope="session")
def tokenizer_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Where the tiny tokenizer lies."""
    folder = tmp_path_factory.mktemp("lvm") / "tokenizer"
    _tokenizer().save_pretrained(folder)
    return folder


@pytest.fixture(scope="session")
def shards(tokenizer_folder: Path) -> Path:
    """Shards of ten pairs a task, of scenes."""
    folder = tokenizer_folder.parent / "shards"
    encode(Job(tokenizer=str(tokenizer_folder), out=folder, pairs=10))
    return folder


@pytest.fixture(scope="session")
def lvm_folder(model: LVM, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Where the tiny model lies."""
    folder = tmp_path_factory.mktemp("trained") / "lvm"
    model.save_pretrained(folder)
    return folder


@pytest.fixture(scope="session")
def two_tasks(lvm_folder: Path) -> Path:
    """Shards of twelve pairs of each of two tasks, by the tiny model's tokenizer."""
    folder = lvm_folder.parent / "two"
    encode(Job(tokenizer=str(lvm_folder), out=folder, pairs=12, tasks=("invert", "mirror")))
    return folder
