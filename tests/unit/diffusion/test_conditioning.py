"""Labels and guidance."""

import pytest
import torch
from torch import Tensor

from diffusion.conditioning import classes_of, conditioned
from diffusion.noise import Noise
from diffusion.samplers import Options, ancestral, ddim, dpm_solver_pp_2m, heun
from diffusion.schedules import LinearConfig
from diffusion.spacing import spaced
from diffusion.variances import LearnedRange

X = torch.zeros(2, 1, 2, 2)


class ByClass:
    """Says its label in one channel and ten times that in another; knows three classes, so 3 is none."""

    classes = 3

    def __init__(self) -> None:
        self.asked: list[list[int]] = []

    def __call__(self, x_t: Tensor, t: Tensor, labels: Tensor | None) -> Tensor:
        """(b, 2 c, h, w)."""
        self.asked.append(labels.tolist())
        said = labels.to(x_t.dtype).view(-1, 1, 1, 1).expand_as(x_t)
        return torch.cat((said, 10 * said), 1)


def test_guidance_is_on_all_channels():
    """none + 2 (label - none), for predictions and variances alike; both in one batch."""
    network = ByClass()
    found = conditioned(network, torch.tensor([0, 1]), 2.0, 2)(X, 5)
    assert network.asked == [[0, 1, 3, 3]]
    assert found[:, 0, 0, 0].tolist() == [-3, -1] and found[:, 1, 0, 0].tolist() == [-30, -10]


@pytest.mark.parametrize("guidance", [None, 1, 1.0])
def test_no_guidance_costs_nothing(guidance):
    """There is no second half."""
    network = ByClass()
    assert conditioned(network, torch.tensor([0, 1]), guidance, 2)(X, 5)[:, 0, 0, 0].tolist() == [0, 1]
    assert network.asked == [[0, 1]]


def test_no_labels_are_the_label_of_none():
    """A network with classes is told `classes`, one without is told None."""
    network, told = ByClass(), []
    conditioned(network, None, None, 2)(X, 5)
    conditioned(lambda x, t, labels: told.append(labels), None, None, 2)(X, 5)
    assert network.asked == [[3, 3]] and told == [None]


def test_classes_behind_a_wrapper():
    """As data-parallel training makes one."""
    wrapper = torch.nn.Module()
    wrapper.module = torch.nn.Module()
    assert classes_of(wrapper) == 0
    wrapper.module.classes = 7
    assert classes_of(wrapper) == 7


@pytest.mark.parametrize("sampler", [ancestral, ddim, dpm_solver_pp_2m, heun])
def test_samplers_pass_labels_on(make, sampler):
    """Every call has them, twice as many with guidance."""
    process, network = make(variance=LearnedRange(), schedule=LinearConfig(steps=50)), ByClass()
    options = Options(labels=torch.tensor([2, 0]), guidance=1.5)
    found = sampler(process, network, Noise((2, 1, 2, 2), [1, 2]), spaced(50, 3), options)
    assert found.shape == (2, 1, 2, 2) and all(asked == [2, 0, 3, 3] for asked in network.asked)


@pytest.mark.parametrize(
    ("labels", "guidance", "message"),
    [
        (torch.tensor([0, 4]), None, r"label 4 is outside \[0, 3\): 3 itself means no class"),
        (torch.tensor([-1, 0]), None, "label -1"),
        (torch.tensor([0]), None, r"give \(2,\) int64"),
        (torch.tensor([0.0, 1.0]), None, "torch.float32"),
        (None, 2.0, "guidance 2.0 needs labels"),
        (torch.tensor([0, 1]), -1.0, r"a scale in \[0, inf\)"),
    ],
)
def test_labels_that_cannot_be(labels, guidance, message):
    """Range, shape, type, and guidance towards nothing."""
    with pytest.raises(ValueError, match=message):
        conditioned(ByClass(), labels, guidance, 2)


def test_labels_for_a_network_without_classes():
    """It would silently ignore them."""
    with pytest.raises(ValueError, match="knows no classes"):
        conditioned(lambda x, t, labels: x, torch.tensor([0, 1]), None, 2)
