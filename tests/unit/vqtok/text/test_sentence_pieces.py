"""sentencepiece's models: the same bytes for the same captions, as many pieces as there are, nothing lost."""

import re
from collections import Counter

import numpy as np
import pytest

from vqtok.text import TextConfig, TextTokenizer, normalized
from vqtok.text.sentence_pieces import SentencePieces, fitted


@pytest.fixture
def counts(captions: list[str]) -> Counter[str]:
    """Normalized captions, some of them frequent."""
    plain = [normalized(caption) for caption in captions]
    return Counter({caption: 1 + number % 3 for number, caption in enumerate(plain)})


@pytest.mark.parametrize("kind", ["bpe", "unigram"])
def test_the_same_bytes(kind: str, counts: Counter[str]):
    """Whatever the order of the captions."""
    backwards = Counter(dict(reversed(counts.items())))
    assert fitted(counts, kind, 36, 1.0) == fitted(backwards, kind, 36, 1.0)


def test_counts_count():
    """A caption that is frequent decides which pieces there are."""
    texts = {"xy": 1, "ab": 9}
    model = SentencePieces(fitted(Counter(texts), "bpe", 7, 1.0), "bpe", True)
    assert "ab" in model.pieces and "xy" not in model.pieces


@pytest.mark.parametrize("kind", ["bpe", "unigram"])
def test_too_large(kind: str, counts: Counter[str]):
    """A vocabulary that captions do not hold is refused with the largest they do, which then works."""
    refused = pytest.raises(ValueError, match=r"vocab 5000 is more than these captions hold: set it to \d+")
    with refused as told:
        fitted(counts, kind, 5000, 1.0)
    most = int(re.search(r"to (\d+) or", str(told.value))[1])
    assert len(SentencePieces(fitted(counts, kind, most, 1.0), kind, True).pieces) == most
    with pytest.raises(ValueError, match=f"set it to {most} or less"):
        fitted(counts, kind, most + 1, 1.0)


@pytest.mark.parametrize("kind", ["bpe", "unigram"])
def test_too_small(kind: str, counts: Counter[str]):
    """A vocabulary without room for every character is refused with the least that has."""
    refused = pytest.raises(ValueError, match=r"vocab 9 is less than the \d+ that .* need: set it to \d+ or")
    with refused as told:
        fitted(counts, kind, 9, 1.0)
    least = int(re.search(r"to (\d+) or", str(told.value))[1])
    characters = {*"".join(counts)} - {" "}
    assert least == len(characters) + 2  # the space's, and the unknown one
    assert len(SentencePieces(fitted(counts, kind, least, 1.0), kind, True).pieces) == least


def test_coverage():
    """Rare characters have no piece where the common ones are share enough."""
    model = SentencePieces(fitted(Counter({"abab": 500, "abq": 1}), "bpe", 5, 0.99), "bpe", True)
    assert "q" not in "".join(model.pieces) and model.ids(["q"])[0][-1] == model.unknown


@pytest.mark.parametrize("caption", ["<unk> fox", "a ▅ fox", "fox " * 3000], ids=["mark", "block", "length"])
def test_no_caption_is_passed_over(caption: str):
    """What sentencepiece has for itself, and its limit of 4,192 bytes, keep nothing from being learned."""
    model = SentencePieces(fitted(Counter([normalized(caption)]), "bpe", 10, 1.0), "bpe", True)
    assert {*"fox"} <= {*"".join(model.pieces)}
    assert model.unknown not in model.ids(["fox"])[0]


def test_dropout_of_nothing(bpe: TextTokenizer, captions: list[str]):
    """Merges by hand, none of them dropped, are sentencepiece's ids; unknown characters, too."""
    model, texts = bpe._reader, [bpe.normalized(text) for text in [*captions, "fox 日本 fx日", "qqq"]]
    assert model.dropped(texts, 0.0, np.random.default_rng(0)) == model.ids(texts)


def test_no_model():
    """Bytes that are no model are refused."""
    with pytest.raises(ValueError, match="9 bytes are no sentencepiece model"):
        TextTokenizer.of(b"no model!", TextConfig(vocab=60))
