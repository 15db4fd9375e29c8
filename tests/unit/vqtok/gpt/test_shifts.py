"""Token shift: which ids join which, and that a cache, a prefix and parts of a stream change nothing."""

from dataclasses import replace

import pytest
import torch

from vqtok.gpt.cache import KVCache
from vqtok.gpt.config import AttentionConfig, GPTConfig
from vqtok.gpt.masks import FullConfig
from vqtok.gpt.model import GPT, HIDDEN
from vqtok.gpt.prefix import FeaturesConfig, SOSConfig
from vqtok.gpt.published.llama import save_llama
from vqtok.gpt.shifts import NOTHING, TokenShift, earlier_ids

CONFIG = GPTConfig(vocab=11, length=12, width=32, depth=2, heads=4, shifts=(1, 4))


def test_ids_stand_so_far_back():
    """The id at each distance before a place; nothing before the begin, nor of another document."""
    ids, places = torch.tensor([[5, 6, 7, 8, 9]]), torch.arange(5)
    found = earlier_ids(ids, places, (1, 3))
    assert found.tolist() == [[[NOTHING, 5, 6, 7, 8], [NOTHING] * 3 + [5, 6]]]
    documents = torch.tensor([[2, 2, 2, 1, 1]])
    found = earlier_ids(ids, places, (1, 3), documents)
    assert found.tolist() == [[[NOTHING, 5, 6, NOTHING, 8], [NOTHING] * 5]]
    assert torch.equal(earlier_ids(ids, places[3:], (1, 3)), earlier_ids(ids, places, (1, 3))[..., 3:])


def test_vectors_are_those_of_the_matrix():
    """One block of the matrix for each distance; nothing adds nothing."""
    embed, shift = torch.nn.Embedding(11, 32), TokenShift((1, 4), 32)
    near, far = shift.matrix.weight.split(32, dim=1)
    found = shift(torch.tensor([[[3], [7]], [[3], [NOTHING]]]), embed)
    expected = embed.weight[3] @ near.T
    torch.testing.assert_close(found[0, 0], expected + embed.weight[7] @ far.T)
    torch.testing.assert_close(found[1, 0], expected)


@pytest.mark.parametrize("prefix", [None, SOSConfig(), FeaturesConfig(tokens=3, channels=2)])
def test_pieces_by_a_cache_are_the_whole(lively, prefix):
    """A prefix has no ids, and a rewound cache forgets those it dropped."""
    gpt = lively(replace(CONFIG, length=15, prefix=prefix))
    given = torch.randn(2, 3, 2) if isinstance(prefix, FeaturesConfig) else None
    ids, wrong = torch.randint(11, (2, 10)), torch.randint(11, (2, 3))
    cache = KVCache(gpt.config, batch=2)
    pieces = [gpt(ids[:, :5], cache, prefix=given)]
    filled = cache.filled
    gpt(wrong, cache)
    cache.rewind(filled)
    pieces += [gpt(piece, cache) for piece in ids[:, 5:].split([1, 4], 1)]
    torch.testing.assert_close(torch.cat(pieces, 1), gpt(ids, prefix=given), atol=1e-5, rtol=0)


def test_hidden_tokens_stay_hidden(lively):
    """In a model that sees both sides a shift tells nothing of what is not shown."""
    gpt = lively(replace(CONFIG, attention=AttentionConfig(mask=FullConfig())))
    ids = torch.randint(11, (1, 9))
    ids[:, 2] = HIDDEN
    found = gpt.shift(gpt._earlier(ids, True, None, None), gpt.embed)
    torch.testing.assert_close(found[0, 3], torch.zeros(32))  # its neighbor, nothing four back
    assert gpt(ids).isfinite().all()


def test_no_llama_shifts(tmp_path):
    """A folder for transformers cannot hold it, and says so."""
    with pytest.raises(ValueError, match=r"shifts \(1, 4\), which no LLaMA has"):
        save_llama(GPT(CONFIG), tmp_path)


def test_a_model_without_has_no_such_weights():
    """Nor room for ids in its caches."""
    gpt = GPT(replace(CONFIG, shifts=()))
    assert not [name for name in gpt.state_dict() if name.startswith("shift")]
    cache = KVCache(gpt.config, batch=1)
    gpt(torch.zeros(1, 3, dtype=torch.int64), cache)
    assert cache.ids is None
