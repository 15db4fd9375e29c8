"""Laws of captions, over seeds, names and files."""

import tempfile
import warnings
from pathlib import Path

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from vqtok.data.captions import Captioned, beside
from vqtok.data.combinations import Combinations
from vqtok.data.emoji import STYLES
from vqtok.data.emoji_pairs import EmojiPairs
from vqtok.data.order import Shuffled
from vqtok.data.pairing import FolderPairs, caption_of
from vqtok.data.phrases import about_one, about_two
from vqtok.data.shards import write_shard

lawful = settings(max_examples=40, deadline=None, derandomize=True)
seeds = st.integers(0, 2**32)
names = st.text("abc xyz", min_size=1, max_size=9)
texts = st.text(st.characters(exclude_categories=["Cs"]), max_size=30)
halves = st.tuples(st.booleans(), st.none() | texts)  # whether there is a picture, and its caption


@lawful
@given(index=st.integers(0, 10**9), seed=seeds, held=seeds)
def test_training_never_shows_what_is_held_out(index: int, seed: int, held: int) -> None:
    """At any index, under any seed, whatever is held out: no thing in such a style, no such pair."""
    pairs = EmojiPairs(f"emoji:train:{10**9 + 1}", seed=seed, combinations=Combinations(seed=held))
    shown = pairs.shown(index)
    assert all(pairs.held_out(one) != shown.style for one in shown.things)
    assert len(shown.things) == 1 or not pairs.apart(*shown.things)


@lawful
@given(index=st.integers(0, 10**9), seed=seeds, held=seeds, kind=st.sampled_from(["new_styles", "new_pairs"]))
def test_evaluation_shows_just_what_is_held_out(index: int, seed: int, held: int, kind: str) -> None:
    """New styles are the held-out ones of one thing; new pairs are held out as pairs, and as nothing else."""
    pairs = EmojiPairs(f"emoji:{kind}:{10**9 + 1}", seed=seed, combinations=Combinations(seed=held))
    shown = pairs.shown(index)
    assert shown.style in shown.caption
    assert all((pairs.held_out(one) == shown.style) == (kind == "new_styles") for one in shown.things)
    assert len(shown.things) == 1 if kind == "new_styles" else pairs.apart(*shown.things)


@lawful
@given(index=st.integers(0, 10**6), seed=seeds)
def test_samples_have_no_memory(index: int, seed: int) -> None:
    """A sample and its caption depend on (seed, index) alone, not on what was asked before."""
    pairs = EmojiPairs(f"emoji:train:{10**6 + 2}", seed=seed)
    once = pairs.shown(index)
    pairs.shown(index + 1)
    assert pairs.shown(index) == once == EmojiPairs(f"emoji:train:{10**6 + 2}", seed=seed).shown(index)


@lawful
@given(one=names, other=names, seed=seeds)
def test_combinations_know_no_order(one: str, other: str, seed: int) -> None:
    """Pairs are unordered, styles are a set, and a style that is held out is one of those given."""
    some = Combinations(seed=seed)
    assert some.apart(one, other) == some.apart(other, one)
    assert some.style(one, STYLES) == some.style(one, STYLES[::-1])
    assert some.style(one, STYLES) in (*STYLES, None)


@lawful
@given(one=names, other=names, seed=seeds)
def test_phrases_name_what_is_shown(one: str, other: str, seed: int) -> None:
    """Every thing and the style are in the caption, which has single spaces only."""
    one, other = (" ".join(name.split()) or "thing" for name in (one, other))
    rng = np.random.default_rng(seed)
    for caption, things in (
        (about_one(one, "flat", rng), [one]),
        (about_two((one, other), "left", "flat", rng), [one, other]),
    ):
        assert all(thing in caption for thing in things) and "flat style" in caption
        assert caption == " ".join(caption.split())


@lawful
@given(files=st.dictionaries(st.sampled_from("abcdefgh"), halves))
def test_nothing_is_lost_in_a_folder(files: dict[str, tuple[bool, str | None]]) -> None:
    """Pictures and captions are in a pair just where that is whole, or else left out by name."""
    files |= {"z": (True, "so that there is one pair")}
    with tempfile.TemporaryDirectory() as folder, warnings.catch_warnings():
        warnings.simplefilter("ignore")
        for name, (picture, text) in files.items():
            if picture:
                Path(folder, f"{name}.png").touch()  # pictures are read when they are asked for
            if text is not None:
                Path(folder, f"{name}.txt").write_bytes(text.encode())
        pairs = FolderPairs(folder, tolerate=1.0)
        kept = {pairs.name(index): pairs.caption(index) for index in range(len(pairs))}
        words = {name: (text or "").removeprefix("\ufeff").split() for name, (_, text) in files.items()}
        whole = {name for name, (picture, _) in files.items() if picture and words[name]}
        assert {name[0] for name in kept} == whole
        some = {name for name, (picture, text) in files.items() if picture or text is not None}
        assert {name[0] for name in pairs.left_out.names} == some - whole
        assert all(caption == caption_of(files[name[0]][1].encode()) for name, caption in kept.items())


@lawful
@given(captions=st.lists(texts, min_size=1, max_size=9), seed=st.integers(0, 99), shards=st.integers(1, 3))
def test_captions_come_back(captions: list[str], seed: int, shards: int) -> None:
    """Captions of any characters come back with their rows, each once in every epoch of every order."""
    with tempfile.TemporaryDirectory() as folder:
        for number, part in enumerate(np.array_split(np.arange(len(captions)), shards)):
            told, files = beside([captions[row] for row in part])
            write_shard(Path(folder, f"{number}"), part[:, None], 9, told, beside=files)
        order = Shuffled(Captioned(folder), seed)
        epoch = [order[len(captions) + place] for place in range(len(captions))]
        assert sorted(int(ids) for ids, _ in epoch) == [*range(len(captions))]
        assert all(caption == captions[int(ids)] for ids, caption in epoch)
