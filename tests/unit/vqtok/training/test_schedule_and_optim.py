"""The learning rate is a pure function of the step; AdamW decays matrices only."""

import math

import pytest
import torch
from torch import nn

from vqtok.training import LRConfig, OptimConfig, adamw, cosine
from vqtok.training.ema import EMA

CONFIG = LRConfig(peak=2.0, warmup_steps=4, steps=24, floor=0.25)


def test_warm_up_rises_in_a_line_from_above_zero():
    """The first step already learns; the last of the warm-up has the peak."""
    assert [cosine(step, CONFIG) for step in range(4)] == [0.5, 1.0, 1.5, 2.0]


def test_fall_follows_half_a_cosine_to_the_floor():
    """Peak after the warm-up, the mean half way, the floor at the end and for ever after."""
    assert cosine(4, CONFIG) == 2.0
    assert cosine(14, CONFIG) == pytest.approx((2.0 + 0.5) / 2)
    assert cosine(24, CONFIG) == pytest.approx(0.5)
    assert cosine(10_000, CONFIG) == pytest.approx(0.5)
    falling = [cosine(step, CONFIG) for step in range(4, 25)]
    assert falling == sorted(falling, reverse=True)


def test_rate_depends_on_nothing_but_the_step():
    """Asked in any order, any number of times."""
    steps = [7, 3, 23, 7, 0, 7]
    assert [cosine(step, CONFIG) for step in steps] == [cosine(step, CONFIG) for step in steps]
    assert cosine(0, LRConfig(peak=1.0, warmup_steps=0, steps=5)) == 1.0


@pytest.mark.parametrize("wrong", [{"peak": 0.0}, {"peak": math.inf}, {"floor": 1.5}, {"floor": -0.1}])
def test_wrong_rates_are_refused(wrong):
    """The value and the limit are told."""
    with pytest.raises(ValueError, match=r"peak .* must be above 0 and floor .* in \[0, 1\]"):
        LRConfig(**{"peak": 1.0, "warmup_steps": 1, "steps": 5, **wrong})


@pytest.mark.parametrize("wrong", [{"decay": -0.1}, {"clip": 0.0}])
def test_wrong_settings_are_refused(wrong):
    """The value and the limit are told."""
    with pytest.raises(ValueError, match=r"decay .* must be at least 0 and clip .* above 0"):
        OptimConfig(**wrong)


def test_only_matrices_decay():
    """Kernels and matrices decay, gains and biases do not, frozen parameters are left out."""
    model = nn.ModuleDict({"conv": nn.Conv2d(3, 4, 3), "norm": nn.LayerNorm(4), "frozen": nn.Linear(2, 2)})
    model["frozen"].requires_grad_(False)
    groups = adamw(model, OptimConfig(decay=0.1, betas=(0.8, 0.9))).param_groups
    decayed, plain = groups
    assert [p.shape for p in decayed["params"]] == [(4, 3, 3, 3)]
    assert [p.shape for p in plain["params"]] == [(4,), (4,), (4,)]
    assert (decayed["weight_decay"], plain["weight_decay"]) == (0.1, 0.0)
    assert decayed["betas"] == plain["betas"] == (0.8, 0.9)


def test_model_of_one_kind_of_parameter():
    """A model without biases needs one group only."""
    assert len(adamw(nn.Linear(2, 2, bias=False), OptimConfig()).param_groups) == 1


def test_average_copies_buffers_and_takes_no_gradient():
    """Counters and statistics are those of the model in training, not means of them."""
    model = nn.BatchNorm1d(3)
    average = EMA(model, 0.99)
    model(torch.randn(8, 3))
    average.update(1)
    assert torch.equal(average.model.running_mean, model.running_mean)
    assert average.model.num_batches_tracked == 1
    assert not average.model.training
    assert not any(parameter.requires_grad for parameter in average.model.parameters())


@pytest.mark.parametrize("decay", [-0.1, 1.0])
def test_wrong_decay_of_an_average_is_refused(decay):
    """1 would never move."""
    with pytest.raises(ValueError, match=r"must lie in \[0, 1\)"):
        EMA(nn.Linear(1, 1), decay)
