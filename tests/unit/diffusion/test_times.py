"""Which times are drawn, and what is remembered of their losses."""

import math

import pytest
import torch

from diffusion.times import LossAwareTimes, LossLog, UniformTimes


def generator() -> torch.Generator:
    """On the CPU."""
    return torch.Generator().manual_seed(0)


def warm(steps: int = 4, remembered: int = 3) -> LossAwareTimes:
    """Whose loss at time t is t."""
    times = LossAwareTimes(steps, remembered, uniform=0.001)
    for _ in range(remembered):
        times.learn(torch.arange(1, steps + 1), torch.arange(1, steps + 1).float())
    return times


def test_uniform_times_are_1_to_T():
    """Each of them, alike, weighing 1."""
    t, weights = UniformTimes(5).draw(5000, generator())
    counts = torch.bincount(t, minlength=7)
    assert counts[0] == counts[6] == 0 and (counts[1:6] - 1000).abs().max() < 150
    assert torch.equal(weights, torch.ones(5000)) and UniformTimes(5).state_dict() == {}


def test_loss_aware_times_begin_uniform():
    """Until every time has all its losses, each is as likely, and weighs 1."""
    times = LossAwareTimes(4, remembered=2)
    times.learn(torch.tensor([1, 1, 1, 2, 2, 3, 3, 4]), torch.arange(8.0))
    assert times.chances().tolist() == pytest.approx([0, 0.25, 0.25, 0.25, 0.25])
    assert times.draw(10, generator())[1].tolist() == pytest.approx([1] * 10)


def test_chances_go_with_the_root_of_the_mean_square():
    """Eq. 18 of the paper, mixed with a thousandth of uniform."""
    times = LossAwareTimes(2, remembered=2, uniform=0.001)
    times.learn(torch.tensor([1, 1, 2, 2]), torch.tensor([3.0, 4.0, 0.0, 1.0]))
    roots = math.sqrt(12.5), math.sqrt(0.5)
    wanted = [0.999 * root / sum(roots) + 0.0005 for root in roots]
    assert times.chances().tolist() == pytest.approx([0, *wanted])


def test_only_the_last_losses_count():
    """An old loss goes when there is no more room; one that is not finite never comes."""
    times = LossAwareTimes(2, remembered=2)
    times.learn(torch.tensor([1, 1, 1, 2, 2, 2]), torch.tensor([100.0, 3.0, 3.0, 1.0, math.nan, 1.0]))
    assert times.chances()[1:].tolist() == pytest.approx([0.999 * 0.75 + 0.0005, 0.999 * 0.25 + 0.0005])


def test_weights_keep_the_mean():
    """The weighted mean of losses at drawn times is the plain mean over all times, within 4 errors."""
    times = warm(steps=50)
    t, weights = times.draw(20_000, generator())
    values = t.double().square() * weights
    plain = torch.arange(1, 51).double()
    error = float(values.std()) / math.sqrt(20_000)
    assert float(values.mean()) == pytest.approx(float(plain.square().mean()), abs=4 * error)
    assert float((t.double() * weights).std()) < float(plain.std()) / 10


def test_a_state_goes_on_as_it_was():
    """Loaded, it draws and weighs the same."""
    times, fresh = warm(), LossAwareTimes(4, 3)
    fresh.load_state_dict(times.state_dict())
    for one, two in zip(times.draw(20, generator()), fresh.draw(20, generator()), strict=True):
        assert torch.equal(one, two)
    times.learn(torch.tensor([1]), torch.tensor([50.0]))
    assert not torch.equal(times.losses, fresh.losses)


def test_all_losses_0_are_uniform():
    """Rather than a division by 0."""
    times = LossAwareTimes(2, remembered=1)
    times.learn(torch.tensor([1, 2]), torch.zeros(2))
    assert times.chances().tolist() == pytest.approx([0, 0.5, 0.5])


def test_log_of_losses():
    """Means by time and by quarter; empty ones are NaN, or left out; it can be saved and reset."""
    log = LossLog(8)
    log.add(torch.tensor([1, 1, 2, 8]), torch.tensor([1.0, 3.0, 7.0, 5.0]))
    assert log.curve()[[1, 2, 8]].tolist() == [2, 7, 5] and log.curve().isnan().sum() == 6
    assert log.quarters() == {"q1": pytest.approx(11 / 3), "q4": 5}
    other = LossLog(8)
    other.load_state_dict(log.state_dict())
    log.reset()
    assert log.quarters() == {} and other.quarters()["q4"] == 5


@pytest.mark.parametrize("settings", [{"remembered": 0}, {"uniform": 0.0}])
def test_settings_that_cannot_be(settings):
    """Nothing remembered, or times that may be forgotten."""
    with pytest.raises(ValueError, match="10 and 0.001 are usual"):
        LossAwareTimes(4, **settings)
