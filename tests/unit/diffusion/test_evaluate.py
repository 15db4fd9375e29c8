"""Figures of a DDPM: what is measured is what was asked for, and the same again for the same seed."""

from dataclasses import replace
from pathlib import Path

import pytest
import torch

from diffusion import DDPM, DDPMConfig
from diffusion.drawing import DDIM
from diffusion.evaluate import Job, all_of, bound, cloud, distance, evaluate, told
from diffusion.likelihood import Measuring
from diffusion.model import CLIP
from diffusion.networks import UNetConfig
from diffusion.pictures import Pictures
from diffusion.process import ProcessConfig
from diffusion.schedules import CosineConfig
from vqtok.data.galleries import open_gallery
from vqtok.metrics.frechet import frechet_distance

CPU = torch.device("cpu")


def model(channels: int = 3) -> DDPM:
    """Six steps, a network that says something."""
    network = UNetConfig(
        channels=8, multipliers=(1, 1), blocks=1, groups=4, in_channels=channels, out_channels=channels
    )
    made = DDPM(DDPMConfig(network=network, process=ProcessConfig(schedule=CosineConfig(steps=6)), size=32))
    with torch.no_grad():
        for weight in made.parameters():
            weight.add_(0.05 * torch.randn_like(weight))
    return made.eval()


@pytest.fixture
def job(tmp_path: Path) -> Job:
    """Everything of twelve pictures in batches of five."""
    model().save_pretrained(tmp_path / "model")
    return Job(
        model=str(tmp_path / "model"),
        data="emoji:validation:12",
        count=None,
        times=None,
        samples=7,
        sampler=DDIM(steps=2),
        batch=5,
        seed=3,
        out=tmp_path / "out",
    )


def test_report(job: Job):
    """Terms sum to the total, the curve to them; the lines say it; the file holds it."""
    report = evaluate(job)
    assert report == evaluate(job)
    bits = report["bits"]
    assert report["pictures"] == 12 and report["times"] == report["steps"] == 6
    assert bits["total"] == pytest.approx(bits["reconstruction"] + bits["prior"] + bits["denoising"])
    assert sum(report["curve"]) == pytest.approx(bits["total"], rel=1e-6)
    assert "over 12 pictures and all 6 times:" in told(report)[0]
    assert "of 7 pictures drawn by ddim in 2 steps" in told(report)[-1]
    assert {path.name for path in job.out.iterdir()} == {"report.json", "drawings.png"}


def test_estimates_are_clipped(job: Job):
    """As DDPM's code measures; the formula's own figure is what `DDPM.elbo` says unless told."""
    ddpm = DDPM.from_pretrained(job.model)
    images, labels = Pictures(open_gallery(job.data, 32)).evenly(4)
    found = bound(ddpm, images, labels, replace(job, batch=4))["bits"]["total"]
    clipped = ddpm.elbo(images, seed=3, measuring=Measuring(correction=CLIP))
    assert found == pytest.approx(clipped.mean) and clipped.mean < ddpm.elbo(images, seed=3).mean


@pytest.mark.parametrize("gray", [False, True])
def test_distance(job: Job, gray: bool):
    """Of real pictures to themselves 0, of drawn ones more; gray pictures have one channel."""
    pictures = Pictures(open_gallery(job.data, 32), gray=gray)
    real = cloud(all_of(pictures, 5), CPU)
    assert real.count == 12 and frechet_distance(real, cloud(all_of(pictures, 4), CPU)) == pytest.approx(
        0, abs=1e-3
    )
    assert distance(model(1 if gray else 3), pictures, job) > 1


def test_without_drawings(job: Job):
    """No distance is told where nothing was drawn for one."""
    report = evaluate(replace(job, samples=0, times=2, count=3))
    assert "fd_lite0" not in report and len(told(report)) == 2 and "2 of 6 times" in told(report)[0]
