"""A tiny Clip, and pairs of plain colors with their names."""

import numpy as np
import pytest
import torch
from torch import Tensor

from vqtok.clip.model import Clip, ClipConfig
from vqtok.clip.towers import TextTowerConfig, TowersConfig
from vqtok.text import TextConfig, TextTokenizer

COLORS = {
    "red": (255, 0, 0),
    "green": (0, 160, 0),
    "blue": (0, 0, 255),
    "yellow": (255, 230, 0),
    "white": (255, 255, 255),
    "black": (0, 0, 0),
}
PHRASES = ("{}", "a {} square", "all is {}")
CAPTIONS = [phrase.format(color) for color in COLORS for phrase in PHRASES]


class Colors:
    """Squares of one color, 16 pixels a side; each is called by one of three phrases."""

    def __len__(self) -> int:
        return len(CAPTIONS)

    def __getitem__(self, index: int) -> tuple[np.ndarray, str]:
        color = [*COLORS.values()][index // len(PHRASES)]
        return np.full((16, 16, 3), color, dtype=np.uint8), CAPTIONS[index]


@pytest.fixture
def pairs() -> Colors:
    """Eighteen pairs, three of each color."""
    return Colors()


@pytest.fixture
def tokenizer() -> TextTokenizer:
    """Fitted to the captions of `pairs`."""
    return TextTokenizer.fit(CAPTIONS, TextConfig(vocab=40))


@pytest.fixture
def towers_config() -> TowersConfig:
    """A twentieth of a million weights, none of which sees other images of a batch."""
    return TowersConfig(
        image="test_vit", size=32, width=16, text=TextTowerConfig(length=12, width=16, depth=2, heads=2)
    )


@pytest.fixture
def clip(tokenizer: TextTokenizer, towers_config: TowersConfig) -> Clip:
    """Drawn at random."""
    model = Clip(ClipConfig(text=tokenizer.config, towers=towers_config))
    model.text.load_state_dict(tokenizer.state_dict())
    return model.eval()


@pytest.fixture
def images() -> Tensor:
    """(5, 3, 32, 32) at random."""
    return torch.rand(5, 3, 32, 32)
