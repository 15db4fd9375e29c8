"""A few captions, and the tokenizers fitted to them."""

from collections.abc import Callable
from itertools import product

import pytest

from vqtok.text import TextConfig, TextTokenizer

THINGS = ("cheese wedge", "red heart", "waving hand", "grinning face", "fox", "Ärger über Öl", "2 clocks")
STYLES = ("shaded", "flat style", "line drawing")


@pytest.fixture(scope="session")
def captions() -> list[str]:
    """21 captions of several words."""
    return [f"A {thing}, {style}" for thing, style in product(THINGS, STYLES)]


@pytest.fixture(scope="session")
def bpe(captions: list[str]) -> TextTokenizer:
    """BPE with 60 ids."""
    return TextTokenizer.fit(captions, TextConfig(vocab=60))


@pytest.fixture(scope="session")
def unigram(captions: list[str]) -> TextTokenizer:
    """The likeliest of 36 pieces."""
    return TextTokenizer.fit(captions, TextConfig(vocab=36, kind="unigram"))


@pytest.fixture(params=["bpe", "unigram"])
def tokenizer(request: pytest.FixtureRequest) -> TextTokenizer:
    """One of each kind."""
    return request.getfixturevalue(request.param)


@pytest.fixture(scope="session")
def toy_char_bpe() -> Callable:
    """A vocab.json and a merges.txt of minDALL-E's kind, by name."""
    return _toy_char_bpe


def _toy_char_bpe() -> tuple[dict[str, int], list[str]]:
    merges = ["h e", "he l", "l o</w>", "hel lo</w>", "a n", "an d</w>", ", a"]
    letters = [piece for letter in "helorwand,!" for piece in (letter, f"{letter}</w>")]
    pieces = ["[PAD]", "[UNK]", *letters, *(merge.replace(" ", "") for merge in merges)]
    return {piece: id for id, piece in enumerate(pieces)}, merges
