"""Guessing ahead changes no token, and spares passes where guesses are right."""

from dataclasses import replace

import pytest
import torch

from vqtok.gpt.config import GPTConfig
from vqtok.gpt.generation import Prompt, generate
from vqtok.gpt.jacobi import generate_greedily
from vqtok.gpt.model import GPT
from vqtok.gpt.prefix import ClassesConfig
from vqtok.gpt.sampling import Sampling

CONFIG = GPTConfig(vocab=23, length=40, width=32, depth=2, heads=4, kv_heads=2, period=5)
GREEDY = Sampling(temperature=0)


@pytest.fixture
def passes(monkeypatch) -> list[int]:
    """Tokens of every pass of any model from now on."""
    lengths, run = [], GPT.stream
    monkeypatch.setattr(
        GPT, "stream", lambda self, ids, *rest: lengths.append(ids.shape[1]) or run(self, ids, *rest)
    )
    return lengths


@pytest.mark.parametrize("window", [1, 2, 7, 50])
@pytest.mark.parametrize("count", [1, 2, 36])
def test_greedy_tokens_stay(lively, window, count):
    """Whatever the window, up to the last position of the model, and with forbidden ids."""
    gpt, ids, allowed = lively(CONFIG), torch.randint(23, (3, 5)), torch.rand(23) < 0.5
    expected = generate(gpt, ids, count, GREEDY, allowed=allowed)
    assert torch.equal(generate_greedily(gpt, ids, count, allowed, window), expected)


def test_after_a_prefix(lively):
    """Each sequence follows its own, and may begin with nothing else."""
    gpt = lively(replace(CONFIG, period=None, prefix=ClassesConfig(classes=4)))
    prompt = Prompt(ids=torch.empty(3, 0, dtype=torch.int64), prefix=torch.tensor([0, 2, 3]))
    assert torch.equal(generate_greedily(gpt, prompt, 40), generate(gpt, prompt, 40, GREEDY))


def test_right_guesses_spare_passes(lively, passes):
    """A model that repeats the last id needs a pass for the prompt and one for each window of the rest."""
    gpt = lively(CONFIG)
    gpt.score = lambda x, places: torch.zeros(*x.shape[:2], 23).index_fill(-1, torch.tensor([7]), 1.0)
    drawn = generate_greedily(gpt, torch.randint(23, (1, 5)), 33, window=8)
    assert (drawn == 7).all() and passes == [5, 8, 8, 8, 8]


def test_wrong_guesses_cost_no_pass(lively, passes):
    """There are never more passes than tokens, and none reads more than the window."""
    drawn = generate_greedily(lively(CONFIG), torch.randint(23, (1, 5)), 30, window=4)
    assert drawn.shape == (1, 30) and len(passes) <= 30 and max(passes[1:]) == 4


def test_mistakes_are_refused(lively):
    """As in `generate`; and a window of none, and prompts that vote."""
    gpt, ids = lively(CONFIG), torch.randint(23, (1, 5))
    with pytest.raises(ValueError, match="1 prompts are no whole number of 2 votes"):
        generate_greedily(gpt, Prompt(ids=ids, votes=2), 3)
    with pytest.raises(ValueError, match="2 votes a token are not taken here"):
        generate_greedily(gpt, Prompt(ids=ids.repeat(2, 1), votes=2), 3)
    with pytest.raises(ValueError, match="a window of 0 tokens is none"):
        generate_greedily(gpt, ids, 3, window=0)
    with pytest.raises(ValueError, match="do not fit a model of length 40"):
        generate_greedily(gpt, ids, 37)
    with pytest.raises(ValueError, match="with 0 ids"):
        generate_greedily(gpt, ids, 3, torch.zeros(23, dtype=torch.bool))
