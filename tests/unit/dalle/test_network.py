"""What is trained: scores by ranges, the parts of the loss, and what each of them counts."""

import math
from collections.abc import Callable

import pytest
import torch
from torch import Tensor

from dalle.layout import Layout
from dalle.model import Dalle
from dalle.network import Network, ObjectiveConfig, losses, nats, spoken_mean
from vqtok.gpt.model import GPT


@pytest.mark.parametrize("kind", ["dense", "masked"])
def test_two_heads(kind: str, build: Callable[..., Dalle], ids: Tensor, layout: Layout):
    """Scores are those of the whole head where an id may stand; nothing else has a chance there."""
    model = build(kind)
    text, image = model.network(ids)
    whole = model.gpt(ids[:, :-1])  # (b, n + t, v), -inf where an id may not stand
    first = layout.first_code
    torch.testing.assert_close(text, whole[:, :5, :first])
    torch.testing.assert_close(image, whole[:, 5:, first:])
    assert whole[:, :5, first:].isneginf().all() and whole[:, 5:, :first].isneginf().all()


def test_parts_of_the_loss(build: Callable[..., Dalle], ids: Tensor, layout: Layout):
    """Each is the mean over its own tokens, padding and the first word too, and 1/8 and 7/8 weigh them."""
    model = build()
    scores = model.gpt(ids[:, :-1]).log_softmax(-1)
    each = -scores.gather(2, ids[:, :, None])[..., 0]  # (b, n + t)
    found = losses(model.network(ids), ids, layout)
    assert found["text"] == pytest.approx(each[:, :5].mean().item(), rel=1e-5)
    assert found["image"] == pytest.approx(each[:, 5:].mean().item(), rel=1e-5)
    assert ObjectiveConfig().weights == {"text": 1 / 8, "image": 7 / 8}


def test_without_padding(build: Callable[..., Dalle], ids: Tensor, layout: Layout):
    """Three words and one padding, which ends them, count alike; of the null caption its first padding."""
    model = build()
    text, _ = nats(model.network, ids)
    found = losses(model.network(ids), ids, layout, padding=False)
    assert found["text"] == pytest.approx(text[:, :4].mean().item(), rel=1e-5)
    silent = torch.cat([layout.padding.expand(4, -1), ids[:, 5:]], dim=1)
    only = losses(model.network(silent), silent, layout, padding=False)["text"]
    assert only == pytest.approx(nats(model.network, silent)[0][:, 0].mean().item(), rel=1e-5)


def test_splitting_a_batch(build: Callable[..., Dalle], ids: Tensor, layout: Layout):
    """Without padding captions count alike, however long, so that parts of a batch average to the whole."""
    ids = ids.clone()
    ids[0, 1:5] = layout.padding[1:]
    network = build().network
    whole, *parts = (losses(network(x), x, layout, padding=False)["text"] for x in (ids, ids[:2], ids[2:]))
    assert whole == pytest.approx((parts[0].item() + parts[1].item()) / 2, rel=1e-5)


def test_full_captions(layout: Layout):
    """A caption that fills all places has no padding to count."""
    ids = torch.cat([torch.zeros(1, 5, dtype=torch.int64), layout.image(torch.zeros(1, 4, 4).long())], dim=1)
    assert spoken_mean(torch.tensor([[1.0, 2.0, 3.0, 4.0, 5.0]]), ids, layout).item() == 3.0


def test_every_padding_learns(shapes: dict, layout: Layout, ids: Tensor):
    """Embeddings of a caption's paddings, words and codes have gradients; those of others have none."""
    network = Network(GPT(shapes["dense"]), layout)
    sum(losses(network(ids), ids, layout).values()).backward()
    moved = network.gpt.embed.weight.grad.abs().sum(1) > 0
    assert moved[layout.padding[3:]].all() and not moved[layout.padding[:3]].any()
    assert torch.equal(moved.nonzero()[:, 0], ids[:, :-1].unique())


@pytest.mark.parametrize("kind", ["dense", "masked"])
def test_causality(kind: str, build: Callable[..., Dalle], ids: Tensor):
    """No score changes with what comes after it, in text or picture, whatever the mask."""
    network = build(kind).network
    before = torch.cat([part.flatten(1) for part in nats(network, ids)], dim=1)
    for place in range(ids.shape[1] - 1):
        other = ids.clone()
        other[:, place] = ids[0, 0] + 7 if place < 5 else 49 + (ids[:, place] - 48) % 6
        after = torch.cat([part.flatten(1) for part in nats(network, other)], dim=1)
        torch.testing.assert_close(after[:, :place], before[:, :place])
        assert not torch.allclose(after[:, place], before[:, place])


def test_nats(build: Callable[..., Dalle], ids: Tensor, layout: Layout):
    """Those of untrained models with a head of zeros are even odds: of ids of text, and of codes."""
    model = build()
    torch.nn.init.zeros_(model.gpt.head.weight)
    text, image = nats(model.network, ids)
    assert text.shape == (4, 5) and image.shape == (4, 16)
    torch.testing.assert_close(text, torch.full_like(text, math.log(49)))
    torch.testing.assert_close(image, torch.full_like(image, math.log(6)))


@pytest.mark.parametrize("weights", [{"text": -1.0}, {"text": 0.0, "image": 0.0}])
def test_weights_that_are_none(weights: dict):
    """One below 0, or none above, is refused."""
    with pytest.raises(ValueError, match="give none below 0, and one above"):
        ObjectiveConfig(**weights)
