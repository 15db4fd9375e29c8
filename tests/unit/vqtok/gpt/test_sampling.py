"""How the next token is chosen, and what `generate` promises."""

from dataclasses import replace

import pytest
import torch

from vqtok.gpt.cache import KVCache
from vqtok.gpt.config import GPTConfig
from vqtok.gpt.model import GPT
from vqtok.gpt.sampling import Sampling, draw, generate, shortlist

CONFIG = GPTConfig(vocab=23, length=14, width=32, depth=2, heads=4, kv_heads=2, period=5)
GREEDY = Sampling(temperature=0)


@pytest.fixture
def gpt(lively):
    """A tiny GPT with shared key heads and places."""
    return lively(CONFIG)


def seeded(seed: int) -> torch.Generator:
    """A CPU generator."""
    return torch.Generator().manual_seed(seed)


def test_temperature_zero_is_argmax():
    """Greedy takes the best id of each row, whatever top-k and top-p say, and needs no generator."""
    logits = torch.randn(50, 23)
    for sampling in (GREEDY, Sampling(temperature=0, top_k=3, top_p=0.2)):
        assert torch.equal(draw(logits, sampling), logits.argmax(-1))


@pytest.mark.parametrize("temperature", [1e-300, 1e-3])
def test_a_tiny_temperature_is_greedy(temperature):
    """Near zero the scores neither overflow nor become nan: the best id is drawn."""
    logits = 100 * torch.randn(50, 23)
    assert torch.equal(draw(logits, Sampling(temperature=temperature), seeded(0)), logits.argmax(-1))


@pytest.mark.parametrize(
    "sampling", [Sampling(), Sampling(temperature=0.5), Sampling(top_k=4), Sampling(top_p=0.6)]
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


def test_the_same_seed_gives_the_same_draws(gpt):
    """Draws depend on the generator alone, not on global randomness; another seed draws otherwise."""
    ids = torch.randint(23, (4, 5))
    first = generate(gpt, ids, 8, Sampling(), seeded(3))
    torch.rand(7)
    assert torch.equal(generate(gpt, ids, 8, Sampling(), seeded(3)), first)
    assert not torch.equal(generate(gpt, ids, 8, Sampling(), seeded(4)), first)


def test_generating_takes_nothing_from_global_randomness(gpt):
    """The global generator stands where it stood, so that evaluating more often changes no training run."""
    before = torch.get_rng_state()
    generate(GPT.train(gpt), torch.zeros(2, 3, dtype=torch.int64), 4, Sampling(), seeded(0))
    assert torch.equal(torch.get_rng_state(), before)


@pytest.mark.parametrize("sampling", [GREEDY, Sampling(temperature=5.0), Sampling(temperature=5.0, top_k=9)])
def test_only_allowed_ids_are_drawn(gpt, sampling):
    """Whatever the sampling, and even where fewer are allowed than top-k keeps."""
    allowed = torch.zeros(23, dtype=torch.bool).index_fill(0, torch.tensor([2, 7, 20]), True)
    drawn = generate(gpt, torch.randint(23, (30, 4)), 10, sampling, seeded(0), allowed)
    assert allowed[drawn].all()
    assert sampling == GREEDY or set(drawn.flatten().tolist()) == {2, 7, 20}


@pytest.mark.parametrize("count", [1, 9])
def test_greedy_tokens_are_those_of_the_uncached_loop(gpt, count):
    """Up to the last position of the model: every token is the argmax after all that came before."""
    ids = torch.randint(23, (3, 6))
    drawn = generate(gpt, ids, count, GREEDY)
    whole = torch.cat((ids, drawn), 1)
    assert torch.equal(gpt(whole[:, :-1])[:, 5:].argmax(-1), drawn)


def test_candidates_continue_one_prompt(gpt):
    """Those of a prompt stand together and equal those of the prompt written several times."""
    ids = torch.randint(23, (2, 6))
    drawn = generate(gpt, ids, 8, Sampling(), seeded(5), candidates=3)
    assert drawn.shape == (6, 8) and not torch.equal(drawn[0], drawn[1])
    assert torch.equal(drawn, generate(gpt, ids.repeat_interleave(3, 0), 8, Sampling(), seeded(5)))


def test_dropout_is_off_meanwhile(lively):
    """A model in training mode generates as in evaluation mode, and every module's mode is as before."""
    gpt = lively(replace(CONFIG, dropout=0.5))
    ids = torch.randint(23, (2, 6))
    expected = generate(gpt, ids, 8, GREEDY)
    gpt.train().blocks[0].eval()
    modes = [module.training for module in gpt.modules()]
    assert torch.equal(generate(gpt, ids, 8, GREEDY), expected)
    assert [module.training for module in gpt.modules()] == modes


def test_drawn_ids_can_be_trained_on(gpt):
    """What comes out is an ordinary tensor, though it was made without gradients."""
    drawn = generate(gpt, torch.randint(23, (2, 6)), 5, GREEDY)
    gpt.train()(drawn).sum().backward()
    assert gpt.embed.weight.grad is not None


def test_bfloat16_weights_generate(gpt):
    """A bfloat16 model generates the argmax of its own uncached scores, or an id as good to its rounding."""
    gpt.bfloat16()
    ids = torch.randint(23, (3, 6))
    drawn = generate(gpt, ids, 9, GREEDY)
    logits = gpt(torch.cat((ids, drawn), 1)[:, :-1])[:, 5:]
    lost = logits.amax(-1) - logits.gather(-1, drawn[..., None])[..., 0]
    assert lost.max() < 0.1 * logits.std()


def test_each_token_is_computed_once(gpt, monkeypatch):
    """The prompt is read once, and each later step reads one token."""
    lengths = []
    features = GPT.features
    monkeypatch.setattr(
        GPT, "features", lambda self, ids, cache: lengths.append(ids.shape[1]) or features(self, ids, cache)
    )
    generate(gpt, torch.randint(23, (2, 6)), 5, GREEDY)
    assert lengths == [6, 1, 1, 1, 1]


def test_attention_reads_the_filled_slice_only(gpt):
    """Keys and values handed to attention end where the filled ones do: no mask over an empty rest."""
    cache = KVCache(CONFIG, batch=1)
    gpt(torch.randint(23, (1, 4)), cache=cache)
    keys, values = cache.write(0, *torch.randn(2, 1, 2, 1, 8))
    assert keys.shape[2] == values.shape[2] == 5


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
    ],
)
def test_bad_sampling_is_refused(settings, message):
    """Values that mean nothing raise when the Sampling is made."""
    with pytest.raises(ValueError, match=message):
        Sampling(**settings)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"ids": torch.tensor([[3, 23]])}, r"id 23 is outside \[0, 23\)"),
        ({"ids": torch.tensor([[23]])}, r"id 23 is outside \[0, 23\)"),
        ({"ids": torch.tensor([3, 2])}, r"ids have shape \(2,\)"),
        ({"ids": torch.zeros(1, 0, dtype=torch.int64)}, r"ids have shape \(1, 0\)"),
        ({"count": 0}, "0 tokens of 1 candidates are nothing"),
        ({"candidates": 0}, "3 tokens of 0 candidates are nothing"),
        ({"count": 13}, "3 prompt tokens and 13 new ones do not fit a model of length 14: .* length=15"),
        ({"sampling": Sampling()}, "temperature 1.0 draws at random: give generator="),
        (
            {"allowed": torch.ones(22, dtype=torch.bool)},
            r"allowed is torch.bool of shape \(22,\) with 22 ids",
        ),
        ({"allowed": torch.zeros(23, dtype=torch.bool)}, "with 0 ids: give bool .* at least one true"),
        ({"allowed": torch.ones(23)}, "allowed is torch.float32"),
    ],
)
def test_mistakes_are_refused(gpt, changes, message):
    """Before anything is computed: the value, the limit, the way out."""
    arguments = {"ids": torch.tensor([[1, 2, 3]]), "count": 3, "sampling": GREEDY}
    with pytest.raises(ValueError, match=message):
        generate(gpt, **arguments | changes)


def test_draw_refuses_what_generate_refuses():
    """A random draw without a generator, and an `allowed` that allows nothing."""
    with pytest.raises(ValueError, match="give generator="):
        draw(torch.randn(2, 5), Sampling())
    with pytest.raises(ValueError, match="with 0 ids"):
        draw(torch.randn(2, 5), GREEDY, allowed=torch.zeros(5, dtype=torch.bool))


def test_shortlist_is_a_distribution_over_distinct_ids():
    """Probabilities sum to 1 and no id stands twice, with any settings."""
    logits = torch.randn(6, 40)
    for sampling in (Sampling(), Sampling(top_k=50), Sampling(top_k=7, top_p=0.5), Sampling(top_p=1.0)):
        ids, shares = shortlist(logits, sampling)
        torch.testing.assert_close(shares.sum(-1), torch.ones(6, dtype=torch.float64))
        assert all(len(row.unique()) == len(row) for row in ids)


@pytest.mark.gpu
def test_a_cpu_generator_draws_the_same_on_a_gpu(gpt):
    """The device changes no draw when scores agree: one seed, one sequence."""
    logits = torch.randn(200, 23)
    expected = draw(logits, Sampling(top_k=9, top_p=0.8), seeded(0))
    assert torch.equal(draw(logits.cuda(), Sampling(top_k=9, top_p=0.8), seeded(0)).cpu(), expected)
    generate(gpt.cuda(), torch.zeros(2, 3, dtype=torch.int64, device="cuda"), 4, Sampling(), seeded(0))
