"""Rows that are partly what their codes look like: in training only, and of the same scores afterwards."""

from collections.abc import Callable

import torch

from lvm.embeddings import SCALE, looks_of, plain, share_looks
from vqtok.gpt.config import GPTConfig
from vqtok.gpt.model import GPT
from vqtok.tokenizers.tokenizer import VQTokenizer

CONFIG = GPTConfig(vocab=35, length=40, width=16, depth=1, heads=2)


def test_looks_are_pixels_of_each_code(tiny_tokenizer: Callable[..., VQTokenizer]):
    """One row a code, of the pixels of the middle of three by three of its like; centered, at one scale."""
    tokenizer = tiny_tokenizer()
    looks = looks_of(tokenizer, batch=7)
    side = tokenizer.factor
    assert looks.shape == (32, 3 * side**2)
    torch.testing.assert_close(looks.mean(0), torch.zeros(3 * side**2), atol=1e-6, rtol=0)
    torch.testing.assert_close(looks.square().mean().sqrt(), torch.tensor(SCALE))
    one, other = (tokenizer.decode(torch.full((1, 3, 3), code))[..., side : 2 * side, side : 2 * side]
                  for code in (3, 9))
    scale = (looks[3] - looks[9]) / (one - other).flatten()
    torch.testing.assert_close(scale, scale.median().expand_as(scale), rtol=1e-2, atol=0)


def test_what_is_learned_of_a_code_moves_its_like(tiny_tokenizer: Callable[..., VQTokenizer]):
    """A gradient of one row moves others; special ids only have rows of their own."""
    torch.manual_seed(0)
    gpt = GPT(CONFIG)
    share_looks(gpt, tiny_tokenizer())
    before = gpt.embed.weight.detach().clone()
    optimizer = torch.optim.SGD(gpt.parameters(), lr=10.0)
    gpt.embed.weight[5].sum().backward()
    optimizer.step()
    moved = (gpt.embed.weight.detach() - before).abs().amax(1)
    assert (moved[:32] > 0).all() and (moved[32:] == 0).all()


def test_plain_matrices_give_the_same_scores(tiny_tokenizer: Callable[..., VQTokenizer]):
    """To the bit, with the names of any transformer; one that was plain is itself."""
    torch.manual_seed(0)
    gpt, names = GPT(CONFIG).eval(), set(GPT(CONFIG).state_dict())
    assert plain(gpt) is gpt
    share_looks(gpt, tiny_tokenizer())
    ids = torch.randint(32, (2, 9))
    found = plain(gpt)
    assert set(found.state_dict()) == names != set(gpt.state_dict())
    with torch.no_grad():
        assert torch.equal(found(ids), gpt(ids))
