"""How the next token is chosen from its scores."""

import pytest
import torch

from vqtok.gpt.sampling import Sampling, draw, shortlist, throw

GREEDY = Sampling(temperature=0)


def seeded(seed: int) -> torch.Generator:
    """A CPU generator."""
    return torch.Generator().manual_seed(seed)


def test_temperature_zero_is_argmax():
    """Greedy takes the best id of each row, whatever else is said, and needs no generator."""
    logits = torch.randn(50, 23)
    for sampling in (GREEDY, Sampling(temperature=0, top_k=3, top_p=0.2, min_p=0.9)):
        assert torch.equal(draw(logits, sampling), logits.argmax(-1))


@pytest.mark.parametrize("temperature", [1e-300, 1e-3])
def test_a_tiny_temperature_is_greedy(temperature):
    """Near zero the scores neither overflow nor become nan: the best id is drawn."""
    logits = 100 * torch.randn(50, 23)
    assert torch.equal(draw(logits, Sampling(temperature=temperature), seeded(0)), logits.argmax(-1))


@pytest.mark.parametrize(
    "sampling",
    [Sampling(), Sampling(temperature=0.5), Sampling(top_k=4), Sampling(top_p=0.6), Sampling(min_p=0.2)],
)
def test_draws_have_the_stated_probabilities(sampling):
    """Frequencies of 20,000 draws are within 4 standard errors of the softmax over what is kept."""
    scores = 2 * torch.randn(10)
    count = 20_000
    order = scores.argsort(descending=True)
    shares = (scores.double() / sampling.temperature).softmax(-1)
    kept = order[: sampling.top_k or 10]
    if sampling.top_p:
        kept = order[: int((shares[order].cumsum(0) < sampling.top_p).sum()) + 1]
    if sampling.min_p:
        kept = order[shares[order] >= sampling.min_p * shares.max()]
    expected = torch.zeros(10, dtype=torch.float64).index_copy(0, kept, shares[kept] / shares[kept].sum())
    found = draw(scores.expand(count, 10), sampling, seeded(1)).bincount(minlength=10) / count
    assert (found - expected).abs().le(4 * (expected * (1 - expected) / count).sqrt()).all()


@pytest.mark.parametrize("dart", [0.0, 1 - 2.0**-53])
def test_the_ends_of_randomness_hit_no_id_of_probability_zero(monkeypatch, dart):
    """The smallest and the largest random number draw the first and the last id that may be drawn."""
    monkeypatch.setattr(torch, "rand", lambda *shape, **_: torch.full(shape, dart, dtype=torch.float64))
    allowed = torch.zeros(23, dtype=torch.bool).index_fill(0, torch.tensor([2, 7, 20]), True)
    drawn = draw(torch.randn(500, 23), Sampling(), seeded(0), allowed)
    assert set(drawn.tolist()) == {20 if dart else 2}


def test_one_throw_is_many_small_ones():
    """All numbers at once are those that one generator gives draw by draw, row by row."""
    at_once, one = throw(seeded(2), 3, 4, torch.device("cpu")), seeded(2)
    assert torch.equal(at_once, torch.stack([throw(one, 3, 1, torch.device("cpu"))[0] for _ in range(4)]))
    assert at_once.dtype == torch.float64 and at_once.shape == (4, 3)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"temperature": -0.1}, r"temperature -0.1 is outside \[0, inf\)"),
        ({"temperature": float("nan")}, "temperature nan"),
        ({"temperature": float("inf")}, "temperature inf"),
        ({"top_k": 0}, "top_k 0 is no whole number from 1"),
        ({"top_k": 2.5}, "top_k 2.5 is no whole number from 1"),
        ({"top_p": 0.0}, r"top_p 0.0 is outside \(0, 1\]"),
        ({"top_p": 1.1}, r"top_p 1.1 is outside \(0, 1\]"),
        ({"min_p": 1.1}, r"min_p 1.1 is outside \(0, 1\]"),
    ],
)
def test_bad_sampling_is_refused(settings, message):
    """Values that mean nothing raise when the Sampling is made."""
    with pytest.raises(ValueError, match=message):
        Sampling(**settings)


def test_draws_without_what_they_need_are_refused():
    """A random draw without a generator, and an `allowed` that allows nothing."""
    with pytest.raises(ValueError, match="give generator="):
        draw(torch.randn(2, 5), Sampling())
    with pytest.raises(ValueError, match="with 0 ids"):
        draw(torch.randn(2, 5), GREEDY, allowed=torch.zeros(5, dtype=torch.bool))


def test_shortlist_is_a_distribution_over_distinct_ids():
    """Probabilities sum to 1 and no id stands twice, with any settings."""
    logits = torch.randn(6, 40)
    for sampling in (Sampling(), Sampling(top_k=50), Sampling(top_k=7, top_p=0.5), Sampling(min_p=0.1)):
        ids, shares = shortlist(logits, sampling)
        torch.testing.assert_close(shares.sum(-1), torch.ones(6, dtype=torch.float64))
        assert all(len(row.unique()) == len(row) for row in ids)


@pytest.mark.gpu
def test_a_cpu_generator_draws_the_same_on_a_gpu():
    """The device changes no draw when scores agree: one seed, one sequence."""
    logits = torch.randn(200, 23)
    expected = draw(logits, Sampling(top_k=9, top_p=0.8), seeded(0))
    assert torch.equal(draw(logits.cuda(), Sampling(top_k=9, top_p=0.8), seeded(0)).cpu(), expected)
