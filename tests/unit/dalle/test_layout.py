"""Layouts: captions and pictures as rows of ids and back, and transformers that fit them."""

from dataclasses import replace

import pytest
import torch

from dalle.layout import Layout
from vqtok.gpt.config import AttentionConfig, GPTConfig, HeadConfig
from vqtok.gpt.masks import FullConfig
from vqtok.gpt.positions import LearnedConfig


def test_places_of_ids(layout: Layout):
    """Words, then a padding for each place of text, then codes; they divide the vocabulary between them."""
    assert (layout.tokens, layout.row, layout.length) == (16, 4, 21)
    assert layout.padding.tolist() == [44, 45, 46, 47, 48]
    assert (layout.first_code, layout.vocab) == (49, 55)
    text, image = layout.ranges
    assert (text.low, text.high, image.low, image.high) == (0, 49, 49, 55)
    assert (text.start, image.start) == (1, 6)


def test_text(layout: Layout):
    """A place without a word holds the padding of that very place; no word at all is the null caption."""
    words = torch.tensor([[3, 2, -1, -1, -1], [-1] * 5])
    found = layout.text(words)
    assert found.tolist() == [[3, 2, 46, 47, 48], [44, 45, 46, 47, 48]]
    assert torch.equal(found[1], layout.padding)
    assert torch.equal(layout.worded(found), words >= 0)
    assert words[0, 2] == -1  # the caller's are as they were


def test_pictures(layout: Layout):
    """Row by row behind the text, and back; several ids of a code stand together; top rows are fewer ids."""
    ids = torch.randint(6, (2, 4, 4))
    assert torch.equal(layout.grid(layout.image(ids)), ids)
    assert torch.equal(layout.image(ids[:, :2]), layout.image(ids)[:, :8])
    several = Layout(10, 3, 6, (2, 3, 4))
    assert (several.tokens, several.row) == (24, 12)
    ids = torch.randint(6, (5, 2, 3, 4))
    assert torch.equal(several.grid(several.image(ids)), ids)


@pytest.mark.parametrize("kind", ["dense", "masked"])
def test_transformers_that_fit(kind: str, shapes: dict[str, GPTConfig], layout: Layout):
    """Dense masks and DALL-E's, with room for exactly one caption and picture."""
    layout.check(shapes[kind])


WRONG: dict[str, dict] = {
    "gpt.vocab is 60, but 44 words, 5 paddings and 6 codes make 55: set it to that": {"vocab": 60},
    r"the first word after a start token: .* set gpt.prefix to \{kind: sos\}": {"prefix": None},
    "leave the mask causal or make it a grid": {"attention": AttentionConfig(mask=FullConfig())},
    "gpt.length is 20, 5 places of text and a picture of 4x4 codes need 21: set it to that": {"length": 20},
    r"set it to \[\{start: 1, low: 0, high: 49\}, \{start: 6, low: 49, high: 55\}\]": {"head": HeadConfig()},
}


@pytest.mark.parametrize("told", WRONG)
def test_transformers_that_do_not(told: str, shapes: dict[str, GPTConfig], layout: Layout):
    """What is wrong is one setting, and what to set it to."""
    with pytest.raises(ValueError, match=told):
        layout.check(replace(shapes["dense"], **WRONG[told]))


def test_grids_that_do_not_fit(shapes: dict[str, GPTConfig], layout: Layout):
    """Positions and masks whose grid begins elsewhere, or is not as wide, would tell wrong places."""
    masked = shapes["masked"]
    layout.check(replace(masked, positions=LearnedConfig()))
    with pytest.raises(ValueError, match="gpt.positions has a grid of 4 .* after 7 places, .* before to 6"):
        layout.check(replace(masked, positions=replace(masked.positions, before=7)))
    wrong = replace(masked.attention, mask=replace(masked.attention.mask, columns=2))
    with pytest.raises(ValueError, match="gpt.attention.mask has a grid of 2 columns .* set columns to 4"):
        layout.check(replace(masked, attention=wrong))


def test_mistakes(layout: Layout):
    """Text of another tokenizer or length, and pictures of another size, are told."""
    with pytest.raises(ValueError, match=r"words of shape \(1, 4\) meet 5 places .* with length=5"):
        layout.text(torch.zeros(1, 4, dtype=torch.int64))
    with pytest.raises(ValueError, match=r"word 44 is outside \[0, 44\): encode with this model"):
        layout.text(torch.tensor([[0, 44, -1, -1, -1]]))
    for shape, size in (((1, 4, 3), "4x3"), ((1, 5, 4), "5x4"), ((1, 0, 4), "0x4")):
        with pytest.raises(ValueError, match=f"pictures of {size} codes meet a model of 4x4"):
            layout.image(torch.zeros(shape, dtype=torch.int64))
    with pytest.raises(ValueError, match="text_length 0 leaves no place for a caption"):
        Layout(10, 0, 6, (4, 4))
