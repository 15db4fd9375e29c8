"""The critic: its network, its losses as written, and when it trains and counts."""

from dataclasses import replace
from pathlib import Path

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from vqtok.tokenizers.critic import MEMORY, Adversary, Critic, CriticConfig, hinge
from vqtok.training.optim import OptimConfig
from vqtok.training.run import Run, RunConfig

SMALL = CriticConfig(channels=4, layers=1, norm="none", count_from=0, ramp_steps=0)


@pytest.fixture
def run(tmp_path: Path) -> Run:
    """A run without trackers."""
    return Run(RunConfig(folder=tmp_path, trackers=()))


def test_the_published_size():
    """Three layers of 64 channels: pix2pix' 2.769 M weights less three input channels; 70 pixels seen."""
    assert sum(p.numel() for p in Critic(CriticConfig()).parameters()) == 2_768_705 - 3 * 64 * 4**2
    images = torch.rand(1, 3, 256, 256, requires_grad=True)
    scores = Critic(CriticConfig(norm="none"))(images)
    assert scores.shape == (1, 1, 30, 30)
    scores[0, 0, 15, 15].backward()
    rows = images.grad.abs().sum((0, 1, 3)).nonzero()
    assert int(rows.max() - rows.min()) + 1 == 70


@pytest.mark.parametrize(("layers", "seen"), [(1, 16), (2, 34)])
def test_what_a_score_sees(layers: int, seen: int):
    """As the settings say."""
    images = torch.rand(1, 3, 64, 64, requires_grad=True)
    scores = Critic(CriticConfig(channels=4, layers=layers, norm="none"))(images)
    middle = scores.shape[2] // 2
    scores[0, 0, middle, middle].backward()
    rows = images.grad.abs().sum((0, 1, 3)).nonzero()
    assert int(rows.max() - rows.min()) + 1 == seen


def test_batch_norm_keeps_no_statistics():
    """Scores are those of the images at hand, in evaluation too, so nothing is there to be exchanged."""
    critic, images = Critic(CriticConfig(channels=4, layers=1)), torch.rand(4, 3, 16, 16)
    assert torch.equal(critic(images), critic.eval()(images))
    assert [name for name, _ in critic.named_buffers()] == ["means"]


def test_hinge():
    """Half the mean of max(0, 1 - real) plus half that of max(0, 1 + fake)."""
    assert float(hinge(torch.tensor([0.5, 3.0]), torch.tensor([-3.0, 1.0]))) == (0.25 + 1.0) / 2


def test_lecam():
    """Scores are held by the other side's mean, which moves slowly; nothing pulls those that are inside."""
    critic = Critic(SMALL)
    critic.means.copy_(torch.tensor([1.0, -1.0]))
    real, fake = torch.tensor([2.0, -3.0]), torch.tensor([0.0, 4.0])
    assert float(critic.lecam(real, fake)) == pytest.approx((2 + 1) ** 2 / 2 + (1 - 0) ** 2 / 2)
    critic.remember(torch.stack([real.mean(), fake.mean()]))
    expected = [MEMORY * 1.0 + (1 - MEMORY) * -0.5, MEMORY * -1.0 + (1 - MEMORY) * 2.0]
    assert critic.means.tolist() == pytest.approx(expected)


def play(config: CriticConfig, run: Run, steps: int) -> list[tuple[float, bool]]:
    """A tokenizer of one convolution against a critic: each step's penalty, and whether the critic moved."""
    network = nn.Conv2d(3, 3, 1)
    network, optimizer = run.prepare(network, torch.optim.SGD(network.parameters(), lr=0.1))
    adversary, found = Adversary(config, run), []
    for images in run.batches([torch.rand(3, 16, 16)] * 4 * steps, 4, steps):
        before = [parameter.clone() for parameter in adversary.critic.parameters()]
        with run.accumulate(network, adversary.critic):
            decoded = network(images)
            loss = F.l1_loss(decoded, images)
            penalty = adversary.penalty(decoded, loss, network.weight)
            run.update(loss + penalty, optimizer)
            middle = [parameter.clone() for parameter in adversary.critic.parameters()]
            adversary.learn(images, decoded, lr=0.01)
        assert all(map(torch.equal, before, middle)), "the tokenizer's step moves no critic"
        moved = not all(map(torch.equal, middle, adversary.critic.parameters()))
        found.append((penalty.item(), moved))
    return found


def test_it_trains_before_it_counts(run: Run):
    """Trained from step 2 and counting from 4 of the tokenizer's steps, with a weight that rises."""
    config = replace(SMALL, train_from=2, count_from=4, ramp_steps=2)
    found = play(config, run, 8)
    assert [moved for _, moved in found] == [False] * 2 + [True] * 6
    assert [penalty != 0 for penalty, _ in found] == [False] * 5 + [True] * 3  # at step 4 the ramp is at 0


def test_muon_trains_what_lies_inside(run: Run):
    """The critic's matrices between its first and last layer, as its settings ask."""
    adversary = Adversary(replace(SMALL, channels=16, layers=2, optim=OptimConfig(muon=True)), run)
    convolutions = [part for part in adversary.critic.layers if isinstance(part, nn.Conv2d)]
    groups = [group["params"] for group in adversary.optimizer.param_groups if group.get("orthogonal")]
    by_muon = {id(parameter) for group in groups for parameter in group}
    assert [id(part.weight) in by_muon for part in convolutions] == [False, True, True, False]


@pytest.mark.parametrize("parts", [1, 4])
def test_lecam_remembers_whole_steps(parts: int, tmp_path: Path):
    """With micro-batches the means are those of all scores of the step."""
    run = Run(RunConfig(folder=tmp_path, trackers=(), micro_batches=parts))
    network, frozen = nn.Conv2d(3, 3, 1), nn.Conv2d(3, 3, 1)
    network, optimizer = run.prepare(network, torch.optim.SGD(network.parameters(), lr=0.0))
    adversary = Adversary(replace(SMALL, lecam=0.1), run)
    images = torch.rand(4, 3, 16, 16) * torch.linspace(0, 1, 4).view(4, 1, 1, 1)
    with torch.no_grad():
        expected = [adversary.critic(x).mean() for x in (images, frozen(images))]
    for share in run.batches(images, 4, 1):
        with run.accumulate(network, adversary.critic):
            run.update(network(share).mean(), optimizer)
            adversary.learn(share, frozen(share), lr=0.01)
    found = adversary.critic.means / (1 - MEMORY)
    torch.testing.assert_close(found, torch.stack(expected), atol=1e-8, rtol=1e-4)


def test_the_penalty(run: Run):
    """Weight times minus the mean score; with a factor, times the ratio of both gradients' lengths."""
    adversary = Adversary(replace(SMALL, weight=0.5, adaptive=1e9), run)
    layer, images = nn.Conv2d(3, 3, 1), torch.rand(2, 3, 16, 16)
    decoded = layer(images)
    loss = F.l1_loss(decoded, images)
    plea = -adversary.critic(decoded).mean()
    ours, its = (
        torch.autograd.grad(term, layer.weight, retain_graph=True)[0].norm() for term in (loss, plea)
    )
    found = adversary.penalty(decoded, loss, layer.weight)
    torch.testing.assert_close(found, 0.5 * ours / (its + 1e-4) * plea)
    pull = torch.autograd.grad(found, layer.weight, retain_graph=True)[0].norm()
    torch.testing.assert_close(pull, 0.5 * ours * its / (its + 1e-4))  # the factor is held constant
    bounded = Adversary(replace(SMALL, weight=0.5, adaptive=1e-3), run)
    bounded.critic.load_state_dict(adversary.critic.state_dict())
    torch.testing.assert_close(bounded.penalty(decoded, loss, layer.weight), 0.5 * 1e-3 * plea)
    plain = Adversary(replace(SMALL, weight=0.5), run)
    plain.critic.load_state_dict(adversary.critic.state_dict())
    torch.testing.assert_close(plain.penalty(decoded, loss, layer.weight), 0.5 * plea)


@pytest.mark.parametrize(
    ("settings", "told"),
    [
        ({"train_from": 5, "count_from": 4}, "trains from step 5 and counts from 4.*no later than it counts"),
        ({"train_from": -1}, "trains from step -1"),
        ({"ramp_steps": -1}, "over -1 steps"),
        ({"weight": 0.0}, "the critic's weight is 0.0, not above 0"),
        ({"layers": 0}, "the critic's layers is 0"),
        ({"adaptive": 0.0}, "adaptive 0.0 above"),
        ({"lecam": -0.1}, "lecam -0.1 must be at least 0"),
    ],
)
def test_mistakes(settings: dict[str, float], told: str):
    """Settings of no use are refused."""
    with pytest.raises(ValueError, match=told):
        CriticConfig(**settings)


def test_images_too_small():
    """Three layers need 24 pixels a side."""
    CriticConfig().check_size(24)
    with pytest.raises(ValueError, match="3 layers needs images of 24 pixels a side, not 16: lower critic"):
        CriticConfig().check_size(16)
