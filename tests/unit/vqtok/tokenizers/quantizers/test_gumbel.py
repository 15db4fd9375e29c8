"""Gumbel-softmax."""

import math

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from vqtok.tokenizers.quantizers.gumbel import GumbelConfig, GumbelQuantizer, GumbelScores


def quantizer(**options: object) -> GumbelQuantizer:
    """With 12 codes and scores far from equal, of seed 0."""
    torch.manual_seed(0)
    made = GumbelQuantizer(GumbelConfig(codes=12, width=4, **options))
    torch.nn.init.normal_(made.proj.weight)
    return made


def test_evaluation_takes_the_best_code(vectors: Tensor):
    """Without noise, and whatever tau is."""
    made = quantizer().eval()
    out = made(vectors)
    assert torch.equal(out.ids, made.proj(vectors).argmax(1))
    made.tau = 1e-4
    assert torch.equal(made(vectors).ids, out.ids)


def test_draws_follow_the_softmax():
    """In training ids are drawn with the probabilities of the scores' softmax."""
    made = quantizer()
    vector = torch.randn(1, 4, 1, 1).expand(1, 4, 200, 200)
    counts = torch.bincount(made(vector).ids.flatten(), minlength=12) / 40000
    wanted = F.softmax(made.proj(vector[..., :1, :1]).flatten(), dim=0)
    assert (counts - wanted).abs().max() < 0.01  # four standard deviations of 40,000 draws


def test_mixtures_sharpen_with_tau(vectors: Tensor):
    """A high temperature mixes all codes, a low one leaves the drawn code alone."""
    made = quantizer()
    with torch.no_grad():
        made.tau = 1e4
        mean = made.embed.weight.mean(0)[:, None, None].expand(3, 4, 5, 7)
        torch.testing.assert_close(made(vectors).vectors, mean, atol=0.01, rtol=0)
        made.tau = 1e-4
        out = made(vectors)
        near = (out.vectors - made.decode(out.ids)).abs().amax(1) < 1e-3
        assert near.float().mean() > 0.95  # two best scores are rarely equal


def test_hard_and_soft_have_one_gradient(vectors: Tensor):
    """The scores learn the same either way; a hard choice teaches its code alone."""
    gradients = []
    for hard in (False, True):
        made = quantizer(hard=hard)
        torch.manual_seed(1)  # the same noise
        made(vectors).vectors[0, 0, 0, 0].backward()
        gradients.append((made.proj.weight.grad, made.embed.weight.grad))
    torch.testing.assert_close(gradients[0][0], gradients[1][0])
    assert int((gradients[0][1] != 0).any(1).sum()) == 12 and int((gradients[1][1] != 0).any(1).sum()) == 1


def test_divergence(vectors: Tensor):
    """KL from even use in nats: none for equal scores, log k for certain ones; its weight is `kl`."""
    made = quantizer(kl=2.0)
    q = F.softmax(made.proj(vectors), dim=1)
    expected = (q * (q * 12).log()).sum(1).mean()
    out = made(vectors)
    torch.testing.assert_close(out.terms["kl"], expected.detach())
    torch.testing.assert_close(out.loss, 2 * expected)
    made.kl = 0.5
    torch.testing.assert_close(made(vectors).loss, 0.5 * expected)
    with torch.no_grad():
        made.proj.weight.zero_(), made.proj.bias.zero_()
        assert made(vectors).terms["kl"].abs() < 1e-6
        made.proj.bias[3] = 1e3
        assert float(made(vectors).terms["kl"]) == pytest.approx(math.log(12))


def test_schedules_are_no_state():
    """Temperature and weight are functions of the step, which the trainer keeps."""
    assert {*quantizer().state_dict()} == {"proj.weight", "proj.bias", "embed.weight"}


def test_a_temperature_of_no_use():
    """Zero divides."""
    with pytest.raises(ValueError, match="tau 0.0 must be above 0"):
        GumbelConfig(codes=4, width=2, tau=0.0)


def test_scores_of_a_network(vectors: Tensor):
    """Without a classifier and a codebook of its own it is the same draw: weights instead of mixtures."""
    made = quantizer(tau=0.7, kl=0.3)
    scores = made.proj(vectors)
    bare = GumbelScores(12)
    bare.tau, bare.kl = made.tau, made.kl
    torch.manual_seed(1)
    out = bare(scores)
    noise = -torch.empty_like(scores)
    torch.manual_seed(1)
    noise = -noise.exponential_().log()
    torch.testing.assert_close(out.vectors, F.softmax((scores + noise) / 0.7, dim=1))
    assert torch.equal(out.ids, (scores + noise).argmax(1)) and not bare.state_dict()
    expected = made(vectors)
    torch.testing.assert_close(out.loss, expected.loss)  # of scores without noise
    torch.testing.assert_close(out.terms["kl"], expected.terms["kl"])


def test_scores_in_evaluation(vectors: Tensor):
    """The best code alone is switched on, whatever tau is."""
    bare = GumbelScores(12).eval()
    scores = quantizer().proj(vectors)
    out = bare(scores)
    assert torch.equal(out.ids, scores.argmax(1)) and torch.equal(out.ids, bare.encode(scores))
    assert torch.equal(out.vectors.argmax(1), out.ids) and torch.equal(out.vectors, bare.decode(out.ids))
    assert out.vectors.sum(1).unique().tolist() == [1.0]
