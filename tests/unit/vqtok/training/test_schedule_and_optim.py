"""The learning rate is a pure function of the step; AdamW decays matrices only."""

import math

import pytest
import torch
from torch import nn

from vqtok.training import LRConfig, OptimConfig, Ramp, cosine, optimizer_for, ramped
from vqtok.training.ema import EMA
from vqtok.training.optim import Muon, orthogonal

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
    groups = optimizer_for(model, OptimConfig(decay=0.1, betas=(0.8, 0.9))).param_groups
    decayed, plain = groups
    assert [p.shape for p in decayed["params"]] == [(4, 3, 3, 3)]
    assert [p.shape for p in plain["params"]] == [(4,), (4,), (4,)]
    assert (decayed["weight_decay"], plain["weight_decay"]) == (0.1, 0.0)
    assert decayed["betas"] == plain["betas"] == (0.8, 0.9)


def test_model_of_one_kind_of_parameter():
    """A model without biases needs one group only."""
    assert len(optimizer_for(nn.Linear(2, 2, bias=False), OptimConfig()).param_groups) == 1


def test_muon_takes_the_wide_matrices_inside():
    """Kernels and matrices of the parts that are named; all else goes to AdamW, and all of it moves."""
    layers = {"first": nn.Linear(32, 32), "inside": nn.Conv2d(16, 32, 3), "thin": nn.Linear(8, 64)}
    model = nn.ModuleDict(layers)
    optimizer = optimizer_for(model, OptimConfig(muon=True), [model["inside"], model["thin"]])
    assert isinstance(optimizer, Muon)
    orthogonal, decayed, plain = optimizer.param_groups
    assert [p.shape for p in orthogonal["params"]] == [(32, 16, 3, 3)] and orthogonal["orthogonal"]
    assert [p.shape for p in decayed["params"]] == [(32, 32), (64, 8)]
    assert [p.shape for p in plain["params"]] == [(32,), (32,), (64,)]
    before = {name: p.detach().clone() for name, p in model.named_parameters()}
    for parameter in model.parameters():
        parameter.grad = torch.randn_like(parameter)
    optimizer.step()
    assert not any(torch.equal(before[name], p) for name, p in model.named_parameters())
    assert not isinstance(optimizer_for(model, OptimConfig(), [model["inside"]]), Muon)


@pytest.mark.parametrize("shape", [(24, 60), (60, 24), (32, 32)])
def test_orthogonal(shape: tuple[int, int]):
    """Same left and right directions, singular values near one; scale and sign of the input do not matter."""
    torch.manual_seed(0)
    matrix = torch.randn(shape)
    found = orthogonal(matrix)
    assert found.shape == shape and found.dtype == torch.float32
    left, values, right = torch.linalg.svd(matrix, full_matrices=False)
    inner = left.T @ found @ right.T  # diagonal if the directions are the same
    large = values > 0.1 * values.max()
    assert (inner.diagonal()[large] > 0.6).all() and (inner.diagonal() < 1.3).all()
    assert (inner - inner.diagonal().diag()).abs().max() < 0.1
    torch.testing.assert_close(orthogonal(-1e-3 * matrix), -found, atol=0.05, rtol=0)


def test_muons_other_groups_are_adamw():
    """Where nothing is orthogonal, its steps are torch's AdamW's."""
    torch.manual_seed(0)
    ours, theirs = nn.Linear(5, 3), nn.Linear(5, 3)
    theirs.load_state_dict(ours.state_dict())
    groups = [{"params": [*ours.parameters()], "weight_decay": 0.1}]
    optimizers = (
        Muon(groups, lr=0.01, betas=(0.8, 0.9)),
        torch.optim.AdamW(theirs.parameters(), lr=0.01, betas=(0.8, 0.9), weight_decay=0.1),
    )
    for _ in range(5):
        x = torch.randn(7, 5)
        for model, optimizer in zip((ours, theirs), optimizers, strict=True):
            optimizer.zero_grad()
            model(x).square().mean().backward()
            optimizer.step()
    torch.testing.assert_close(ours.weight, theirs.weight)
    torch.testing.assert_close(ours.bias, theirs.bias)


def test_muon_takes_steps_of_adamws_size():
    """One rate serves both: the root mean square of a step is a fifth of it, whatever the shape."""
    torch.manual_seed(0)
    layer = nn.Linear(256, 64, bias=False)
    before = layer.weight.detach().clone()
    layer.weight.grad = torch.randn_like(layer.weight)
    Muon([{"params": [layer.weight], "orthogonal": True}], lr=0.01).step()
    assert float((layer.weight.detach() - before).square().mean().sqrt()) == pytest.approx(0.002, rel=0.2)


def test_muons_state_is_kept(tmp_path):
    """Saved and loaded, it goes on with the same steps."""
    torch.manual_seed(0)
    model, copy = nn.Linear(32, 32), nn.Linear(32, 32)
    first, second = (optimizer_for(one, OptimConfig(muon=True), [one]) for one in (model, copy))
    gradients = [[torch.randn_like(p) for p in model.parameters()] for _ in range(4)]

    def go(one, optimizer, steps):
        for step in steps:
            for parameter, gradient in zip(one.parameters(), gradients[step], strict=True):
                parameter.grad = gradient.clone()
            optimizer.step()

    go(model, first, range(2))
    torch.save(first.state_dict(), tmp_path / "state.pt")
    second.load_state_dict(torch.load(tmp_path / "state.pt", weights_only=True))
    copy.load_state_dict(model.state_dict())
    go(model, first, (2, 3))
    go(copy, second, (2, 3))
    assert torch.equal(model.weight, copy.weight) and torch.equal(model.bias, copy.bias)


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


def test_ramp():
    """Half a cosine from start to end, flat before and after: the dVAE's temperature."""
    tau = Ramp(start=1.0, end=1 / 16, steps=100, wait=10)
    assert [ramped(step, tau) for step in (0, 10)] == [1.0, 1.0]
    assert ramped(60, tau) == pytest.approx((1 + 1 / 16) / 2)
    assert ramped(35, tau) == pytest.approx(1 - 15 / 16 * (1 - math.cos(math.pi / 4)) / 2)
    assert [ramped(step, tau) for step in (110, 10**6)] == pytest.approx([1 / 16, 1 / 16])
    values = [ramped(step, tau) for step in range(120)]
    assert values == sorted(values, reverse=True)


def test_ramp_of_no_steps():
    """A jump."""
    assert [ramped(step, Ramp(start=0.0, end=2.0, steps=0, wait=3)) for step in (2, 3)] == [0.0, 2.0]


@pytest.mark.parametrize("settings", [{"steps": -1}, {"steps": 1, "wait": -1}])
def test_a_ramp_does_not_begin_before_the_run(settings):
    """Negative steps are refused."""
    with pytest.raises(ValueError, match="must be at least 0: raise them"):
        Ramp(start=0.0, end=1.0, **settings)
