"""BSQ: signs on the sphere."""

import torch
import torch.nn.functional as F
from torch import Tensor

from vqtok.tokenizers.quantizers.bsq import BSQ, BSQConfig


def test_codes_lie_on_the_sphere(vectors: Tensor):
    """Codes have length one, are the nearest on the sphere, and lengths do not count."""
    bsq = BSQ(BSQConfig(bits=4))
    out = bsq(vectors)
    torch.testing.assert_close(out.vectors.norm(dim=1), torch.ones(3, 5, 7))
    assert torch.equal(bsq.encode(100 * vectors), out.ids)
    codes = bsq.decode(torch.arange(16).view(1, 1, 16))[0, :, 0].T
    flat = F.normalize(vectors, dim=1).permute(0, 2, 3, 1).reshape(-1, 4)
    assert torch.equal(torch.cdist(flat, codes).argmin(1), out.ids.flatten())


def test_loss(vectors: Tensor):
    """The entropies are the paper's, of softmax(tau c.u) with tau = 2 / temperature."""
    out = BSQ(BSQConfig(bits=4, temperature=0.5, diversity=0.7))(vectors)
    flat = F.normalize(vectors, dim=1).permute(0, 2, 3, 1).reshape(-1, 4)
    codes = BSQ(BSQConfig(bits=4)).decode(torch.arange(16).view(1, 1, 16))[0, :, 0].T
    q = F.softmax(4 * flat @ codes.T, dim=1)
    sure, even = torch.special.entr(q).sum(1).mean(), torch.special.entr(q.mean(0)).sum()
    torch.testing.assert_close(out.loss, 0.1 * (sure - 0.7 * even))


def test_straight_through(vectors: Tensor):
    """The decoder's gradient passes the normalization and nothing else."""
    gradient = torch.randn(3, 4, 5, 7)
    out = BSQ(BSQConfig(bits=4))(vectors.requires_grad_()).vectors
    expected = torch.autograd.grad(F.normalize(vectors, dim=1), vectors, gradient)[0]
    torch.testing.assert_close(torch.autograd.grad(out, vectors, gradient)[0], expected)


def test_thirty_six_bits():
    """More bits than an int32 holds round trip."""
    bsq, vectors = BSQ(BSQConfig(bits=36)), torch.randn(1, 36, 4, 4)
    ids = bsq.encode(vectors)
    assert int(ids.max()) > 2**32 and torch.equal(bsq.encode(bsq.decode(ids)), ids)
