"""A DDPM of ours and diffusers' pipelines: what one writes the other reads, and both mean the same."""

from pathlib import Path

import diffusers
import pytest
import torch

from diffusion import DDPM, DDPMConfig
from diffusion.drawing import Ancestral
from diffusion.networks import ClassesConfig, UNetConfig
from diffusion.process import ProcessConfig
from diffusion.published.pipelines import import_ddpm, is_diffusers, load_pipeline, process_of, save_pipeline
from diffusion.schedules import CosineConfig, LinearConfig, ScaledLinearConfig, SigmoidConfig
from diffusion.targets import MeanTarget, VelocityTarget
from diffusion.variances import LearnedRange, SmallVariance

pytestmark = pytest.mark.peer
UNET = UNetConfig(channels=8, multipliers=(1, 2), blocks=1, groups=4)


def model(process: ProcessConfig, network: UNetConfig = UNET, classes: tuple[str, ...] = ()) -> DDPM:
    """With every weight drawn."""
    torch.manual_seed(0)
    made = DDPM(DDPMConfig(network=network, process=process, size=8, classes=classes)).eval()
    with torch.no_grad():
        for weight in made.parameters():
            weight.add_(torch.randn_like(weight) * 0.05)
    return made


@pytest.mark.parametrize(
    "process",
    [
        ProcessConfig(schedule=LinearConfig(steps=50)),
        ProcessConfig(schedule=CosineConfig(steps=30), target=VelocityTarget(), variance=SmallVariance()),
        ProcessConfig(schedule=ScaledLinearConfig(steps=1000)),
    ],
    ids=["linear", "cosine", "scaled linear"],
)
def test_there_and_back(process: ProcessConfig, tmp_path: Path):
    """Their scheduler has our table, their pipeline our network, and what comes back is what left."""
    ours = model(process)
    save_pipeline(ours, tmp_path / "pipeline")
    theirs = diffusers.DDPMPipeline.from_pretrained(tmp_path / "pipeline")
    table = theirs.scheduler.alphas_cumprod.double()
    torch.testing.assert_close(table, ours.schedule.alpha_bar[1:], rtol=1e-4, atol=1e-7)
    x = torch.randn(2, 3, 8, 8)
    with torch.no_grad():
        expected = theirs.unet(x, torch.tensor([3, 20])).sample
        torch.testing.assert_close(ours.denoiser(x, torch.tensor([4, 21])), expected, atol=1e-5, rtol=0)
    assert is_diffusers(tmp_path / "pipeline") and not is_diffusers(tmp_path)
    again = load_pipeline(tmp_path / "pipeline")
    assert again.config == ours.config
    assert import_ddpm(tmp_path / "pipeline", tmp_path / "ours").startswith("DDPM: 0.0 M weights, 8x8 pixels")
    drawn = DDPM.from_pretrained(tmp_path / "ours").sample(2, Ancestral(steps=3), seed=1)
    assert torch.equal(drawn, ours.sample(2, Ancestral(steps=3), seed=1))


def test_what_has_no_counterpart(tmp_path: Path):
    """Is named, in either direction."""
    for process in (ProcessConfig(schedule=SigmoidConfig()), ProcessConfig(target=MeanTarget())):
        with pytest.raises(ValueError, match="has no counterpart in diffusers"):
            save_pipeline(model(process), tmp_path / "pipeline")
    with pytest.raises(ValueError, match="variance_type is 'learned', known are fixed_small"):
        process_of({"variance_type": "learned"})
    with pytest.raises(ValueError, match="beta_schedule is 'sigmoid', known are linear"):
        process_of({"beta_schedule": "sigmoid"})
    with pytest.raises(ValueError, match="rescale_betas_zero_snr makes a process"):
        process_of({"rescale_betas_zero_snr": True})
    assert process_of({"variance_type": "learned_range"}).variance == LearnedRange()
    assert process_of({}).schedule == LinearConfig() and process_of({}).variance == SmallVariance()


def test_classes_are_numbers(tmp_path: Path):
    """Of a network that knows some, as diffusers trains them: none of them means no class."""
    classes = ClassesConfig(count=3, null=False, drop=0.0)
    unet = UNetConfig(channels=8, multipliers=(1, 2), blocks=1, groups=4, classes=classes)
    ours = model(ProcessConfig(schedule=LinearConfig(steps=50)), unet, ("a", "b", "c"))
    save_pipeline(ours, tmp_path / "pipeline")
    assert load_pipeline(tmp_path / "pipeline").config.classes == ("0", "1", "2")


def test_a_network_alone_is_not_enough(tmp_path: Path):
    """Its noise is in the scheduler's file."""
    save_pipeline(model(ProcessConfig()), tmp_path / "pipeline")
    (tmp_path / "pipeline" / "scheduler" / "scheduler_config.json").unlink()
    with pytest.raises(ValueError, match="has no scheduler"):
        load_pipeline(tmp_path / "pipeline")
