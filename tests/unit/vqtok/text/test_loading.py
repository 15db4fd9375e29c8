"""One call for all folders."""

import json
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

import pytest
import torch
from torch import nn

from vqtok.storage.pretrained import Pretrained
from vqtok.text import TextConfig, TextTokenizer, load_text_tokenizer


@dataclass(frozen=True)
class LargerConfig:
    """Of a model that carries a text tokenizer."""

    text: TextConfig = field(default_factory=TextConfig)


class Larger(nn.Module, Pretrained):
    """A model that carries a text tokenizer."""

    def __init__(self, config: LargerConfig) -> None:
        super().__init__()
        self.text = TextTokenizer(config.text)
        self.weight = nn.Linear(2, 2)


def test_out_of_a_larger_model(bpe: TextTokenizer, tmp_path: Path):
    """The text tokenizer of a larger model loads alone, and with it."""
    larger = Larger(LargerConfig(bpe.config))
    larger.text.load_state_dict(bpe.state_dict())
    larger.save_pretrained(tmp_path / "larger", dtype=torch.bfloat16)
    whole = Larger.from_pretrained(tmp_path / "larger")
    for loaded in (load_text_tokenizer(tmp_path / "larger"), whole.text):
        assert torch.equal(loaded.encode(["a fox"]).ids, bpe.encode(["a fox"]).ids)


@pytest.mark.parametrize("inside", ["", "tokenizer"])
def test_mindalle(inside: str, toy_char_bpe: Callable, tmp_path: Path):
    """Its whole folder, or the part with the two files; capitals stay if that is said."""
    vocab, merges = toy_char_bpe()
    place = tmp_path / inside
    place.mkdir(exist_ok=True)
    (place / "vocab.json").write_text(json.dumps(vocab))
    (place / "merges.txt").write_text("\n".join(merges))
    assert load_text_tokenizer(tmp_path).encode(["HELLO"]).unknown == 0
    assert load_text_tokenizer(tmp_path, lower=False).encode(["HELLO"]).unknown == 1


def test_half_a_folder(toy_char_bpe: Callable, tmp_path: Path):
    """One file without the other, or two of a kind, are no tokenizer."""
    (tmp_path / "vocab.json").write_text(json.dumps(toy_char_bpe()[0]))
    with pytest.raises(ValueError, match=r"has vocab.json: a text tokenizer is one \*vocab.json and one"):
        load_text_tokenizer(tmp_path)


def test_nothing(bpe: TextTokenizer, tmp_path: Path):
    """A folder without a model is named; one of ours says itself whether letters are small."""
    with pytest.raises(ValueError, match="has no config.json"):
        load_text_tokenizer(tmp_path)
    bpe.save_pretrained(tmp_path / "text")
    with pytest.raises(ValueError, match="says it itself: leave lower out"):
        load_text_tokenizer(tmp_path / "text", lower=True)
