"""Everybody learns from the same pictures in the same network; collapse and the tables are what they say."""

from importlib import import_module

import pytest
import torch

from vqtok.metrics.tokens import usage
from vqtok.tokenizers.lookup import nearest_code
from workbench.compare import learning
from workbench.compare.learning import Outcome, Pictures, compare, network, outcome
from workbench.compare.vq import COMPARISON, Lucidrains

CPU = torch.device("cpu")
OURS = "vqtok, l2, running means"


@pytest.fixture
def pictures(monkeypatch: pytest.MonkeyPatch) -> Pictures:
    """Random images of a network with 64 codes, in small batches."""
    monkeypatch.setattr(learning, "CODES", 64)
    monkeypatch.setattr(learning, "BATCH", 2)
    images = torch.randint(256, (9, 3, 64, 64), generator=torch.Generator().manual_seed(0)).byte()
    return Pictures(images[:6], images[6:])


@pytest.mark.peer
def test_networks_differ_in_the_quantizer_alone(pictures: Pictures):
    """Encoder and decoder start from the same weights, whoever quantizes; another seed is another start."""
    import_module("vector_quantize_pytorch")
    nets = [network(learner, seed=0).state_dict() for learner in COMPARISON.learners.values()]
    other = network(COMPARISON.learners[OURS], seed=1).state_dict()
    for name, tensor in nets[0].items():
        if not name.startswith("quantize"):
            assert all(torch.equal(tensor, net[name]) for net in nets[1:])
    assert not torch.equal(nets[0]["quant_conv.weight"], other["quant_conv.weight"])


def test_a_training_is_repeatable(pictures: Pictures):
    """The same seed gives the same figures, but for the seconds, and training changes them."""
    learner = COMPARISON.learners[OURS]
    first, second = (outcome(learner, pictures, CPU, steps=2, seed=0) for _ in range(2))
    assert (first.psnr, first.usage, first.perplexity) == (second.psnr, second.usage, second.perplexity)
    assert outcome(learner, pictures, CPU, steps=1, seed=1).psnr != first.psnr


@pytest.mark.peer
def test_everybody_passes_on_what_ids_mean(pictures: Pictures):
    """A peer behind our interface decodes its ids to what its forward gives, and learns in training only."""
    import_module("vector_quantize_pytorch")
    quantizer = Lucidrains(16, 4).eval()
    vectors = torch.randn(2, 4, 3, 5)
    before = quantizer.theirs.codebook.clone()
    out = quantizer(vectors)
    assert torch.equal(quantizer.encode(vectors), out.ids) and out.ids.shape == (2, 3, 5)
    torch.testing.assert_close(quantizer.decode(out.ids), out.vectors)
    assert out.loss.shape == () and torch.equal(quantizer.theirs.codebook, before)
    quantizer.train()(vectors)
    assert not torch.equal(quantizer.theirs.codebook, before)


def test_a_collapsed_codebook():
    """At most 1 % of its codes are the nearest of anything."""
    codes = torch.randn(400, 8)
    learning.collapse_codes(codes)
    ids = nearest_code(torch.randn(5000, 8), codes)
    assert 0 < usage(ids, 400) <= 0.01


@pytest.mark.peer
@pytest.mark.parametrize("name", COMPARISON.collapsed)
def test_everybody_can_collapse(name: str, monkeypatch: pytest.MonkeyPatch):
    """Of any learner's 200 codes two are left in use."""
    import_module("vector_quantize_pytorch")
    learner = COMPARISON.collapsed[name]
    quantizer = learner.build(200, 4).eval()
    learner.collapse(quantizer)
    assert usage(quantizer.encode(torch.randn(4, 4, 16, 16)), 200) <= 0.01


def test_the_tables(pictures: Pictures, monkeypatch: pytest.MonkeyPatch):
    """Means over the seeds with the lowest and the highest, for both starts, with the amounts told."""
    figures = {0: Outcome(20, 0.5, 30, 0.25, 5), 1: Outcome(22, 1.0, 40, 0.25, 7)}
    monkeypatch.setattr(learning, "outcome", lambda *arguments: figures[arguments[4]])
    monkeypatch.setattr(learning, "emoji", lambda names: pictures)
    monkeypatch.setattr(learning, "require", lambda packages: None)
    monkeypatch.setattr(learning, "described", lambda device, packages: f"on {device}")
    text = compare(COMPARISON, CPU, steps=2, seeds=(0, 1))
    row = "21.00 [20.00, 22.00] | 25.0 [25.0, 25.0] | 75.0 [50.0, 100.0] | 35 [30, 40] | 6 [5, 7] |"
    assert f"| {OURS} | {row}" in text
    assert text.count("| PSNR, dB |") == 2 and "3 images of 1 held-out names" in text and "192 ids" in text
    assert "21.00" not in compare(COMPARISON, CPU, steps=2, seeds=(0,))


def test_emoji_are_held_out_by_name():
    """Images are uint8 in three styles, and those of the test split."""
    pictures = learning.emoji(names=2)
    assert pictures.train.shape == pictures.test.shape == (6, 3, 64, 64)
    assert pictures.train.dtype == torch.uint8 and not torch.equal(pictures.train, pictures.test)
