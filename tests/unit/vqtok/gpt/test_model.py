"""GPT: what comes out, what is refused, how it begins, how it is saved."""

import copy
from dataclasses import replace

import pytest
import torch

from vqtok.gpt.cache import KVCache
from vqtok.gpt.config import GPTConfig
from vqtok.gpt.loss import next_token_loss
from vqtok.gpt.model import GPT

CONFIG = GPTConfig(vocab=11, length=12, width=32, depth=2, heads=4, period=4)


@pytest.fixture
def gpt(lively):
    """A tiny GPT with an embedding of the place in images of four tokens."""
    return lively(CONFIG)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_scores_are_float32(gpt, dtype):
    """(b, t) ids give (b, t, v) float32 scores, also of bfloat16 weights and under autocast."""
    gpt.to(dtype)
    ids = torch.randint(11, (2, 5))
    with torch.autocast("cpu", torch.bfloat16, enabled=dtype is torch.float32):
        logits = gpt(ids)
    assert logits.shape == (2, 5, 11) and logits.dtype == torch.float32


def test_bfloat16_weights_keep_float32_positions(gpt):
    """`to(bfloat16)` leaves the rotary table float32, and scores near those of float32 weights."""
    ids = torch.randint(11, (2, 12))
    whole, table = gpt(ids), gpt.rope.clone()
    gpt.bfloat16()
    assert torch.equal(gpt.rope, table)
    torch.testing.assert_close(gpt(ids), whole, atol=0.05 * whole.std().item(), rtol=0)


def test_where_scores_only_some_positions(gpt):
    """Given `where`, rows are those of the full scores, in order."""
    ids, where = torch.randint(11, (2, 6)), torch.rand(2, 6) < 0.5
    torch.testing.assert_close(gpt(ids, where=where), gpt(ids)[where], atol=1e-6, rtol=0)


def test_features_and_head_make_the_scores(gpt):
    """head(features(ids)) is forward(ids)."""
    ids = torch.randint(11, (2, 6))
    assert torch.equal(gpt.head(gpt.features(ids)), gpt(ids))


def test_period_adds_the_place_of_the_next_token(gpt):
    """Position p receives row p mod period; with a zero table the model is the plain one."""
    ids = torch.randint(11, (1, 12))
    plain = GPT(replace(CONFIG, period=None)).eval()
    plain.load_state_dict({k: v for k, v in gpt.state_dict().items() if k != "place.weight"})
    seen = []
    gpt.blocks[0].register_forward_pre_hook(lambda _, inputs: seen.append(inputs[0]))
    gpt(ids)
    expected = gpt.embed.weight[ids[0]] + gpt.place.weight.repeat(3, 1)
    torch.testing.assert_close(seen[0][0], expected)
    torch.nn.init.zeros_(gpt.place.weight)
    assert torch.equal(gpt(ids), plain(ids))


@pytest.mark.parametrize(
    ("ids", "message"),
    [
        (torch.tensor([[3, 11]]), r"id 11 is outside \[0, 11\)"),
        (torch.tensor([[-1, 3]]), r"id -1 is outside \[0, 11\)"),
        (torch.tensor([1, 2]), r"ids have shape \(2,\): give \(b, t\)"),
        (torch.zeros(1, 0, dtype=torch.int64), r"ids have shape \(1, 0\)"),
        (torch.tensor([[0.5, 1.0]]), "ids are torch.float32: give int64"),
    ],
)
@pytest.mark.parametrize("cached", [False, True])
def test_wrong_ids_are_refused(gpt, ids, message, cached):
    """Ids outside the vocabulary or of a wrong shape or type: the value, the limit, the way out."""
    with pytest.raises(ValueError, match=message):
        gpt(ids, cache=KVCache(CONFIG, batch=1) if cached else None)


def test_too_many_tokens_are_refused(gpt):
    """A sequence longer than the model raises and says how long the model should be."""
    with pytest.raises(ValueError, match="13 tokens do not fit a model of length 12: .* with length=13"):
        gpt(torch.zeros(1, 13, dtype=torch.int64))


def test_it_begins_small():
    """Weights are normal of 0.02, less where blocks join the stream, and the first loss is about ln v."""
    gpt = GPT(GPTConfig(vocab=64, length=16, width=128, depth=8, heads=4))
    assert gpt.blocks[3].attention.qkv.weight.std().item() == pytest.approx(0.02, rel=0.05)
    assert gpt.blocks[3].mlp.down.weight.std().item() == pytest.approx(0.005, rel=0.05)
    assert gpt.blocks[3].attention.out.weight.std().item() == pytest.approx(0.005, rel=0.05)
    ids = torch.randint(64, (4, 16))
    assert next_token_loss(gpt(ids[:, :-1]), ids[:, 1:]).item() == pytest.approx(4.16, abs=0.1)


def test_training_mode_changes_dropout_only():
    """Without dropout train() and eval() give the same scores; with it they differ."""
    ids = torch.randint(11, (2, 6))
    for dropout in (0.0, 0.5):
        gpt = GPT(replace(CONFIG, dropout=dropout))
        assert torch.equal(gpt.train()(ids), gpt.eval()(ids)) == (dropout == 0)


def test_every_weight_learns():
    """Each parameter, the place table too, receives a gradient that is not zero."""
    gpt, ids = GPT(replace(CONFIG, kv_heads=2, dropout=0.1)).train(), torch.randint(11, (4, 12))
    next_token_loss(gpt(ids[:, :-1]), ids[:, 1:]).backward()
    assert all(weight.grad.abs().sum() > 0 for weight in gpt.parameters())


def test_a_folder_gives_the_same_model(gpt, tmp_path):
    """save_pretrained, from_pretrained: the same config, names and scores; half the size as bfloat16."""
    ids = torch.randint(11, (2, 6))
    gpt.save_pretrained(tmp_path / "gpt")
    again = GPT.from_pretrained(tmp_path / "gpt")
    assert again.config == CONFIG and torch.equal(again(ids), gpt(ids))
    gpt.save_pretrained(tmp_path / "small", dtype=torch.bfloat16)
    small = GPT.from_pretrained(tmp_path / "small")
    assert small.head.weight.dtype == torch.float32
    torch.testing.assert_close(small(ids), gpt(ids), atol=0.05 * gpt(ids).std().item(), rtol=0)


def test_the_rotary_table_follows_the_weights(gpt):
    """A copy has its own table, and a model made on the meta device gets one where it is put."""
    ids = torch.randint(11, (2, 6))
    assert torch.equal(copy.deepcopy(gpt)(ids), gpt(ids))
    with torch.device("meta"):
        empty = GPT(CONFIG)
    assert empty.rope.is_meta
    empty.to_empty(device="cpu").load_state_dict(gpt.state_dict())
    assert torch.equal(empty.eval()(ids), gpt(ids))


@pytest.mark.gpu
def test_on_a_gpu_as_on_the_cpu(gpt):
    """Scores, cached or not, agree with the CPU's to float32 rounding."""
    ids = torch.randint(11, (2, 9))
    expected = gpt(ids)
    gpt.cuda()
    cache = KVCache(CONFIG, batch=2)
    pieces = [gpt(piece, cache=cache) for piece in ids.cuda().split([4, 1, 3, 1], dim=1)]
    torch.testing.assert_close(torch.cat(pieces, 1).cpu(), expected, atol=1e-3, rtol=0)
    torch.testing.assert_close(gpt(ids.cuda()).cpu(), expected, atol=1e-3, rtol=0)
