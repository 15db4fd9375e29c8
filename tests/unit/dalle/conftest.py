"""Tiny models over six colors, pictures of 4x4 pixels and captions of three words; shards of such pairs."""

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from torch import Tensor

from dalle.layout import Layout
from dalle.model import Dalle, DalleConfig
from vqtok.data.captions import beside
from vqtok.data.shards import write_shard
from vqtok.gpt.config import AttentionConfig, GPTConfig, HeadConfig
from vqtok.gpt.masks import GridConfig
from vqtok.gpt.positions import RowColumnConfig
from vqtok.gpt.prefix import SOSConfig
from vqtok.text import TextConfig, TextTokenizer
from vqtok.tokenizers.fingerprint import fingerprint
from vqtok.tokenizers.palette import PaletteTokenizer

SIZE, CODES, PLACES = 4, 6, 5
NAMES = ("a dark square", "a light square", "a dark thing", "a light thing")
TEXT = TextTokenizer.fit(NAMES, TextConfig(vocab=44))
LAYOUT = Layout(TEXT.vocab, PLACES, CODES, (SIZE, SIZE))
DENSE = GPTConfig(
    vocab=LAYOUT.vocab, length=LAYOUT.length, width=16, depth=2, heads=2, prefix=SOSConfig(),
    positions=RowColumnConfig(columns=SIZE, before=1 + PLACES), head=HeadConfig(ranges=LAYOUT.ranges),
)  # fmt: skip
MASKED = replace(
    DENSE, attention=AttentionConfig(mask=GridConfig(columns=SIZE, before=1 + PLACES, kernel=3)), depth=3
)
SHAPES = {"dense": DENSE, "masked": MASKED}


def _palette() -> PaletteTokenizer:
    levels = torch.tensor([-1.0, -0.6, -0.2, 0.2, 0.6, 1.0])
    return PaletteTokenizer.of(torch.stack([levels, levels, levels**3], dim=1), SIZE)


@pytest.fixture
def shapes() -> dict[str, GPTConfig]:
    """Transformers whose mask is dense, or DALL-E's."""
    return SHAPES


@pytest.fixture
def layout() -> Layout:
    """Five places of text before 4x4 codes."""
    return LAYOUT


@pytest.fixture
def text() -> TextTokenizer:
    """Fitted to four captions."""
    return TEXT


@pytest.fixture
def palette() -> PaletteTokenizer:
    """Six colors from black to white, for 4 pixels a side."""
    return _palette()


@pytest.fixture
def names() -> tuple[str, ...]:
    """Four captions."""
    return NAMES


@pytest.fixture
def build() -> Callable[..., Dalle]:
    """Make an untrained model with a mask of that kind, whose scores are lively."""

    def build(kind: str = "dense") -> Dalle:
        torch.manual_seed(0)
        palette = _palette()
        model = Dalle(
            DalleConfig(text=TEXT.config, tokenizer=palette.config, gpt=SHAPES[kind], text_length=PLACES)
        )
        model.text, model.tokenizer = TEXT, palette
        with torch.no_grad():
            for weight in model.gpt.parameters():
                if weight.ndim == 2:
                    weight.normal_(std=0.4)
        return model.eval().requires_grad_(False)

    return build


@pytest.fixture
def images() -> Tensor:
    """(4, 3, 4, 4) in [0, 1], in the palette's colors."""
    ids = torch.randint(CODES, (4, SIZE, SIZE), generator=torch.Generator().manual_seed(1))
    return _palette().decode(ids)


@pytest.fixture
def ids() -> Tensor:
    """(4, 21) int64 of captions and pictures."""
    image = torch.randint(CODES, (4, SIZE, SIZE), generator=torch.Generator().manual_seed(2))
    words = LAYOUT.text(TEXT.encode(NAMES, length=PLACES).ids)
    return torch.cat([words, LAYOUT.image(image)], dim=1)


@pytest.fixture(scope="session")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """`text`, `palette`, and `shards` of 24 pairs: dark or light pictures with a few pixels of any color."""
    folder = tmp_path_factory.mktemp("dalle")
    TEXT.save_pretrained(folder / "text")
    palette = _palette()
    palette.save_pretrained(folder / "palette")
    generator = torch.Generator().manual_seed(3)
    for number in range(2):
        captions = [NAMES[k % 4] for k in range(12)]
        rows = torch.tensor([5 if "light" in caption else 0 for caption in captions])[:, None].repeat(1, 16)
        spots = torch.rand(rows.shape, generator=generator) < 0.2
        rows[spots] = torch.randint(CODES, (int(spots.sum()),), generator=generator)
        write_pairs(folder / "shards" / f"{number}", rows, captions, fingerprint(palette))
    return folder


def write_pairs(shard: Path, rows: Tensor, captions: list[str], mark: str) -> None:
    """A shard of ids (n, 16) and their captions, as `vqtok encode --captions` writes it."""
    facts, files = beside(captions)
    told = {"tokenizer": mark, "grid": [SIZE, SIZE]} | facts
    write_shard(shard, rows.numpy(), CODES, told, beside=files)
