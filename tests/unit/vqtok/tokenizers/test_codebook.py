"""Use of the codebook in training: counted over a window, exact, and begun anew."""

import math

import torch

from vqtok.metrics.tokens import entropy, perplexity, usage
from vqtok.tokenizers import codebook
from vqtok.tokenizers.codebook import CodebookUse


def test_a_window():
    """Several steps count as all their ids at once; then the next window begins."""
    use, ids = CodebookUse(10), torch.randint(7, (4, 2, 3, 3), generator=torch.Generator().manual_seed(0))
    for part in ids:
        use.add(part)
    assert use.take() == {
        "codebook/usage": usage(ids, 10),
        "codebook/entropy": entropy(ids, 10),
        "codebook/perplexity": perplexity(ids, 10),
        "codebook/ids": 72,
    }
    assert use.take() == {}
    use.add(torch.tensor([3, 3, 4, 4]))
    assert use.take()["codebook/entropy"] == 1.0


def test_it_is_state():
    """A checkpoint holds the window, so that a resumed run reports what one that never stopped does."""
    use, again = CodebookUse(4), CodebookUse(4)
    use.add(torch.tensor([0, 1, 1]))
    again.load_state_dict(use.state_dict())
    assert again.take() == use.take()


def test_codebooks_beyond_counting(monkeypatch):
    """They have no counts, and no figures."""
    monkeypatch.setattr(codebook, "LARGEST", 8)
    use = CodebookUse(9)
    use.add(torch.tensor([0, 8]))
    assert use.counts.numel() == 0 and use.take() == {}
    assert math.prod(CodebookUse(8).counts.shape) == 8
