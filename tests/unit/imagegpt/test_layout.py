"""Layouts: pictures as rows of ids and back, and transformers that fit them."""

from dataclasses import replace

import pytest
import torch

from imagegpt.layout import Layout
from vqtok.gpt.config import GPTConfig
from vqtok.gpt.prefix import SOSConfig
from vqtok.tokenizers.palette import PaletteTokenizer


def test_rows_of_ids_and_back(palette: PaletteTokenizer):
    """Row by row, top left first; several ids of a code stand together."""
    layout = Layout.of(palette)
    assert layout == Layout(6, (4, 4)) and (layout.tokens, layout.row) == (16, 4)
    ids = torch.arange(32).view(2, 4, 4)
    assert torch.equal(layout.flat(ids), torch.arange(32).view(2, 16))
    assert torch.equal(layout.grid(layout.flat(ids)), ids)
    several = Layout(9, (2, 3, 4))
    assert (several.tokens, several.row) == (24, 12)
    assert several.grid(torch.zeros(5, 24)).shape == (5, 2, 3, 4)


def test_pictures_of_another_size():
    """They are refused with both sizes and the way out."""
    with pytest.raises(ValueError, match="pictures of 3x4 codes meet a model of 4x4: bring them to its size"):
        Layout(6, (4, 4)).flat(torch.zeros(1, 3, 4, dtype=torch.int64))


@pytest.mark.parametrize("kind", ["past", "both", "classes"])
def test_transformers_that_fit(kind: str, shapes: dict[str, GPTConfig]):
    """All three labels do, with room for exactly one picture."""
    Layout(6, (4, 4)).check(shapes[kind])


@pytest.mark.parametrize(
    ("kind", "change", "told"),
    [
        ("past", {"vocab": 7}, "gpt.vocab is 7, but the tokenizer has 6 codes: set it to that"),
        ("past", {"prefix": None}, "without a prefix nothing says the first .* set gpt.prefix to {kind"),
        ("both", {"prefix": SOSConfig()}, "both sides begins with the picture: leave gpt.prefix out"),
        ("past", {"length": 15}, "gpt.length is 15, a picture of 4x4 codes needs 16: set it to that"),
        ("both", {"length": 15}, "gpt.length is 15, a picture of 4x4 codes needs 16"),
    ],
)
def test_transformers_that_do_not(kind: str, change: dict, told: str, shapes: dict[str, GPTConfig]):
    """What is wrong is one setting, and what to set it to."""
    with pytest.raises(ValueError, match=told):
        Layout(6, (4, 4)).check(replace(shapes[kind], **change))
