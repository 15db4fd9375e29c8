"""Tiny models over a palette of six colors and pictures of 4x4 pixels, and shards of such pictures."""

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from imagegpt.model import ImageGPT, ImageGPTConfig
from vqtok.data.pictures import write_picture
from vqtok.gpt.config import AttentionConfig, GPTConfig
from vqtok.gpt.masks import FullConfig
from vqtok.gpt.mlps import QuickGELUConfig
from vqtok.gpt.positions import LearnedConfig
from vqtok.gpt.prefix import ClassesConfig, SOSConfig
from vqtok.tokenizers.encode import Job, encode
from vqtok.tokenizers.palette import PaletteTokenizer

SIZE, CODES, TOKENS = 4, 6, 16
NAMES = ("light", "dark")
PAST = GPTConfig(vocab=CODES, length=TOKENS, width=16, depth=2, heads=2, mlp=QuickGELUConfig(bias=False),
                 positions=LearnedConfig(), prefix=SOSConfig())  # fmt: skip
BOTH = replace(PAST, prefix=None, attention=AttentionConfig(mask=FullConfig()))
CLASSES = replace(PAST, prefix=ClassesConfig(classes=2, drop=0.5))
SHAPES = {"past": PAST, "both": BOTH, "classes": CLASSES}


def _palette() -> PaletteTokenizer:
    levels = torch.tensor([-1.0, -0.6, -0.2, 0.2, 0.6, 1.0])
    return PaletteTokenizer.of(torch.stack([levels, levels, levels**3], dim=1), SIZE)


@pytest.fixture
def shapes() -> dict[str, GPTConfig]:
    """Transformers that see the past, both sides, or a class and the past."""
    return SHAPES


@pytest.fixture
def palette() -> PaletteTokenizer:
    """Six colors from black to white, for 4 pixels a side."""
    return _palette()


@pytest.fixture
def build() -> Callable[..., ImageGPT]:
    """Make an untrained model of a kind, whose scores are lively."""

    def build(kind: str = "past", classifier: bool = False) -> ImageGPT:
        torch.manual_seed(0)
        names = NAMES if classifier or kind == "classes" else ()
        palette = _palette()
        config = ImageGPTConfig(
            tokenizer=palette.config, gpt=SHAPES[kind], classes=names, classifier=classifier
        )
        model = ImageGPT(config).eval()
        model.tokenizer = palette
        with torch.no_grad():
            for weight in model.gpt.parameters():
                if weight.ndim == 2:
                    weight.normal_(std=0.3)
            if classifier:
                model.classifier.weight.normal_()
        return model

    return build


@pytest.fixture
def images() -> torch.Tensor:
    """(5, 3, 4, 4) in [0, 1], in the palette's colors."""
    ids = torch.randint(CODES, (5, SIZE, SIZE), generator=torch.Generator().manual_seed(1))
    return _palette().decode(ids)


@pytest.fixture
def ids() -> torch.Tensor:
    """(5, 16) int64 of pictures."""
    return torch.randint(CODES, (5, TOKENS), generator=torch.Generator().manual_seed(2))


@pytest.fixture(scope="session")
def palette_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Where the palette lies."""
    folder = tmp_path_factory.mktemp("imagegpt") / "palette"
    _palette().save_pretrained(folder)
    return folder


@pytest.fixture(scope="session")
def shards(palette_folder: Path) -> Path:
    """Shards of 24 pictures of two classes: light ones and dark ones, with a few pixels of any color."""
    folder = palette_folder.parent
    generator = torch.Generator().manual_seed(3)
    for number in range(24):
        kind = NAMES[number % 2]
        ids = torch.full((1, SIZE, SIZE), 5 if kind == "light" else 0)
        spots = torch.rand(ids.shape, generator=generator) < 0.2
        ids[spots] = torch.randint(CODES, (int(spots.sum()),), generator=generator)
        write_picture(folder / "pictures" / kind / f"{number:02}.png", _palette().decode(ids)[0])
    encode(Job(tokenizer=str(palette_folder), data=folder / "pictures", out=folder / "shards", decoders=0))
    return folder / "shards"
