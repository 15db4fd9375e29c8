"""Objectives: every pixel is learned and none sees itself; what is hidden stays hidden."""

import math
from collections.abc import Callable

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from imagegpt.model import ImageGPT
from imagegpt.network import Network, ObjectiveConfig, classifier_for, hide, losses, nats

CODES, TOKENS = 6, 16


def other(ids: Tensor, place: int) -> Tensor:
    """The same pictures with another color in one place."""
    changed = ids.clone()
    changed[:, place] = (changed[:, place] + 1) % CODES
    return changed


@pytest.mark.parametrize("kind", ["past", "classes"])
def test_a_token_sees_what_is_before_it_only(kind: str, build: Callable[..., ImageGPT], ids: Tensor):
    """Another color at a place changes the scores behind it, and neither its own nor those before."""
    network, labels = build(kind).network, torch.zeros(len(ids), dtype=torch.int64)
    scores, _ = network(ids, labels)
    assert scores.shape == (5, TOKENS, CODES)
    for place in range(TOKENS):
        changed, _ = network(other(ids, place), labels)
        assert torch.equal(changed[:, : place + 1], scores[:, : place + 1])
        assert place == TOKENS - 1 or not torch.equal(changed[:, place + 1], scores[:, place + 1])


@pytest.mark.parametrize("place", [0, 7, TOKENS - 1])
def test_every_token_is_learned(place: int, build: Callable[..., ImageGPT], ids: Tensor):
    """The loss is the mean of -log p over all places, the first and the last too."""
    network = build().network
    scores, _ = network(ids)
    for targets in (ids, other(ids, place)):
        by_hand = -scores.log_softmax(-1).gather(2, targets[..., None])[..., 0]  # (b, t)
        torch.testing.assert_close(losses(scores, targets, None, None, None)["ids"], by_hand.mean())
    torch.testing.assert_close(nats(network, ids), -scores.log_softmax(-1).gather(2, ids[..., None])[..., 0])


def test_the_class_matters(build: Callable[..., ImageGPT], ids: Tensor):
    """With a class as prefix, another class is another picture."""
    network, labels = build("classes").network, torch.zeros(len(ids), dtype=torch.int64)
    assert not torch.equal(network(ids, labels)[0], network(ids, 1 - labels)[0])


def test_hidden_tokens_are_not_seen(build: Callable[..., ImageGPT], ids: Tensor):
    """Their colors change no score; those of the others change all."""
    network = build("both").network
    hidden = hide(ids, 0.3, torch.Generator().manual_seed(0))
    scores, _ = network(ids, hidden=hidden)
    assert scores.shape == (int(hidden.sum()), CODES)
    secret = torch.where(hidden, (ids + 1) % CODES, ids)
    assert torch.equal(network(secret, hidden=hidden)[0], scores)
    told = torch.where(hidden, ids, (ids + 1) % CODES)
    assert not torch.isclose(network(told, hidden=hidden)[0], scores).any(dim=1).all()


def test_hidden_tokens_are_what_is_learned(build: Callable[..., ImageGPT], ids: Tensor):
    """The loss is the mean over pictures of the mean over their hidden tokens, from both sides."""
    network = build("both").network
    hidden = torch.zeros_like(ids, dtype=torch.bool)
    hidden[0, :8], hidden[1, 3], hidden[2:, ::5] = True, True, True
    scores, _ = network(ids, hidden=hidden)
    loss = losses(scores, ids, hidden, None, None)["ids"]
    each = F.cross_entropy(scores, ids[hidden], reduction="none").split(hidden.sum(1).tolist())
    assert loss.item() == pytest.approx(torch.stack([part.mean() for part in each]).mean().item(), rel=1e-6)
    assert not torch.equal(network(other(ids, TOKENS - 2), hidden=hidden)[0][:8], scores[:8])


def test_hiding():
    """About the share asked for, at least one token of each picture; or shares from 0 to 1."""
    ids = torch.zeros(400, 50, dtype=torch.int64)
    generator = torch.Generator().manual_seed(0)
    some = hide(ids, 0.15, generator)
    # Four standard errors of a share among 20,000.
    assert float(some.float().mean()) == pytest.approx(0.15, abs=0.01)
    assert hide(ids, 1e-9, generator).sum(1).tolist() == [1] * 400
    shares = hide(ids, None, generator).float().mean(1)
    assert shares.min() < 0.06 and shares.max() > 0.94 and 0.44 < shares.mean() < 0.56


def test_naming_classes(build: Callable[..., ImageGPT], ids: Tensor):
    """The classifier reads the mean of the last norm; at first all classes are equally likely."""
    model = build(classifier=True)
    labels = torch.tensor([0, 1, 0, 1, 1])
    scores, named = model.network(ids)
    by_hand = model.gpt.features(ids[:, :-1]).mean(1) @ model.classifier.weight.T
    torch.testing.assert_close(named, by_hand)
    terms = losses(scores, ids, None, named, labels)
    assert float(terms["classes"]) == pytest.approx(F.cross_entropy(by_hand, labels).item(), rel=1e-6)
    scores, named = Network(model.gpt, classifier_for(model.gpt.config, 2))(ids)
    assert float(losses(scores, ids, None, named, labels)["classes"]) == pytest.approx(math.log(2))


@pytest.mark.parametrize(
    ("change", "told"),
    [({"hidden": 0.0}, "hidden 0.0 is a share between 0 and 1"), ({"hidden": 1.0}, "0.15 is usual"),
     ({"ids": -1.0}, "give none below 0"), ({"ids": 0.0}, "objective.ids 0.0 and objective.classes 0.0")],
)  # fmt: skip
def test_wrong_settings(change: dict, told: str):
    """Shares and weights are checked."""
    with pytest.raises(ValueError, match=told):
        ObjectiveConfig(**change)
