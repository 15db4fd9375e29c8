"""GPT: what comes out, what is refused, how it begins, how it is saved."""

import copy
from dataclasses import replace

import pytest
import torch

from vqtok.gpt.cache import KVCache
from vqtok.gpt.config import AttentionConfig, GPTConfig, HeadConfig, RangeConfig
from vqtok.gpt.loss import NextTokenObjective, next_token_loss
from vqtok.gpt.masks import FullConfig, GridConfig
from vqtok.gpt.mlps import GELUConfig, QuickGELUConfig, SwiGLUConfig, quick_gelu
from vqtok.gpt.model import GPT, HIDDEN
from vqtok.gpt.norms import LayerNormConfig
from vqtok.gpt.positions import LearnedConfig, RoPE2DConfig, RowColumnConfig
from vqtok.gpt.prefix import ClassesConfig, FeaturesConfig, SOSConfig

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


FULL = replace(CONFIG, period=None, attention=AttentionConfig(mask=FullConfig()))
CLASSES = replace(CONFIG, period=None, prefix=ClassesConfig(classes=3))
SPLIT = HeadConfig(ranges=(RangeConfig(start=0, low=0, high=4), RangeConfig(start=5, low=4, high=11)))


def test_a_model_that_sees_both_ways(lively):
    """Every id changes every row; a hidden one has no embedding, whatever stands in its place."""
    gpt, ids = lively(FULL), torch.randint(11, (1, 12))
    before = gpt(ids)
    for place in (0, 5, 11):
        changed = gpt(ids.index_fill(1, torch.tensor([place]), HIDDEN)) - before
        assert changed.abs().amax(-1).gt(1e-4).all()
    hidden = torch.full((1, 12), HIDDEN)
    with torch.no_grad():
        gpt.embed.weight.mul_(2)
    assert torch.equal(gpt(hidden), gpt(hidden))
    seen = []
    gpt.blocks[0].register_forward_pre_hook(lambda _, inputs: seen.append(inputs[0]))
    gpt(hidden)
    assert not seen[0].any()


def test_a_model_that_sees_both_ways_has_no_cache(lively):
    """There is no past to keep; and only such a model takes hidden ids."""
    with pytest.raises(ValueError, match="nothing to cache: leave cache out"):
        lively(FULL)(torch.zeros(1, 3, dtype=torch.int64), cache=KVCache(FULL, batch=1))
    with pytest.raises(ValueError, match=r"id -2 is outside \[-1, 11\)"):
        lively(FULL)(torch.tensor([[3, -2]]))


@pytest.mark.parametrize(
    "prefix", [SOSConfig(), ClassesConfig(classes=3), FeaturesConfig(tokens=4, channels=5)]
)
def test_a_prefix_is_the_beginning_of_the_stream(lively, prefix):
    """Row i scores id i: the model is the plain one on the prefix's vectors and the ids' after them."""
    config = replace(CONFIG, period=None, length=16, prefix=prefix)
    gpt, ids = lively(config), torch.randint(11, (2, 7))
    given = {"sos": None, "classes": torch.tensor([2, 0]), "features": torch.randn(2, 4, 5)}[prefix.kind]
    found = gpt(ids, prefix=given)
    assert found.shape == (2, 8, 11)
    plain = GPT(replace(config, prefix=None)).eval()
    plain.load_state_dict({k: v for k, v in gpt.state_dict().items() if not k.startswith("prefix")})
    vectors = torch.cat((gpt.prefix(given, 2), gpt.embed(ids)), 1)
    plain.embed.register_forward_hook(lambda *_: vectors)
    expected = plain(torch.zeros(vectors.shape[:2], dtype=torch.int64))[:, prefix.places - 1 :]
    torch.testing.assert_close(found, expected, atol=1e-6, rtol=0)


def test_a_prefix_alone_scores_the_first_id(lively):
    """(b, 0) ids give one row, and go into a cache."""
    gpt, ids, classes = lively(CLASSES), torch.randint(11, (2, 7)), torch.tensor([2, 3])
    cache = KVCache(CLASSES, batch=2)
    first = gpt(ids[:, :0], cache, prefix=classes)
    rest = gpt(ids, cache)
    assert (first.shape, cache.filled) == ((2, 1, 11), 8)
    whole = gpt(ids, prefix=classes)
    torch.testing.assert_close(torch.cat((first, rest), 1), whole, atol=1e-5, rtol=0)
    assert torch.equal(gpt(ids[:, :0], prefix=classes)[:, 0], first[:, 0])


def test_wrong_prefixes_are_refused(gpt, lively):
    """One that the model does not have, that is missing, comes too late, or does not fit."""
    ids, classes = torch.zeros(2, 3, dtype=torch.int64), torch.tensor([1, 0])
    with pytest.raises(ValueError, match="this model has no prefix: leave prefix out"):
        gpt(ids, prefix=classes)
    model, cache = lively(CLASSES), KVCache(CLASSES, batch=2)
    with pytest.raises(ValueError, match="this model begins with a class"):
        model(ids, cache)
    model(ids, cache, prefix=classes)
    with pytest.raises(ValueError, match="in the cache already: leave prefix out"):
        model(ids, cache, prefix=classes)
    with pytest.raises(ValueError, match="13 tokens do not fit a model of length 12"):
        model(ids.repeat(1, 4), prefix=classes)


def test_a_tied_head_is_the_embedding(lively, tmp_path):
    """One matrix, also after `to`, a copy, the meta device and a folder."""
    config = replace(CONFIG, head=HeadConfig(tied=True))
    gpt, ids = lively(config), torch.randint(11, (2, 5))
    gpt.save_pretrained(tmp_path / "gpt")
    with torch.device("meta"):
        empty = GPT(config)
    empty.to_empty(device="cpu").load_state_dict(gpt.state_dict())
    others = (copy.deepcopy(gpt), GPT.from_pretrained(tmp_path / "gpt"), empty.eval(), gpt.double().float())
    for other in others:
        assert other.head.weight is other.embed.weight
        assert torch.equal(other(ids), gpt(ids))
    assert config.parameters == sum(weight.numel() for weight in gpt.parameters())


@pytest.mark.parametrize("prefixed", [False, True])
def test_ranges_forbid_ids_by_place(lively, prefixed):
    """Tokens at places before 5 can only be ids below 4, later ones only others; allowed scores stay."""
    config = replace(CONFIG, period=None, head=SPLIT, prefix=SOSConfig() if prefixed else None)
    gpt, ids = lively(config), torch.randint(11, (2, 9))
    found = gpt(ids)
    places = torch.arange(1, 1 + found.shape[1])  # of the tokens scored, after an id or the start token
    allowed = torch.where(places[:, None] < 5, torch.arange(11) < 4, torch.arange(11) >= 4)
    assert (found == -torch.inf).logical_not().eq(allowed).all()
    plain = gpt.head(gpt.features(ids))
    assert torch.equal(found[allowed.expand_as(found)], plain[allowed.expand_as(found)])
    where = torch.rand(found.shape[:2]) < 0.5
    torch.testing.assert_close(gpt(ids, where=where), found[where], atol=1e-6, rtol=0)
    cache = KVCache(config, batch=2)
    pieces = torch.cat([gpt(piece, cache) for piece in ids.split([4, 1, 4], 1)], 1)
    torch.testing.assert_close(pieces, found, atol=1e-5, rtol=0)


PACKABLE = {
    "rotary": {"period": None},
    "places in images": {},
    "shifts": {"shifts": (1, 4)},
    "learned": {"period": None, "positions": LearnedConfig()},
    "grid": {
        "period": None,
        "positions": RowColumnConfig(columns=3, before=1),
        "attention": AttentionConfig(mask=GridConfig(columns=3, before=1, kernel=3)),
    },
    "both ways": {"period": None, "attention": AttentionConfig(mask=FullConfig())},
    "ranges": {"period": None, "head": SPLIT},
}


@pytest.mark.parametrize("parts", PACKABLE.values(), ids=PACKABLE)
def test_packed_documents_are_as_if_alone(lively, parts):
    """Scores of documents in one row are those of each by itself, whatever their numbers."""
    gpt, ids = lively(replace(CONFIG, **parts)), torch.randint(11, (2, 12))
    documents = torch.tensor([[7] * 3 + [1] * 8 + [7], [2] * 12])
    found = gpt(ids, documents=documents)
    alone = torch.cat([gpt(piece) for piece in ids[:1].split([3, 8, 1], 1)], 1)
    torch.testing.assert_close(found[:1], alone, atol=1e-5, rtol=0)
    torch.testing.assert_close(found[1:], gpt(ids[1:]), atol=1e-5, rtol=0)


def test_wrong_documents_are_refused(gpt, lively):
    """Another shape, no whole numbers, or together with a cache or a prefix."""
    ids = torch.zeros(2, 4, dtype=torch.int64)
    for documents in (ids[:1], ids.float()):
        with pytest.raises(ValueError, match=r"documents are .* ids of \(2, 4\): give a whole number"):
            gpt(ids, documents=documents)
    with pytest.raises(ValueError, match="do not go with a cache"):
        gpt(ids, KVCache(CONFIG, batch=2), documents=ids)
    with pytest.raises(ValueError, match="do not go with a prefix"):
        lively(CLASSES)(ids, documents=ids)


def test_recomputing_changes_no_gradient():
    """Gradients are the same bit for bit, dropout included, with blocks computed once more."""
    gradients = []
    for recompute in (False, True):
        torch.manual_seed(3)
        gpt = GPT(replace(CONFIG, dropout=0.3)).train()
        gpt.recompute = recompute
        ids = torch.randint(11, (2, 12))
        next_token_loss(gpt(ids[:, :-1]), ids[:, 1:]).backward()
        gradients.append([weight.grad for weight in gpt.parameters()])
    assert all(torch.equal(*pair) for pair in zip(*gradients, strict=True))


@pytest.mark.parametrize(
    "parts",
    [{}, {"shifts": (2, 3)}, {"period": None, "head": SPLIT}, {"period": None, "prefix": SOSConfig()}],
)
def test_the_objective_is_the_loss(parts):
    """Chunk by chunk, with ranges, a prefix and weights: the loss and all gradients of the whole."""
    gpt, ids = GPT(replace(CONFIG, **parts)), torch.randint(4, 11, (3, 8))
    ids[:, :5] = torch.randint(4, (3, 5))  # as the ranges want it
    seen, targets = ids[:, :-1], ids if "prefix" in parts else ids[:, 1:]
    weights = torch.rand(targets.shape)
    whole = next_token_loss(gpt(seen), targets, weights)
    expected = torch.autograd.grad(whole, [*gpt.parameters()])
    chunked = NextTokenObjective(gpt, rows=5)(seen, targets, weights)
    found = torch.autograd.grad(chunked, [*gpt.parameters()])
    torch.testing.assert_close(chunked, whole, atol=1e-6, rtol=0)
    for mine, true in zip(found, expected, strict=True):
        torch.testing.assert_close(mine, true, atol=1e-6, rtol=1e-4)


@pytest.mark.parametrize(
    "mlp",
    [SwiGLUConfig(bias=True), GELUConfig(), GELUConfig(approximate="none"), QuickGELUConfig(bias=False)],
)
def test_every_weight_of_every_part_learns(mlp):
    """Biases, layer norms, normed queries and keys, positions and prefixes: all get gradients."""
    shape = {"vocab": 11, "length": 12, "width": 32, "depth": 2, "heads": 4, "kv_heads": 2, "mlp": mlp}
    shape |= {"norm": LayerNormConfig(), "attention": AttentionConfig(bias=True, qk_norm=True)}
    ends = [
        {"positions": LearnedConfig(), "prefix": SOSConfig()},
        {"positions": RoPE2DConfig(columns=4, before=1), "prefix": ClassesConfig(classes=3)},
        {"positions": RowColumnConfig(columns=3, before=2), "prefix": FeaturesConfig(tokens=2, channels=5)},
    ]
    for parts in ends:
        gpt = GPT(GPTConfig(**shape | parts)).train()
        given = {"sos": None, "classes": torch.tensor([0, 1, 2, 3] * 4), "features": torch.randn(16, 2, 5)}
        gpt(torch.randint(11, (16, 10)), prefix=given[gpt.config.prefix.kind]).square().sum().backward()
        idle = [name for name, weight in gpt.named_parameters() if not weight.grad.any()]
        assert idle == []


def test_quick_gelu_is_its_formula():
    """x sigmoid(1.702 x), to rounding, and its slope."""
    x = torch.linspace(-6, 6, 101, dtype=torch.float64, requires_grad=True)
    torch.testing.assert_close(quick_gelu(x), x * torch.sigmoid(1.702 * x), atol=1e-12, rtol=0)
    assert torch.autograd.gradcheck(quick_gelu, x)


def test_blocks_are_compiled_on_a_gpu_only(gpt):
    """On a CPU nothing happens, and nobody has to ask before calling."""
    assert not gpt.compile_blocks()
    assert gpt.blocks[0]._compiled_call_impl is None


@pytest.mark.gpu
def test_compiled_blocks_give_the_same_scores(gpt):
    """To float32 rounding, under the same names."""
    ids, names = torch.randint(11, (2, 12)).cuda(), list(gpt.state_dict())
    expected = gpt.cuda()(ids)
    assert gpt.compile_blocks()
    torch.testing.assert_close(gpt(ids), expected, atol=1e-3, rtol=0)
    assert list(gpt.state_dict()) == names


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
