"""The training order and held-out pairs."""

import numpy as np
import pytest
import torch

from vqtok.clip.pairs import Samples, caption_ids, held_out


def test_every_pair_once_an_epoch(pairs, tokenizer, towers_config):
    """An epoch holds each caption once; the next one in another order."""
    samples = Samples(pairs, tokenizer, towers_config)
    epochs = [[samples[epoch * 18 + place][2] for place in range(18)] for epoch in (0, 1)]
    assert len({*epochs[0]}) == 18 and {*epochs[0]} == {*epochs[1]} and epochs[0] != epochs[1]


def test_same_sample_twice(pairs, tokenizer, towers_config):
    """A sample is a function of seed and number, its crop included."""
    one, other = (Samples(pairs, tokenizer, towers_config, crop=0.5, seed=3)[7] for _ in range(2))
    assert torch.equal(one[0], other[0]) and torch.equal(one[1], other[1]) and one[2:] == other[2:]


def test_picture_is_what_it_was(pairs, tokenizer, towers_config):
    """Without crops a picture has the pair's pixels, scaled to the size of the tower, in [0, 1]."""
    images = torch.stack([Samples(pairs, tokenizer, towers_config)[place][0] for place in range(18)])
    found = {tuple(image[:, 3, 5].mul(255).round().int().tolist()) for image in images}
    assert images.shape == (18, 3, 32, 32)
    assert found == {tuple(pairs[3 * place][0][0, 0]) for place in range(6)}


def test_crops_are_small(tokenizer, towers_config):
    """A crop shows no less than its share of the side, and another one at another number."""

    class Ramp:
        def __len__(self) -> int:
            return 1

        def __getitem__(self, index: int) -> tuple[np.ndarray, str]:
            return np.tile(np.linspace(0, 255, 32).astype(np.uint8)[None, :, None], (32, 1, 3)), "red"

    samples = Samples(Ramp(), tokenizer, towers_config, crop=0.8)
    spans = [float(samples[place][0].amax() - samples[place][0].amin()) for place in range(20)]
    assert min(spans) > 0.72 and len({*spans}) > 10


def test_equal_captions_share_a_number(tokenizer, towers_config):
    """Captions that the tower reads as the same are equal, whatever their spelling."""

    class Cats:
        def __len__(self) -> int:
            return 3

        def __getitem__(self, index: int) -> tuple[np.ndarray, str]:
            return np.zeros((8, 8, 3), np.uint8), ("red", "Red ", "blue")[index]

    numbers = [Samples(Cats(), tokenizer, towers_config)[place][2] for place in range(3)]
    assert len({*numbers}) == 2


def test_long_captions_are_cut(tokenizer):
    """Ids end where there is no more room, and that is told."""
    short, was_cut = caption_ids(tokenizer, "red", 12)
    assert len(short) == 12 and short[-1] == -1 and not was_cut
    long, was_cut = caption_ids(tokenizer, "red blue " * 20, 12)
    assert len(long) == 12 and (long >= 0).all() and was_cut


def test_held_out_captions_differ(pairs, tokenizer, towers_config):
    """As many as asked for, no two alike; all there are if there are fewer."""
    images, captions = held_out(pairs, 5, tokenizer, towers_config)
    assert images.shape == (5, 3, 32, 32) and len({*captions}) == 5
    assert len(held_out(pairs, 100, tokenizer, towers_config)[1]) == 18


def test_nothing_to_tell_apart(tokenizer, towers_config):
    """Pairs with one caption are refused for measuring; no pairs for training; a crop of nothing."""

    class One:
        def __len__(self) -> int:
            return 2

        def __getitem__(self, index: int) -> tuple[np.ndarray, str]:
            return np.zeros((8, 8, 3), np.uint8), "red"

    with pytest.raises(ValueError, match="1 different captions"):
        held_out(One(), 5, tokenizer, towers_config)
    with pytest.raises(ValueError, match="no pairs"):
        Samples([], tokenizer, towers_config)
    with pytest.raises(ValueError, match="crop 0"):
        Samples(One(), tokenizer, towers_config, crop=0)
