"""Our DDPM beside diffusers': same pictures, same measure, and what was trained is what is measured."""

import pytest
import torch

from workbench.compare import ddpm
from workbench.compare.ddpm import COMPARISON, TOY, trained
from workbench.compare.students import PowerEMA, Theirs

pytestmark = pytest.mark.peer
CPU = torch.device("cpu")


def test_theirs_is_measured_as_it_is():
    """In our UNet their weights give their outputs, at our times, which count from 1."""
    torch.manual_seed(0)
    student = Theirs(TOY["emoji"])
    with torch.no_grad():
        for weight in student.module.parameters():
            weight.add_(0.05 * torch.randn_like(weight))
    student.module.eval()
    x, t = torch.randn(2, 3, 8, 8), torch.tensor([1, 700])
    with torch.no_grad():
        ours = student.ddpm(student.module).denoiser(x, t)
        torch.testing.assert_close(ours, student.module(x, t - 1).sample, atol=1e-5, rtol=1e-5)
    assert student.ddpm(student.module).process.schedule.kept(1000) == pytest.approx(
        float(student.scheduler.alphas_cumprod[-1]), rel=1e-4
    )


def test_their_average():
    """It has the decay of diffusers' own."""
    from diffusers.training_utils import EMAModel

    layer = torch.nn.Linear(3, 2)
    theirs = EMAModel(layer.parameters(), decay=0.9999, use_ema_warmup=True, inv_gamma=1.0, power=0.75)
    for step in (1, 2, 50, 10_000, 10**7):
        assert 1 - PowerEMA(layer).share(step) == pytest.approx(theirs.get_decay(step + 1), rel=1e-6)


@pytest.mark.parametrize("name", COMPARISON.learners)
def test_learning_follows_from_the_seed(name: str):
    """Twice the same; another seed is another training."""
    learner = COMPARISON.learners[name]
    one, same, other = (trained(learner, TOY["emoji"], 3, seed, CPU) for seed in (0, 0, 1))
    assert one.bits == same.bits != other.bits and one.distance == same.distance
    assert one.bits["total"] == pytest.approx(
        one.bits["reconstruction"] + one.bits["prior"] + one.bits["denoising"]
    )
    assert torch.equal(one.drawn, same.drawn) and one.drawn.shape == (12, 3, 8, 8)


def test_a_toy():
    """A table with a row for everybody, for real pictures and for noise."""
    told = COMPARISON.run(CPU, steps=3, seeds=[0], toy=True)
    rows = [line.split(" | ")[0] for line in told.splitlines() if line.startswith("| ")]
    ends = ["real pictures of the training set", "noise"]
    assert rows[2:] == [f"| {name}" for name in (*COMPARISON.learners, *ends)]


def test_missing_files_are_told(monkeypatch: pytest.MonkeyPatch):
    """Fashion-MNIST is left out where it is not installed."""
    monkeypatch.setattr(ddpm, "TOY", {"Fashion-MNIST": ddpm.TASKS["Fashion-MNIST"]})
    monkeypatch.setattr(ddpm.Path, "is_file", lambda _: False)
    told = COMPARISON.run(CPU, steps=3, seeds=[0], toy=True)
    assert "**Fashion-MNIST** was left out: no file " in told
