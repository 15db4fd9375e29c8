"""Prompts of unlike lengths and prompts that vote, against scores of whole sequences without a cache."""

from dataclasses import replace

import pytest
import torch

from vqtok.gpt.config import GPTConfig
from vqtok.gpt.generation import generate, generate_scored
from vqtok.gpt.guidance import Constant, CutOff, Linear, PowerCosine, scales
from vqtok.gpt.model import GPT
from vqtok.gpt.prefix import ClassesConfig
from vqtok.gpt.prompts import Prompt
from vqtok.gpt.sampling import Sampling

CONFIG = GPTConfig(vocab=23, length=18, width=32, depth=2, heads=4, kv_heads=2, period=5, shifts=(1, 4))
GREEDY = Sampling(temperature=0)
SCHEDULES = [None, Constant(scale=2.5), CutOff(scale=2.5, share=0.5), Linear(scale=4), PowerCosine(scale=4)]


@pytest.fixture
def gpt(lively) -> GPT:
    """A tiny GPT with shared key heads and places."""
    return lively(CONFIG)


def ids_of(rows: int, count: int, seed: int = 0) -> torch.Tensor:
    """Random ids (rows, count)."""
    return torch.randint(23, (rows, count), generator=torch.Generator().manual_seed(seed))


def said(gpt: GPT, prompt: Prompt, drawn: torch.Tensor, candidates: int) -> torch.Tensor:
    """Scores (b, count, v) of every drawn token by the definition: whole sequences, one prompt at a time."""
    found = []
    for place, tail in enumerate(drawn):
        first = place // candidates * prompt.votes
        rows = prompt.ids[first : first + prompt.votes]
        whole = [torch.cat((row, tail[:-1]))[None] for row in rows]
        scores = [gpt(ids)[0, prompt.ids.shape[1] - 1 :] for ids in whole]
        found.append(scores[0] if len(scores) == 1 else torch.stack(scores).log_softmax(-1).mean(0))
    return torch.stack(found)


def guided(gpt: GPT, prompt: Prompt, drawn: torch.Tensor, candidates: int, guidance) -> torch.Tensor:
    """Scores (b, count, v) after guidance, by the definition."""
    conditional = said(gpt, prompt, drawn, candidates)
    if guidance is None:
        return conditional
    scale = torch.ones(drawn.shape[1], 1)
    found = scales(guidance, drawn.shape[1])
    scale[: len(found), 0] = torch.tensor(found)
    return conditional + (scale - 1) * (conditional - said(gpt, prompt.null, drawn, candidates))


@pytest.mark.parametrize("guidance", SCHEDULES)
@pytest.mark.parametrize("candidates", [1, 3])
@pytest.mark.parametrize(("votes", "null_votes"), [(1, 1), (3, 1), (2, 2)])
@pytest.mark.parametrize("length", [2, 6, 8])
def test_every_token_is_that_of_the_definition(gpt, guidance, candidates, votes, null_votes, length):
    """Votes and guidance by prompts as long, shorter or longer: each token is the best by uncached scores."""
    null = Prompt(ids=ids_of(2 * null_votes, length, seed=1), votes=null_votes)
    prompt = Prompt(ids=ids_of(2 * votes, 6), null=null, votes=votes)
    drawn = generate(gpt, prompt, 9, replace(GREEDY, guidance=guidance), candidates=candidates)
    assert drawn.shape == (2 * candidates, 9)
    with torch.no_grad():
        scores = guided(gpt, prompt, drawn, candidates, guidance)
    lost = scores.amax(-1) - scores.gather(-1, drawn[..., None])[..., 0]
    assert float(lost.max()) < 1e-4  # scores of another batch differ in their last bits


@pytest.mark.parametrize("guidance", [None, Linear(scale=3)])
@pytest.mark.parametrize("candidates", [1, 3])
def test_prompts_of_one_mind_are_one_prompt(gpt, guidance, candidates):
    """Three identical prompts draw by the same seeds what one does, token for token."""
    ids, sampling = ids_of(2, 6), Sampling(guidance=guidance)
    null = Prompt(ids=ids_of(2, 3, seed=1))
    one = Prompt(ids=ids, null=null)
    three = Prompt(ids=ids.repeat_interleave(3, 0), null=null, votes=3)
    seeds = range(2 * candidates)
    expected = generate(gpt, one, 9, sampling, seeds, candidates=candidates)
    assert torch.equal(generate(gpt, three, 9, sampling, seeds, candidates=candidates), expected)
    assert candidates == 1 or not torch.equal(expected[0], expected[1])


def test_votes_and_unlike_prompts_leave_candidates_and_known_ids_their_meaning(gpt):
    """Drawn at random, a drawing with half of its own ids known is itself, and those known stand."""
    null = Prompt(ids=ids_of(2, 3, seed=1))
    prompt = Prompt(ids=ids_of(4, 6), null=null, votes=2)
    sampling = Sampling(guidance=CutOff(scale=2, share=0.6))
    drawn = generate(gpt, prompt, 9, sampling, range(6), candidates=3)
    known = torch.where(ids_of(6, 9, seed=2) < 12, drawn, -1)
    assert torch.equal(generate(gpt, prompt, 9, sampling, range(6), candidates=3, known=known), drawn)


@pytest.mark.parametrize("guidance", [None, CutOff(scale=2, share=0.5)])
@pytest.mark.parametrize("candidates", [1, 3])
@pytest.mark.parametrize("votes", [1, 2])
def test_nats_are_those_of_the_definition(gpt, guidance, candidates, votes):
    """Of what `generate` draws, by the conditional odds of all ids, whatever is allowed, guided or known."""
    prompt = Prompt(ids=ids_of(2 * votes, 6), null=Prompt(ids=ids_of(2, 3, seed=1)), votes=votes)
    allowed, known = torch.arange(23) < 9, torch.full((2 * candidates, 9), -1)
    known[:, 4] = 11
    arguments = (prompt, 9, Sampling(temperature=0.7, guidance=guidance), range(2 * candidates))
    drawn, nats = generate_scored(gpt, *arguments, allowed, candidates, known)
    assert torch.equal(drawn, generate(gpt, *arguments, allowed, candidates, known))
    logs = said(gpt, prompt, drawn, candidates).log_softmax(-1)
    expected = -logs.gather(-1, drawn[..., None])[..., 0]
    torch.testing.assert_close(nats, expected, atol=1e-4, rtol=0)


def test_an_unlike_prompt_costs_a_pass_as_long_as_it_is_heard(gpt, monkeypatch):
    """Two passes a token while the scale is not 1, then one; like prompts pass together."""
    batches, run = [], GPT.stream
    monkeypatch.setattr(
        GPT, "stream", lambda self, ids, *rest: batches.append(len(ids)) or run(self, ids, *rest)
    )
    sampling = replace(GREEDY, guidance=CutOff(scale=2, share=0.5))
    generate(gpt, Prompt(ids=ids_of(4, 6), null=Prompt(ids=ids_of(2, 3)), votes=2), 6, sampling)
    assert batches == [4, 2] + 2 * [4, 2] + 3 * [4]
    batches.clear()
    generate(gpt, Prompt(ids=ids_of(4, 6), null=Prompt(ids=ids_of(2, 6)), votes=2), 6, sampling)
    assert batches == [6] + 2 * [6] + 3 * [4]


def test_prompts_with_a_prefix_vote(lively):
    """Pictures of two classes at once: the mean of both classes' log-probabilities, guided by no class."""
    gpt = lively(replace(CONFIG, period=None, prefix=ClassesConfig(classes=4)))
    empty = torch.empty(2, 0, dtype=torch.int64)
    prompt = Prompt(ids=empty, prefix=torch.tensor([0, 3]), votes=2)
    drawn = generate(gpt, prompt, 9, replace(GREEDY, guidance=Constant(scale=2)))
    seen = drawn[:, :-1].repeat(2, 1)
    both = gpt(seen, prefix=torch.tensor([0, 3])).log_softmax(-1).mean(0)
    none = gpt(seen[:1], prefix=torch.tensor([4])).log_softmax(-1)[0]
    assert torch.equal((2 * both - none).argmax(-1), drawn[0])


@pytest.mark.parametrize(
    ("prompt", "message"),
    [
        (Prompt(ids=ids_of(3, 4), votes=2), "3 prompts are no whole number of 2 votes: give as many"),
        (Prompt(ids=ids_of(3, 4), votes=0), "3 prompts are no whole number of 0 votes"),
        (
            Prompt(ids=ids_of(2, 4), null=Prompt(ids=ids_of(1, 2))),
            "1 unconditional prompts for 2 sequences: give one for each",
        ),
        (
            Prompt(ids=ids_of(1, 4), null=Prompt(ids=ids_of(1, 16))),
            "16 prompt tokens and 5 new ones do not fit a model of length 18",
        ),
        (Prompt(ids=ids_of(1, 4), null=Prompt(ids=ids_of(1, 4) + 23)), r"is outside \[0, 23\)"),
        (
            Prompt(ids=ids_of(1, 4), null=Prompt(ids=ids_of(1, 4), prefix=torch.tensor([1]))),
            "one of the conditional and unconditional prompts has a prefix",
        ),
    ],
)
def test_mistakes_are_refused(gpt, prompt, message):
    """Before anything is computed: the value, the limit, the way out."""
    guidance = None if prompt.null is None else Constant(scale=2)
    with pytest.raises(ValueError, match=message):
        generate(gpt, prompt, 5, replace(GREEDY, guidance=guidance))
