"""What continuations cost is minus the log of their probabilities."""

import pytest
import torch

from vqtok.gpt.config import GPTConfig
from vqtok.gpt.generation import generate
from vqtok.gpt.likelihood import continuation_nats
from vqtok.gpt.model import GPT
from vqtok.gpt.prefix import ClassesConfig
from vqtok.gpt.prompts import Prompt
from vqtok.gpt.sampling import Sampling

CONFIG = GPTConfig(vocab=23, length=14, width=32, depth=2, heads=4, kv_heads=2, period=5, dropout=0.3)
IDS = torch.randint(23, (2, 6), generator=torch.Generator().manual_seed(0))


@pytest.mark.parametrize("count", [1, 2, 9])
@pytest.mark.parametrize("candidates", [1, 3])
def test_nats_are_those_of_whole_sequences(lively, count, candidates):
    """Reading each prompt once for all of its continuations changes none; dropout is off meanwhile."""
    gpt = lively(CONFIG)
    drawn = generate(gpt, IDS, count, Sampling(), range(2 * candidates), candidates=candidates)
    whole = torch.cat((IDS.repeat_interleave(candidates, 0), drawn), 1)
    logs = gpt(whole[:, :-1])[:, 5:].log_softmax(-1)
    expected = -logs.gather(-1, drawn[..., None])[..., 0]
    found = continuation_nats(gpt.train(), IDS, drawn)
    torch.testing.assert_close(found, expected, atol=1e-5, rtol=0)
    assert gpt.training


def test_a_prompt_is_read_once(lively, monkeypatch):
    """Two passes: the prompt alone, then all tokens but the last of all continuations."""
    gpt, shapes, run = lively(CONFIG), [], GPT.stream
    monkeypatch.setattr(
        GPT, "stream", lambda self, ids, *rest: shapes.append(tuple(ids.shape)) or run(self, ids, *rest)
    )
    continuation_nats(gpt, IDS[:1], torch.zeros(4, 5, dtype=torch.int64))
    assert shapes == [(1, 6), (4, 4)]


def test_a_class_comes_before_all(lively):
    """After a prefix alone, the first token has its nats too."""
    gpt = lively(GPTConfig(vocab=23, length=14, width=32, depth=1, heads=4, prefix=ClassesConfig(classes=4)))
    tokens, classes = IDS.repeat_interleave(2, 0), torch.tensor([0, 3])
    prompt = Prompt(ids=torch.empty(2, 0, dtype=torch.int64), prefix=classes)
    logs = gpt(tokens[:, :-1].contiguous(), prefix=classes.repeat_interleave(2)).log_softmax(-1)
    expected = -logs.gather(-1, tokens[..., None])[..., 0]
    torch.testing.assert_close(continuation_nats(gpt, prompt, tokens), expected, atol=1e-5, rtol=0)


@pytest.mark.parametrize(
    ("prompt", "tokens", "message"),
    [
        (IDS, torch.zeros(3, 4, dtype=torch.int64), "3 continuations of 2 prompts: give as many for each"),
        (IDS, torch.full((2, 4), 23), r"id 23 is outside \[0, 23\)"),
        (IDS, torch.zeros(2, 10, dtype=torch.int64), "6 prompt tokens and 10 new ones do not fit"),
        (Prompt(ids=IDS, votes=2), torch.zeros(2, 4, dtype=torch.int64), "2 votes have no likelihood"),
    ],
)
def test_mistakes_are_refused(lively, prompt, tokens, message):
    """The value, the limit, the way out."""
    with pytest.raises(ValueError, match=message):
        continuation_nats(lively(CONFIG), prompt, tokens)
