"""Losses by task: running means of a step's nats, and factors that give all tasks one scale."""

import math

import pytest
import torch

from lvm.task_losses import TaskLosses


def alone(sums: torch.Tensor) -> torch.Tensor:
    """What one process has to exchange."""
    return sums


def told(means: TaskLosses, step: int, *nats: float, tasks: tuple[int, ...] = (0,)) -> None:
    """One step of one process."""
    means.count(torch.tensor(nats), torch.tensor(tasks), step)
    means.settle(alone)


def test_means_run_by_the_decay():
    """The first mean is taken whole; a task that does not come keeps its own; none has no number."""
    means = TaskLosses(("mask", "drawing", "never"), decay=0.75)
    told(means, 0, 1.0, 3.0, 8.0, tasks=(0, 0, 1))
    assert means.mean[:2].tolist() == [2, 8] and means.mean[2].isnan()
    told(means, 1, 6.0, tasks=(0,))
    assert means.mean[:2].tolist() == [3, 8]
    assert means.facts() == pytest.approx({
        "train/loss/mask": 3, "train/loss/drawing": 8,
        "train/perplexity/mask": math.exp(3), "train/perplexity/drawing": math.exp(8),
    })  # fmt: skip


def test_factors_give_all_tasks_one_scale():
    """Divided by its mean, each task's loss is the same; factors average 1, and are 1 before a task came."""
    means = TaskLosses(("mask", "drawing", "never"))
    assert means.factors(torch.tensor([0, 1, 2])).tolist() == [1, 1, 1]
    told(means, 0, 0.5, 2.0, tasks=(0, 1))
    factors = means.factors(torch.tensor([0, 1, 2]))
    assert factors.tolist() == pytest.approx([1.6, 0.4, 1.0])
    assert float(factors[0] * 0.5) == pytest.approx(float(factors[1] * 2.0))
    assert means.factors(torch.tensor([1, 1, 0])).tolist() == pytest.approx([0.4, 0.4, 1.6])


def test_micro_batches_and_processes_make_one_mean():
    """Of all tokens of a step, wherever they were counted; factors move once a step."""
    means = TaskLosses(("mask", "drawing"))
    told(means, 0, 1.0, 1.0, tasks=(0, 1))
    for nats in (2.0, 4.0):
        means.count(torch.tensor([nats]), torch.tensor([0]), step=1)
        assert means.mean.tolist() == [1, 1]
    means.settle(lambda sums: sums + torch.tensor([[12.0, 5.0], [1.0, 1.0]]))  # of another process
    assert means.mean.tolist() == pytest.approx([1 + 0.02 * 5, 1 + 0.02 * 4])


def test_of_a_step_that_is_left_out_nothing_stays():
    """Its nats were not finite, or its gradient; the next step's means are those of the next step."""
    means, straight = TaskLosses(("mask",)), TaskLosses(("mask",))
    told(straight, 0, 1.0), told(straight, 2, 2.0)
    told(means, 0, 1.0)
    means.count(torch.tensor([float("nan")]), torch.tensor([0]), step=1)
    told(means, 2, 2.0)
    assert torch.equal(means.mean, straight.mean)


def test_means_are_state():
    """A checkpoint keeps them, also those that are not known yet."""
    means, again = TaskLosses(("mask", "never")), TaskLosses(("mask", "never"))
    told(means, 0, 1.5)
    again.load_state_dict(means.state_dict())
    assert again.facts() == means.facts() and again.mean[1].isnan()
