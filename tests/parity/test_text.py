"""minDALL-E's text tokenizer against the package it is made with, on random vocabularies."""

import json
import random
import string
from pathlib import Path

import pytest
import torch
from tokenizers import CharBPETokenizer

from vqtok.text import load_text_tokenizer

pytestmark = pytest.mark.peer

SPECIAL = ["[PAD]", "[UNK]"]
TEXTS = [
    "Hello,world!", "it's 50% off... (really)", "naïve CAFÉ ΣΑΣ İstanbul", "日本の猫 cat猫",
    "tab\there\r\nand",
    "a\u00a0b\u3000c\x0bd\x00e\x85f", "zero\u200dwidth \ufffd \ufeff", "$100 + `code` ~ ^_^ |x|",
    "¿qué? «no» – — …",
]  # fmt: skip


@pytest.fixture(params=range(3), scope="module")
def folder(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Files of a tokenizer that the package itself trains on random words, as minDALL-E names them."""
    rng = random.Random(request.param)
    words = ["".join(rng.choices("abcdeéfg,.'", k=rng.randint(1, 6))) for _ in range(300)]
    lines = [" ".join(rng.choices(words, k=8)) for _ in range(200)]
    peer = CharBPETokenizer(unk_token="[UNK]", lowercase=True)
    settings = {"vocab_size": 300, "min_frequency": 1, "special_tokens": SPECIAL, "show_progress": False}
    peer.train_from_iterator(lines, **settings)
    place = tmp_path_factory.mktemp("text")
    for path in peer.save_model(str(place), "bpe-16k"):
        assert Path(path).is_file()
    return place


def theirs(folder: Path, lowercase: bool = True) -> CharBPETokenizer:
    """As minDALL-E builds it."""
    files = {"vocab_filename": str(folder / "bpe-16k-vocab.json"),
             "merges_filename": str(folder / "bpe-16k-merges.txt")}  # fmt: skip
    peer = CharBPETokenizer.from_file(**files, unk_token="[UNK]", lowercase=lowercase)
    peer.add_special_tokens(["[PAD]"])
    return peer


def texts(seed: int) -> list[str]:
    """Fixed ones, and random ones of the alphabet, capitals, punctuation and unknown letters."""
    rng = random.Random(seed)
    signs = "abcdeéfg,.' ABCÉ-!zß猫" + "".join(set(string.punctuation) - {*"[]"})
    return TEXTS + ["".join(rng.choices(signs, k=rng.randint(1, 40))) + "a" for _ in range(300)]


@pytest.mark.parametrize("lower", [True, False])
def test_the_same_ids(folder: Path, lower: bool):
    """For every text, whatever its spelling; and padded as theirs, the same rows."""
    ours, peer = load_text_tokenizer(folder, lower=lower), theirs(folder, lower)
    assert ours.vocab == peer.get_vocab_size() and ours.pad == peer.token_to_id("[PAD]")
    captions = texts(1)
    ids = ours.encode(captions).ids
    found = [row[row >= 0].tolist() for row in ids]
    wanted = [peer.encode(caption).ids for caption in captions]
    assert found == wanted
    peer.enable_padding(length=64, pad_id=ours.pad)
    peer.enable_truncation(max_length=64)
    padded = ours.encode(captions, 64).ids
    padded = torch.where(padded < 0, ours.pad, padded)
    assert padded.tolist() == [peer.encode(caption).ids for caption in captions]


def test_the_same_texts(folder: Path):
    """What ids spell, where none of them is unknown."""
    ours, peer = load_text_tokenizer(folder), theirs(folder)
    rng = random.Random(2)
    rows = [[rng.randrange(2, ours.vocab) for _ in range(rng.randint(1, 20))] for _ in range(200)]
    assert ours.decode(rows) == [peer.decode(row).rstrip() for row in rows]


def test_pad_behind_the_vocabulary(folder: Path, tmp_path: Path):
    """Where the files have no [PAD], both give it the next id."""
    vocab = json.loads((folder / "bpe-16k-vocab.json").read_text())
    pieces = sorted(vocab, key=vocab.get)[1:]
    (tmp_path / "bpe-16k-vocab.json").write_text(json.dumps({piece: id for id, piece in enumerate(pieces)}))
    (tmp_path / "bpe-16k-merges.txt").write_text((folder / "bpe-16k-merges.txt").read_text())
    ours, peer = load_text_tokenizer(tmp_path), theirs(tmp_path)
    assert ours.pad == peer.token_to_id("[PAD]") == len(pieces)
    assert ours.vocab == peer.get_vocab_size()
