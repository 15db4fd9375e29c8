"""minDALL-E's files: read strictly, words by their rules."""

import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch

from vqtok.text import TextTokenizer, load_text_tokenizer

NAMES = ("bpe-16k-vocab.json", "bpe-16k-merges.txt")


@pytest.fixture
def place(toy_char_bpe: Callable, tmp_path: Path) -> Path:
    """A folder as minDALL-E's, at toy size."""
    vocab, merges = toy_char_bpe()
    (tmp_path / NAMES[0]).write_text(json.dumps(vocab))
    (tmp_path / NAMES[1]).write_text("\n".join(["#version: 0.2", *merges, ""]))
    return tmp_path


@pytest.fixture
def tokenizer(place: Path) -> TextTokenizer:
    """What is read of it."""
    return load_text_tokenizer(place)


def spelled(tokenizer: TextTokenizer, caption: str) -> list[str]:
    """Pieces of a caption."""
    return [tokenizer.pieces[id] for id in tokenizer.encode([caption]).ids[0]]


def test_words(tokenizer: TextTokenizer):
    """Small letters; words apart at space and punctuation; merges by rank; unknown characters one by one."""
    assert spelled(tokenizer, "Hello,  AND") == ["hello</w>", ",</w>", "and</w>"]
    assert spelled(tokenizer, "he xq held") == ["h", "e</w>", "[UNK]", "[UNK]", "hel", "d</w>"]
    texts = tokenizer.encode(["hello and", "x"])
    assert texts.unknown == 1 and tokenizer.decode(texts.ids) == ["hello and", "⁇"]
    assert (tokenizer.vocab, tokenizer.unknown, tokenizer.pad) == (31, 1, 0)


def test_special_ids_are_not_spelled(tokenizer: TextTokenizer):
    """A caption cannot write them, and what is padded says nothing."""
    assert not {0, 1} & {*tokenizer.encode(["[PAD]"]).ids[0].tolist()} - {tokenizer.unknown}
    assert tokenizer.decode([[*tokenizer.encode(["hello"]).ids[0], 0, 0]]) == ["hello"]


def test_dropout(tokenizer: TextTokenizer):
    """Merges can be dropped here too; a chance of 1 gives characters."""
    ids = tokenizer.encode(["hello"], dropout=1.0, rng=np.random.default_rng(0)).ids[0]
    assert [tokenizer.pieces[id] for id in ids] == ["h", "e", "l", "l", "o</w>"]


def test_pad_is_added(place: Path, toy_char_bpe: Callable):
    """Where the files have none, it comes behind the last id, as minDALL-E's own loader does it."""
    vocab, _ = toy_char_bpe()
    del vocab["[PAD]"]
    (place / NAMES[0]).write_text(json.dumps({piece: id for id, piece in enumerate(vocab)}))
    assert load_text_tokenizer(place).pad == len(vocab)


def test_a_folder_of_ours(tokenizer: TextTokenizer, tmp_path: Path):
    """It saves and loads as any other."""
    tokenizer.save_pretrained(tmp_path / "ours")
    loaded = load_text_tokenizer(tmp_path / "ours")
    assert loaded.config == tokenizer.config and loaded.pieces == tokenizer.pieces
    assert torch.equal(loaded.encode(["Hello, and"]).ids, tokenizer.encode(["Hello, and"]).ids)


@pytest.mark.parametrize(
    ("name", "content", "told"),
    [
        (NAMES[1], "h e\nh e l\n", r"merges.txt, line 2: 'h e l': it is not two pieces"),
        (NAMES[1], "h z\n", r"merges.txt, line 1: 'h z': 'z' is not in bpe-16k-vocab.json"),
        (NAMES[1], "h o\n", r"line 1: 'h o': 'ho' is not in"),
        (NAMES[0], '{"a": 0, "b</w>": 1}', r"vocab.json has no \[UNK\]"),
        (NAMES[0], '{"[UNK]": 0, "Ġa": 1}', r"no piece that ends in </w>"),
        (NAMES[0], '{"[UNK]": 0, "a</w>": 2}', r"2 pieces do not have the ids 0 to 1"),
        (NAMES[0], '{"[UNK]": 0, "a</w>": "1"}', r"2 pieces do not have the ids 0 to 1"),
        (NAMES[0], '{"[UNK]": 0, ', "truncated or no JSON"),
    ],
    ids=["not two", "strange piece", "strange merge", "no unknown", "byte level", "holes", "no number",
         "torn"],
)  # fmt: skip
def test_damage(place: Path, name: str, content: str, told: str):
    """Files that do not belong together, or are of another kind, are refused by name."""
    (place / name).write_text(content)
    with pytest.raises(ValueError, match=told):
        load_text_tokenizer(place)


def test_not_utf8(place: Path):
    """Merges in another encoding are refused by name."""
    (place / NAMES[1]).write_bytes("h é\n".encode("latin-1"))
    with pytest.raises(ValueError, match=r"merges.txt is no UTF-8"):
        load_text_tokenizer(place)
