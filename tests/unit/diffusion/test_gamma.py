"""gamma(t): rises between its ends, knows its slope, and makes tables of a process."""

import pytest
import torch

from diffusion.gamma import (
    Ends,
    Gamma,
    LearnedLinearGammaConfig,
    LinearGammaConfig,
    MonotoneGammaConfig,
    gammas,
    schedule_of,
)

CONFIGS = [LinearGammaConfig(), LearnedLinearGammaConfig(), MonotoneGammaConfig(width=64)]


@pytest.fixture(params=CONFIGS, ids=lambda config: config.kind)
def gamma(request: pytest.FixtureRequest) -> Gamma:
    """One of each kind; weights of the network are moved far from where they begin."""
    made = request.param.build()
    with torch.no_grad():
        for name, weight in made.named_parameters():
            if name in ("inner", "outer", "bias"):
                weight.normal_(std=3)
    return made


def test_rises_between_its_ends(gamma: Gamma):
    """From -13.3 to 5, at every one of 1,000 steps, whatever the weights and their signs are."""
    values = gammas(gamma, 1000)
    assert values[0] == pytest.approx(-13.3, abs=1e-5) and values[-1] == pytest.approx(5, abs=1e-5)
    assert (values.diff() > 0).all()


def test_slope_is_the_difference_quotient(gamma: Gamma):
    """The derivative by autograd, against central differences in float64."""
    t = torch.linspace(0.05, 0.95, 7, dtype=torch.float64)
    value, slope = gamma.with_slope(t)
    quotient = (gamma(t + 1e-5) - gamma(t - 1e-5)) / 2e-5
    assert torch.allclose(slope, quotient, rtol=1e-5) and torch.equal(value, gamma(t))


def test_learned_gammas_get_gradients_through_their_slope():
    """Both a value and a slope teach every weight that they depend on; without gradients none are kept."""
    gamma = MonotoneGammaConfig(width=8).build()
    value, slope = gamma.with_slope(torch.tensor([0.2, 0.7]))
    (value.sum() + slope.square().sum()).backward()
    assert all(weight.grad is not None and weight.grad.isfinite().all() for weight in gamma.parameters())
    with torch.no_grad():
        assert not any(part.requires_grad for part in gamma.with_slope(torch.tensor([0.2, 0.7])))


def test_the_monotone_network_begins_almost_straight():
    """Nowhere more than a tenth of the whole rise away from the line."""
    gamma = MonotoneGammaConfig().build()
    t = torch.linspace(0, 1, 101)
    assert (gamma(t) - LinearGammaConfig().build()(t)).abs().max() < 1.83


def test_tables_of_a_process(gamma: Gamma):
    """Time i / T is entry i + 1: alpha_bar is sigmoid(-gamma) there, SNR exp(-gamma); T + 1 times in all."""
    schedule, values = schedule_of(gamma, 50), gammas(gamma, 50)
    assert schedule.steps == 51 and schedule.alpha_bar[0] == 1
    assert torch.allclose(schedule.alpha_bar[1:], (-values).sigmoid(), rtol=1e-12)
    assert torch.allclose(schedule.snr(torch.arange(1, 52)), (-values).exp(), rtol=1e-9)


@pytest.mark.parametrize("ends", [(5.0, -13.3), (1.0, 1.0), (-float("inf"), 5.0), (float("nan"), 5.0)])
def test_ends_that_do_not_rise(ends: tuple[float, float]):
    """They are refused, with the usual ones named."""
    with pytest.raises(ValueError, match="does not rise: give finite ends"):
        Ends(first=ends[0], last=ends[1])


def test_other_mistakes():
    """No width, no steps."""
    with pytest.raises(ValueError, match="gamma.width 0 is below 1"):
        MonotoneGammaConfig(width=0)
    with pytest.raises(ValueError, match="steps 0 is no whole number from 1"):
        schedule_of(LinearGammaConfig().build(), 0)
