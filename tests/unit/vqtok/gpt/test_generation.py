"""What `generate` and `stream` promise."""

from dataclasses import replace

import pytest
import torch

from vqtok.gpt.cache import KVCache
from vqtok.gpt.config import GPTConfig
from vqtok.gpt.generation import generate, stream
from vqtok.gpt.guidance import Constant, CutOff, Linear, PowerCosine, scales
from vqtok.gpt.model import GPT
from vqtok.gpt.prefix import ClassesConfig, SOSConfig
from vqtok.gpt.prompts import Prompt
from vqtok.gpt.sampling import Sampling

CONFIG = GPTConfig(vocab=23, length=14, width=32, depth=2, heads=4, kv_heads=2, period=5)
GREEDY = Sampling(temperature=0)
SCHEDULES = [Constant(scale=2.5), CutOff(scale=2.5, share=0.5), Linear(scale=4), PowerCosine(scale=4)]


@pytest.fixture
def gpt(lively):
    """A tiny GPT with shared key heads and places."""
    return lively(CONFIG)


def seeded(seed: int) -> torch.Generator:
    """A CPU generator."""
    return torch.Generator().manual_seed(seed)


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
    run = GPT.stream

    def counted(self: GPT, ids: torch.Tensor, *rest: object) -> tuple[torch.Tensor, torch.Tensor]:
        lengths.append(ids.shape[1])
        return run(self, ids, *rest)

    monkeypatch.setattr(GPT, "stream", counted)
    generate(gpt, torch.randint(23, (2, 6)), 5, GREEDY)
    assert lengths == [6, 1, 1, 1, 1]


def test_attention_reads_the_filled_slice_only(gpt):
    """Keys and values handed to attention end where the filled ones do: no mask over an empty rest."""
    cache = KVCache(CONFIG, batch=1)
    gpt(torch.randint(23, (1, 4)), cache=cache)
    keys, values = cache.write(0, *torch.randn(2, 1, 2, 1, 8))
    assert keys.shape[2] == values.shape[2] == 5


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"prompt": torch.tensor([[3, 23]])}, r"id 23 is outside \[0, 23\)"),
        ({"prompt": torch.tensor([[23]])}, r"id 23 is outside \[0, 23\)"),
        ({"prompt": torch.tensor([3, 2])}, r"ids have shape \(2,\)"),
        ({"prompt": torch.zeros(1, 0, dtype=torch.int64)}, r"ids have shape \(1, 0\)"),
        ({"count": 0}, "0 tokens of 1 candidates are nothing"),
        ({"candidates": 0}, "3 tokens of 0 candidates are nothing"),
        ({"count": 13}, "3 prompt tokens and 13 new ones do not fit a model of length 14: .* length=15"),
        ({"sampling": Sampling()}, "temperature 1.0 draws at random: give generator="),
        ({"sampling": Sampling(), "generator": [1, 2]}, "2 seeds for 1 sequences: give one for each"),
        (
            {"sampling": replace(GREEDY, guidance=Constant(scale=2))},
            "guidance compares with an unconditional prompt: give",
        ),
        ({"known": torch.zeros(1, 2, dtype=torch.int64)}, r"known is torch.int64 of shape \(1, 2\)"),
        ({"known": torch.tensor([[0, -2, 5]])}, r"id -2 is outside \[-1, 23\)"),
        ({"allowed": torch.ones(2, 23, dtype=torch.bool)}, r"give bool of shape \(3, 23\)"),
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
    arguments = {"prompt": torch.tensor([[1, 2, 3]]), "count": 3, "sampling": GREEDY}
    with pytest.raises(ValueError, match=message):
        generate(gpt, **arguments | changes)


def test_seeds_make_a_sequence_whatever_its_batch(gpt):
    """Each seed's sequence is the same alone, in another order, and among others; other seeds, others."""
    ids = torch.randint(23, (1, 4)).expand(4, -1)
    together = generate(gpt, ids, 9, Sampling(), [5, 6, 7, 8])
    alone = [generate(gpt, ids[:1], 9, Sampling(), [seed]) for seed in (8, 5, 6, 7)]
    assert torch.equal(together, torch.cat(alone).roll(-1, 0))
    assert len(together.unique(dim=0)) == 4
    continued = generate(gpt, ids[:1], 9, Sampling(), range(5, 9), candidates=4)
    assert torch.equal(continued, together)


@pytest.mark.parametrize("guidance", SCHEDULES)
def test_guided_tokens_are_those_of_the_definition(gpt, guidance):
    """Each greedy token is the best of cond + (scale - 1) (cond - uncond), both scored without a cache."""
    ids, null = torch.randint(23, (2, 3, 4))
    sampling = replace(GREEDY, guidance=guidance)
    drawn = generate(gpt, Prompt(ids=ids, null=Prompt(ids=null)), 8, sampling)
    conditional, unconditional = (gpt(torch.cat((x, drawn), 1)[:, :-1])[:, 3:] for x in (ids, null))
    scale = torch.ones(8)
    scale[: len(scales(guidance, 8))] = torch.tensor(scales(guidance, 8))
    mixed = conditional + (scale[:, None] - 1) * (conditional - unconditional)
    assert torch.equal(mixed.argmax(-1), drawn)
    assert (conditional - unconditional).abs().amax(-1).gt(1e-3).all()


@pytest.mark.parametrize("guidance", SCHEDULES)
@pytest.mark.parametrize("candidates", [1, 3])
def test_both_halves_pass_together_and_the_callers_tensors_stay(gpt, guidance, candidates, monkeypatch):
    """As long as the scale is not 1 there is one pass of twice the batch, then one of the batch."""
    batches, run = [], GPT.stream
    monkeypatch.setattr(
        GPT, "stream", lambda self, ids, *rest: batches.append(len(ids)) or run(self, ids, *rest)
    )
    prompt = Prompt(ids=torch.randint(23, (2, 4)), null=Prompt(ids=torch.randint(23, (2, 4))))
    before = prompt.ids.clone(), prompt.null.ids.clone()
    generate(gpt, prompt, 8, replace(GREEDY, guidance=guidance), candidates=candidates)
    guided = len(scales(guidance, 8))
    assert batches == [4] + [4 * candidates] * (guided - 1) + [2 * candidates] * (8 - guided)
    assert torch.equal(prompt.ids, before[0]) and torch.equal(prompt.null.ids, before[1])


@pytest.mark.parametrize("guidance", [Constant(scale=1), CutOff(scale=3, share=0), Linear(scale=1)])
def test_guidance_of_scale_one_is_none(gpt, guidance):
    """Bit for bit, and without an unconditional prompt."""
    ids = torch.randint(23, (3, 4))
    guided = generate(gpt, ids, 9, Sampling(guidance=guidance), seeded(1))
    assert torch.equal(guided, generate(gpt, ids, 9, Sampling(), seeded(1)))


def test_guidance_does_not_wake_forbidden_ids(lively):
    """Ids that are -inf in both halves stay so, and no score becomes nan."""
    gpt = lively(CONFIG)
    with torch.no_grad():
        gpt.head.weight[3:] = -torch.inf
    gpt.score = lambda x, places: gpt.head(x.abs()).nan_to_num(nan=-torch.inf)
    prompt = Prompt(ids=torch.randint(23, (2, 4)), null=Prompt(ids=torch.randint(23, (2, 4))))
    drawn = generate(gpt, prompt, 6, Sampling(guidance=Constant(scale=3)), seeded(0))
    assert drawn.max() < 3


def test_a_class_is_left_out_for_guidance(lively):
    """After classes the unconditional half begins with no class; ids need not come before."""
    gpt = lively(replace(CONFIG, period=None, prefix=ClassesConfig(classes=4)))
    classes, empty = torch.tensor([0, 3]), torch.empty(2, 0, dtype=torch.int64)
    drawn = generate(gpt, Prompt(ids=empty, prefix=classes), 9, replace(GREEDY, guidance=Constant(scale=3)))
    seen = drawn[:, :-1].contiguous()
    conditional, none = gpt(seen, prefix=classes), gpt(seen, prefix=torch.tensor([4, 4]))
    assert torch.equal((conditional + 2 * (conditional - none)).argmax(-1), drawn)


@pytest.mark.parametrize("candidates", [1, 2])
def test_a_start_token_comes_before_all(lively, candidates):
    """A model that begins by itself draws from nothing, up to its whole length."""
    gpt = lively(replace(CONFIG, period=None, prefix=SOSConfig()))
    empty = torch.empty(2, 0, dtype=torch.int64)
    drawn = generate(gpt, empty, 14, GREEDY, candidates=candidates)
    assert torch.equal(gpt(drawn[:, :-1].contiguous()).argmax(-1), drawn)
    with pytest.raises(ValueError, match="1 prompt tokens and 15 new ones do not fit a model of length 14"):
        generate(gpt, empty, 15, GREEDY)


def test_allowed_ids_token_by_token(gpt):
    """Each place has its own set, whatever the others allow."""
    allowed = torch.arange(23)[None] % 9 == torch.arange(9)[:, None]
    drawn = generate(gpt, torch.randint(23, (20, 4)), 9, Sampling(temperature=5), seeded(0), allowed)
    assert torch.equal(drawn % 9, torch.arange(9).expand(20, -1))


def test_known_tokens_stand_where_they_are_known(gpt):
    """They are given back, those after them are drawn in their light, and those before without it."""
    ids, known = torch.randint(23, (2, 4)), torch.full((2, 9), -1)
    known[0, 3], known[1, 5:7] = 11, torch.tensor([2, 3])
    free, drawn = generate(gpt, ids, 9, GREEDY), generate(gpt, ids, 9, GREEDY, known=known)
    assert (drawn[0, 3], *drawn[1, 5:7]) == (11, 2, 3)
    assert torch.equal(drawn[0, :3], free[0, :3]) and torch.equal(drawn[1, :5], free[1, :5])
    best = gpt(torch.cat((ids, drawn), 1)[:, :-1])[:, 3:].argmax(-1)
    assert torch.equal(torch.where(known < 0, best, known), drawn)


def test_known_tokens_leave_the_others_numbers_as_they_are(gpt):
    """Every place has its own random number, so that a drawing with its own tokens known is itself."""
    ids = torch.randint(23, (3, 4))
    drawn = generate(gpt, ids, 9, Sampling(), seeded(2))
    known = torch.where(torch.rand(3, 9) < 0.5, drawn, -1)
    assert torch.equal(generate(gpt, ids, 9, Sampling(), seeded(2), known=known), drawn)


def test_a_stream_tells_what_is_drawn_so_far(gpt):
    """One token more each time, the last time all; what was told before does not change."""
    ids = torch.randint(23, (2, 4))
    told = [partial.clone() for partial in stream(gpt, ids, 6, Sampling(), seeded(3))]
    assert [len(partial[0]) for partial in told] == [1, 2, 3, 4, 5, 6]
    assert all(torch.equal(partial, told[-1][:, : len(partial[0])]) for partial in told)
    assert torch.equal(told[-1], generate(gpt, ids, 6, Sampling(), seeded(3)))


def test_a_stream_can_be_left(lively):
    """Gradients are on between its tokens, and after closing the model trains as it did."""
    gpt = lively(replace(CONFIG, dropout=0.5)).train()
    tokens = stream(gpt, torch.randint(23, (2, 4)), 6, GREEDY)
    partial = next(tokens)
    gpt(partial).sum().backward()
    tokens.close()
    assert gpt.training and gpt.blocks[0].training


def test_a_stream_is_refused_at_once(gpt):
    """Mistakes raise when it is asked for, not when it is read."""
    with pytest.raises(ValueError, match="give generator="):
        stream(gpt, torch.randint(23, (2, 4)), 6, Sampling())
