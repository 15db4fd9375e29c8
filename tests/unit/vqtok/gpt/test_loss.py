"""The next-token loss against its formula, and what it refuses."""

import pytest
import torch

from vqtok.gpt.loss import chunked_loss, next_token_loss


def test_it_is_the_mean_of_minus_log_p():
    """Without weights: nats per token over all positions."""
    logits, ids = torch.randn(2, 5, 7), torch.randint(7, (2, 5))
    expected = -logits.double().log_softmax(-1).gather(-1, ids[..., None]).mean()
    assert next_token_loss(logits, ids).item() == pytest.approx(expected.item(), rel=1e-6)


def test_weights_divide_by_their_sum():
    """Weighted mean; a weight of 0 leaves a token out, even one of probability 0."""
    logits, ids = torch.randn(2, 5, 7), torch.randint(7, (2, 5))
    weights = torch.rand(2, 5)
    weights[0, 0] = 0
    losses = -logits.double().log_softmax(-1).gather(-1, ids[..., None])[..., 0]
    expected = (losses * weights).sum() / weights.sum()
    assert next_token_loss(logits, ids, weights).item() == pytest.approx(expected.item(), rel=1e-6)
    assert next_token_loss(logits, ids, 3 * weights).item() == pytest.approx(expected.item(), rel=1e-6)


def test_selected_positions_give_the_loss_of_zero_weights_elsewhere():
    """Scores only where weights are positive, flat, have the loss and the gradient of the whole."""
    logits, ids = torch.randn(2, 5, 7, requires_grad=True), torch.randint(7, (2, 5))
    weights = torch.rand(2, 5) * (torch.rand(2, 5) < 0.5)
    where = weights > 0
    whole = torch.autograd.grad(next_token_loss(logits, ids, weights), logits)[0]
    part = torch.autograd.grad(next_token_loss(logits[where], ids[where], weights[where]), logits)[0]
    torch.testing.assert_close(part, whole, atol=1e-7, rtol=1e-6)


def test_it_is_computed_in_float32_whatever_autocast_says():
    """bfloat16 scores, under autocast, lose nothing more than their own rounding."""
    logits, ids = (4 * torch.randn(2, 5, 7)).bfloat16(), torch.randint(7, (2, 5))
    for weights in (None, torch.rand(2, 5)):
        expected = next_token_loss(logits.float(), ids, weights)
        with torch.autocast("cpu", torch.bfloat16):
            found = next_token_loss(logits, ids, weights)
        assert found.dtype == torch.float32 and torch.equal(found, expected)
        assert torch.equal(next_token_loss(logits, ids, weights), expected)


@pytest.mark.parametrize("weighted", [False, True])
@pytest.mark.parametrize("rows", [1, 4, 10, 100])
def test_in_chunks_it_is_the_same(rows, weighted):
    """Loss and gradients of features and head, however many rows at a time; never more scores than these."""
    features, ids = torch.randn(2, 5, 3, requires_grad=True), torch.randint(7, (2, 5))
    head, weights = torch.nn.Linear(3, 7), torch.rand(2, 5) if weighted else None
    seen = []
    head.register_forward_hook(lambda _, inputs, out: seen.append(len(out)))
    found = chunked_loss(features, head, ids, weights, rows=rows)
    inputs = [features, *head.parameters()]
    gradients = torch.autograd.grad(found, inputs)
    assert max(seen) <= rows and sum(seen) == 2 * 10  # each row once more on the way back
    expected = next_token_loss(head(features), ids, weights)
    torch.testing.assert_close(found, expected, atol=1e-6, rtol=0)
    for mine, true in zip(gradients, torch.autograd.grad(expected, inputs), strict=True):
        torch.testing.assert_close(mine, true, atol=1e-6, rtol=0)


@pytest.mark.parametrize(
    ("ids", "weights", "message"),
    [
        ((2, 4), None, r"ids of shape \(2, 4\) do not match logits of shape \(2, 5, 7\): give \(2, 5\)"),
        ((2, 5), torch.ones(2), r"weights of shape \(2,\) do not match"),
        ((2, 5), torch.zeros(2, 5), "weights run from 0 to 0"),
        ((2, 5), torch.ones(2, 5).index_fill(1, torch.tensor(3), -2), "weights run from -2 to 1"),
    ],
)
def test_mistakes_are_refused(ids, weights, message):
    """Shapes that disagree, weights that are negative or nothing: the value and the way out."""
    with pytest.raises(ValueError, match=message):
        next_token_loss(torch.randn(2, 5, 7), torch.zeros(ids, dtype=torch.int64), weights)
    with pytest.raises(ValueError, match=message.replace("logits", "features")):
        chunked_loss(torch.randn(2, 5, 7), torch.nn.Identity(), torch.zeros(ids, dtype=torch.int64), weights)
