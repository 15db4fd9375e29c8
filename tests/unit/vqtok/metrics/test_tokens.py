"""Token metrics against counts one can do by hand."""

import math

import pytest
import torch

from vqtok.metrics import entropy, perplexity, usage


def test_uniform_ids_use_everything():
    """Every code equally often: usage 1, entropy log2(vocab) bits, perplexity vocab, whatever the shape."""
    ids = torch.arange(64).repeat(3).reshape(3, 8, 8)
    assert usage(ids, 64) == 1.0
    assert entropy(ids, 64) == pytest.approx(6.0)
    assert perplexity(ids, 64) == pytest.approx(64.0)


def test_one_code_is_no_information():
    """A collapsed codebook: usage 1/vocab, entropy 0 bits, perplexity 1."""
    ids = torch.full((5,), 3)
    assert (usage(ids, 8), entropy(ids, 8), perplexity(ids, 8)) == (1 / 8, 0.0, 1.0)


def test_unequal_frequencies():
    """Shares of 1/2, 1/4, 1/4 have 1.5 bits."""
    ids = torch.tensor([0, 0, 1, 2])
    assert usage(ids, 10) == pytest.approx(0.3)
    assert entropy(ids, 10) == pytest.approx(1.5)
    assert perplexity(ids, 10) == pytest.approx(2**1.5)


def test_perplexity_does_not_depend_on_unused_codes():
    """A larger vocabulary changes usage, not perplexity."""
    ids = torch.randint(16, (100,))
    assert perplexity(ids, 16) == perplexity(ids, 1024)
    assert math.isclose(usage(ids, 16) * 16, usage(ids, 1024) * 1024)


@pytest.mark.parametrize(("ids", "wrong"), [([0, 8], 8), ([-1, 3], -1)])
def test_an_id_outside_the_vocabulary_is_named(ids: list[int], wrong: int):
    """The id, the limit and the way out."""
    with pytest.raises(ValueError, match=rf"id {wrong} lies outside \[0, 8\)"):
        usage(torch.tensor(ids), 8)


def test_no_ids_are_refused():
    """The statistics of nothing are not 0."""
    with pytest.raises(ValueError, match="0 ids"):
        entropy(torch.tensor([], dtype=torch.int64), 8)


def test_more_codes_than_fit_in_memory():
    """Usage, entropy and perplexity hold no table of all codes."""
    ids = torch.tensor([0, 2**36 - 1, 5, 5])
    assert usage(ids, 2**36) == 3 / 2**36
    assert entropy(ids, 2**36) == pytest.approx(1.5) and perplexity(ids, 2**36) == pytest.approx(2**1.5)
