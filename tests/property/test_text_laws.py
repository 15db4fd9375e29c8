"""Laws of text tokenizers, over captions."""

from functools import cache

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from vqtok.text import TextConfig, TextTokenizer, normalized
from vqtok.text.tokenizer import NONE

lawful = settings(max_examples=60, deadline=None, derandomize=True)
ALPHABET = "abcdeé,12' "
CORPUS = ["abba abe, 12 bad cabbages", "dead bees' decade 2 2", "a café, é 1'1", "add a cab ab abc abcd"]
kinds = st.sampled_from(["bpe", "unigram"])
seeds = st.integers(0, 2**31)
known = st.text(ALPHABET + "ABÉ\t", min_size=1).filter(normalized)
foreign = st.text(min_size=1).filter(normalized)


@cache
def fitted(kind: str) -> TextTokenizer:
    """A tokenizer of a few words."""
    return TextTokenizer.fit(CORPUS, TextConfig(vocab={"bpe": 40, "unigram": 24}[kind], kind=kind))


@lawful
@given(captions=st.lists(known, min_size=1, max_size=5), kind=kinds)
def test_captions_come_back(captions: list[str], kind: str) -> None:
    """decode(encode(x)) is normalized(x) where every character is known."""
    texts = fitted(kind).encode(captions)
    assert texts.unknown == 0 and texts.cut == 0
    assert fitted(kind).decode(texts.ids) == [normalized(caption) for caption in captions]


@lawful
@given(caption=st.one_of(known, foreign), chance=st.floats(0.01, 1), seed=seeds)
def test_dropout_changes_the_cut_alone(caption: str, chance: float, seed: int) -> None:
    """Whatever merges are dropped, the text is the same, and so are the ids of one generator."""
    bpe = fitted("bpe")
    ids, same = (bpe.encode([caption], dropout=chance, rng=np.random.default_rng(seed)).ids for _ in range(2))
    assert torch.equal(ids, same)
    assert bpe.decode(ids) == bpe.decode(bpe.encode([caption]).ids)


@settings(lawful, max_examples=200)
@given(caption=st.one_of(known, foreign))
def test_without_dropout_merges_are_sentencepieces(caption: str) -> None:
    """The merge loop gives sentencepiece's own ids, characters without a piece included."""
    codec, text = fitted("bpe")._reader, normalized(caption)
    assert codec.dropped([text], 0.0, np.random.default_rng(0)) == codec.ids([text])


@lawful
@given(caption=known)
def test_with_all_dropped_there_are_characters(caption: str) -> None:
    """At a chance of 1 every character is a token, the space before the first word, too."""
    bpe = fitted("bpe")
    ids = bpe.encode([caption], dropout=1.0, rng=np.random.default_rng(0)).ids[0]
    assert "".join(bpe.pieces[id] for id in ids) == "\u2581" + normalized(caption).replace(" ", "\u2581")
    assert len(ids) == len(normalized(caption)) + 1


@lawful
@given(caption=foreign, lower=st.booleans())
def test_normal_is_normal(caption: str, lower: bool) -> None:
    """Normalizing twice is normalizing once, and what is normal encodes as what it came from."""
    text = normalized(caption, lower)
    assert normalized(text, lower) == text
    assert torch.equal(fitted("bpe").encode([caption]).ids, fitted("bpe").encode([normalized(caption)]).ids)


@pytest.mark.filterwarnings("ignore:.* were cut")
@lawful
@given(captions=st.lists(known, min_size=1, max_size=4), length=st.integers(1, 12))
def test_a_cut_is_a_beginning(captions: list[str], length: int) -> None:
    """Cut ids are the first of the whole ones, and exactly the captions that lost some are counted."""
    whole = fitted("bpe").encode(captions).ids
    whole = torch.nn.functional.pad(whole, (0, max(0, length - whole.shape[1])), value=NONE)
    texts = fitted("bpe").encode(captions, length)
    assert torch.equal(texts.ids, whole[:, :length])
    assert texts.cut == int((whole[:, length:] != NONE).any(1).sum())


@settings(lawful, max_examples=25)
@given(captions=st.lists(foreign, min_size=1, max_size=4), seed=seeds, kind=kinds)
def test_any_captions_can_be_fitted_to(captions: list[str], seed: int, kind: str) -> None:
    """With as many ids as they hold, or fewer, a tokenizer of any captions knows their characters."""
    size = 4096
    for _ in range(2):  # the first tells how many can be had
        try:
            tokenizer = TextTokenizer.fit(captions, TextConfig(vocab=size, kind=kind))
            break
        except ValueError as error:
            size = int(str(error).rpartition("set it to ")[2].split()[0])
    shuffled = np.random.default_rng(seed).permutation(captions).tolist()
    again = TextTokenizer.fit(shuffled, TextConfig(vocab=size, kind=kind))
    assert torch.equal(again.model, tokenizer.model)
    texts = tokenizer.encode(captions)
    rare = sum("\u2585" in normalized(caption) for caption in captions)
    assert texts.unknown == rare
    if not rare:
        assert tokenizer.decode(texts.ids) == [normalized(caption) for caption in captions]
