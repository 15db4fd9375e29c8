"""Prefixes: what they make of what is given, what they leave out, what they refuse."""

import pytest
import torch

from vqtok.gpt.prefix import ClassesConfig, FeaturesConfig, SOSConfig


def test_a_start_token_is_the_same_for_all():
    """One learned vector, whatever the batch."""
    start = SOSConfig().build(6)
    torch.nn.init.normal_(start.vector)
    assert torch.equal(start(None, 3), start.vector.expand(3, 1, 6))
    with pytest.raises(ValueError, match="its own start token: leave prefix out"):
        start(torch.tensor([1]), 1)


def test_classes_have_a_row_each_and_none_has_the_last():
    """`absent` is the class that is no class."""
    embedding = ClassesConfig(classes=5).build(6).eval()
    given = torch.tensor([4, 0, 5])
    assert torch.equal(embedding(given, 3)[:, 0], embedding.table.weight[given])
    assert embedding.absent(given).tolist() == [5, 5, 5]


def test_classes_are_left_out_while_training():
    """About the share that the config says becomes no class; in evaluation none does."""
    embedding = ClassesConfig(classes=5, drop=0.25).build(6).train()
    given = torch.zeros(4000, dtype=torch.int64)
    absent = (embedding(given, 4000)[:, 0] == embedding.table.weight[5]).all(-1)
    assert absent.float().mean().item() == pytest.approx(0.25, abs=0.03)
    assert torch.equal(embedding.eval()(given, 4000)[:, 0], embedding.table.weight[given])


@pytest.mark.parametrize(
    ("given", "message"),
    [
        (None, r"begins with a class: give prefix=\(2,\) int64 class ids below 5, or 5 for no class"),
        (torch.tensor([1]), r"prefix is torch.int64 of shape \(1,\)"),
        (torch.tensor([0.0, 1.0]), "prefix is torch.float32"),
        (torch.tensor([0, 6]), r"class 6 is outside \[0, 5\]"),
        (torch.tensor([-1, 0]), r"class -1 is outside \[0, 5\]"),
    ],
)
def test_wrong_classes_are_refused(given, message):
    """The value, the limit, the way out."""
    with pytest.raises(ValueError, match=message):
        ClassesConfig(classes=5).build(6)(given, 2)


def test_features_are_projected_or_left_out():
    """Given ones in evaluation; `absent` ones, the learned, for a share of sequences while training."""
    projection = FeaturesConfig(tokens=3, channels=4, drop=0.5).build(6)
    torch.nn.init.normal_(projection.nothing)
    given = torch.randn(200, 3, 4)
    expected, absent = projection.eval()(given, 200), projection(projection.absent(given), 200)
    assert expected.shape == (200, 3, 6)
    torch.testing.assert_close(absent, absent[:1].expand_as(absent))
    found = projection.train()(given, 200)
    left_out = (found - absent).abs().amax((1, 2)) < 1e-6
    assert 60 < left_out.sum() < 140
    torch.testing.assert_close(found[~left_out], expected[~left_out])


@pytest.mark.parametrize("given", [None, torch.randn(2, 4, 4), torch.randn(1, 3, 4)])
def test_wrong_features_are_refused(given):
    """Missing ones and other shapes; the message says which is right."""
    with pytest.raises(ValueError, match=r"give prefix=\(2, 3, 4\)"):
        FeaturesConfig(tokens=3, channels=4).build(6)(given, 2)
