"""SimVQ: all codes move with one linear map."""

import pytest
import torch
from torch import Tensor

from vqtok.tokenizers.quantizers.simvq import SimVQ, SimVQConfig


@pytest.fixture
def simvq() -> SimVQ:
    """200 codes of seed 0."""
    torch.manual_seed(0)
    return SimVQ(SimVQConfig(codes=200, width=4))


def test_decoding_goes_through_the_map(simvq: SimVQ, vectors: Tensor):
    """Ids decode to mapped rows, not to rows of the frozen table."""
    ids = simvq.encode(vectors)
    mapped = simvq.embedding_proj(simvq.embedding.weight)[ids].permute(0, 3, 1, 2)
    torch.testing.assert_close(simvq.decode(ids), mapped)
    torch.testing.assert_close(simvq(vectors).vectors, mapped)


def test_the_nearest_mapped_row_is_chosen(simvq: SimVQ, vectors: Tensor):
    """By Euclidean distance to what ids decode to."""
    flat = vectors.permute(0, 2, 3, 1).reshape(-1, 4)
    nearest = torch.cdist(flat.double(), simvq.codebook().double()).argmin(1)
    assert torch.equal(simvq.encode(vectors).flatten(), nearest)


def test_one_step_moves_all_codes(simvq: SimVQ, vectors: Tensor):
    """The table takes no gradient; the map does, and codes that nobody chose move with it."""
    before, ids = simvq.codebook().detach(), simvq.encode(vectors)
    simvq(vectors).loss.backward()
    assert simvq.embedding.weight.grad is None
    torch.optim.SGD(simvq.parameters(), lr=0.1).step()
    unused = torch.ones(200, dtype=torch.bool).index_fill(0, ids.flatten(), False)
    assert unused.any() and (simvq.codebook() != before)[unused].any(1).all()


def test_start(simvq: SimVQ):
    """Rows have length one on average, whatever the width."""
    assert float(simvq.embedding.weight.square().sum(1).mean()) == pytest.approx(1, abs=0.15)
