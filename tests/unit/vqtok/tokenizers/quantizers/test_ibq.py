"""IBQ, against its definition with every tensor of n x k written out."""

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from vqtok.tokenizers.quantizers import scores
from vqtok.tokenizers.quantizers.ibq import IBQ, IBQConfig


def written_out(ibq: IBQ, vectors: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Vectors, ids and loss with one-hot choices, as in the paper."""
    config, table = ibq.config, ibq.embedding.weight
    logits = torch.einsum("b d h w, k d -> b h w k", vectors, table)
    soft, ids = logits.softmax(3), logits.argmax(3)
    one_hot = F.one_hot(ids, config.codes).float()
    hard = (one_hot @ table).permute(0, 3, 1, 2)
    through = ((one_hot + soft - soft.detach()) @ table).permute(0, 3, 1, 2)
    weights = (config.beta, 1.0) if config.legacy else (1.0, config.beta)
    codebook, commitment = F.mse_loss(hard, vectors.detach()), F.mse_loss(vectors, hard.detach())
    q = (logits / config.temperature).softmax(3)
    sure = torch.special.entr(q).sum(3).mean()
    even = torch.special.entr(q.mean((0, 1, 2))).sum()
    loss = F.mse_loss(through, vectors) + weights[0] * codebook + weights[1] * commitment
    return through, ids, loss + config.entropy * (sure - config.diversity * even)


@pytest.mark.parametrize("legacy", [False, True])
@pytest.mark.parametrize("rows", [16, 1000])
def test_as_written_out(vectors: Tensor, legacy: bool, rows: int, monkeypatch: pytest.MonkeyPatch):
    """Values, and gradients for vectors and all codes, without a one-hot and in chunks of any size."""
    monkeypatch.setattr(scores, "chunk_rows", lambda *_: rows)
    torch.manual_seed(0)
    options = {"beta": 0.3, "legacy": legacy, "entropy": 0.2, "diversity": 0.7, "temperature": 0.8}
    ibq = IBQ(IBQConfig(codes=12, width=4, **options))
    vectors.requires_grad_()
    gradient, found = torch.randn(3, 4, 5, 7), ibq(vectors)
    through, ids, loss = written_out(ibq, vectors)
    assert torch.equal(found.ids, ids) and torch.equal(found.vectors, ibq.decode(ids))
    torch.testing.assert_close(found.loss, loss)
    places = [vectors, ibq.embedding.weight]
    torch.testing.assert_close(
        torch.autograd.grad((found.vectors * gradient).sum() + found.loss, places),
        torch.autograd.grad((through * gradient).sum() + loss, places),
    )


def test_all_codes_learn(vectors: Tensor):
    """The decoder's gradient alone reaches codes that nobody chose."""
    ibq = IBQ(IBQConfig(codes=200, width=4))
    out = ibq(vectors)
    out.vectors.square().sum().backward()
    assert len(out.ids.unique()) < 106 and (ibq.embedding.weight.grad != 0).any(1).all()


def test_a_temperature_of_no_use():
    """Zero divides."""
    with pytest.raises(ValueError, match="temperature 0.0 must be above 0"):
        IBQConfig(codes=4, width=2, temperature=0.0)
