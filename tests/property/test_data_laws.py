"""Laws of the data floor, over seeds, lengths and shapes."""

import tempfile
from itertools import pairwise
from pathlib import Path

import numpy as np
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from vqtok.data.order import Shuffled, shuffled
from vqtok.data.pictures import read_picture, write_picture
from vqtok.data.shards import Shards, write_shard

lawful = settings(max_examples=40, deadline=None, derandomize=True)
seeds = st.integers(-(2**70), 2**70)


@lawful
@given(length=st.integers(1, 400), epoch=st.integers(0, 10**6), seed=seeds)
def test_each_sample_once_an_epoch(length: int, epoch: int, seed: int) -> None:
    """Every epoch of every order is a permutation of all samples."""
    places = [shuffled(epoch * length + place, length, seed) for place in range(length)]
    assert sorted(places) == list(range(length))


@lawful
@given(length=st.integers(1, 10**15), index=st.integers(0, 10**18), seed=seeds)
def test_order_has_no_memory(length: int, index: int, seed: int) -> None:
    """A place depends on (seed, epoch, index) alone, not on what was asked before, and is always in range."""
    place = shuffled(index, length, seed)
    shuffled(index + 1, length, seed + 1)
    assert place == shuffled(index, length, seed) and 0 <= place < length


@lawful
@given(length=st.integers(1, 60), ranks=st.integers(1, 7), batch=st.integers(1, 9), seed=seeds)
def test_any_world_size_reads_the_same(length: int, ranks: int, batch: int, seed: int) -> None:
    """Ranks that take every so-manieth sample of each batch read together what one process reads alone."""
    source = Shuffled(range(length), seed)
    steps = [range(start, stop) for start, stop in pairwise(range(0, batch * 5 + 1, batch))]
    alone = [sorted(source[k] for k in step) for step in steps]
    together = [sorted(source[k] for rank in range(ranks) for k in step[rank::ranks]) for step in steps]
    assert alone == together


@lawful
@given(
    counts=st.lists(st.integers(1, 5), min_size=1, max_size=4),
    width=st.integers(1, 9),
    vocab=st.sampled_from([1, 2, 1024, 65_535, 65_536, 65_537, 2**31, 2**32]),
    seed=st.integers(0, 99),
)
def test_shards_give_back_what_was_written(counts: list[int], width: int, vocab: int, seed: int) -> None:
    """Rows of any count, width and vocabulary, in any number of shards, come back in order."""
    rows = np.random.default_rng(seed).integers(0, vocab, (sum(counts), width))
    rows[0, 0], rows[-1, -1] = 0, vocab - 1
    with tempfile.TemporaryDirectory() as folder:
        for number, part in enumerate(np.split(rows, np.cumsum(counts)[:-1])):
            write_shard(Path(folder, f"{number}"), part, vocab)
        opened = Shards(folder)
        assert torch.equal(torch.stack(list(opened)), torch.from_numpy(rows))
        assert (len(opened), opened.width, opened.vocab) == (len(rows), width, vocab)


@lawful
@given(height=st.integers(1, 20), width=st.integers(1, 20), seed=st.integers(0, 99))
def test_pictures_survive_writing(height: int, width: int, seed: int) -> None:
    """Writing and reading an image of any shape rounds it to 8 bits; doing it again changes nothing."""
    image = torch.rand(3, height, width, generator=torch.Generator().manual_seed(seed))
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder, "a.png")
        write_picture(path, image)
        once = read_picture(path)
        write_picture(path, once)
        assert torch.equal(read_picture(path), once)
    assert (once - image).abs().max() <= 0.5 / 255 + 1e-6
