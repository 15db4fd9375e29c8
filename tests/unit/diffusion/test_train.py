"""Training end to end at toy size: what is learned, what is saved, and what goes on as if never stopped."""

import json
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from diffusion import DDPM
from diffusion.drawing import DDIM
from diffusion.likelihood import Measuring
from diffusion.networks import ClassesConfig, UNetConfig
from diffusion.objectives import Hybrid, Simple, Variational
from diffusion.pictures import PicturesConfig
from diffusion.process import ProcessConfig
from diffusion.schedules import CosineConfig
from diffusion.times import LossAwareConfig
from diffusion.train import TrainConfig, train
from diffusion.variances import LearnedRange
from vqtok.data.pictures import write_picture
from vqtok.training.optim import OptimConfig
from vqtok.training.run import RunConfig
from vqtok.training.schedule import LRConfig

FAST = DDIM(steps=5)
UNET = UNetConfig(channels=16, multipliers=(1, 1), blocks=1, groups=4)


@pytest.fixture
def config(tmp_path: Path) -> TrainConfig:
    """Thirty steps of eight pictures, half red above and half blue below, of two classes."""
    for number in range(24):
        image = torch.zeros(3, 8, 8)
        image[0 if number % 2 else 2, 4 * (number % 2) :] = (1 + number % 3) / 3
        write_picture(tmp_path / "pictures" / "ab"[number % 2] / f"{number}.png", image)
    return TrainConfig(
        run=RunConfig(folder=tmp_path / "run", log_steps=10, trackers=()),
        data=PicturesConfig(gallery=str(tmp_path / "pictures"), held_out=4, batch=8, mirror=True),
        size=8,
        network=UNET,
        process=ProcessConfig(schedule=CosineConfig(steps=20)),
        optim=OptimConfig(decay=0.0),
        lr=LRConfig(peak=3e-3, warmup_steps=2, steps=30),
        average=0.8,
        bound_times=4,
        eval_steps=15,
        save_steps=10,
    )


def told(config: TrainConfig, name: str) -> list[float]:
    """What a run recorded under a name."""
    lines = (config.run.folder / "metrics.jsonl").read_text().splitlines()
    return [row[name] for row in map(json.loads, lines) if name in row]


def test_learning(config: TrainConfig):
    """The loss falls, each quarter of time has its own, the bound is measured, and `model/` draws."""
    train(config)
    losses, bounds = told(config, "loss"), told(config, "validation/total")
    assert losses[-1] < losses[0] < 1.1 and bounds[-1] < bounds[0]
    assert len(told(config, "loss/q1")) == len(told(config, "loss/q4")) == 3
    parts = [told(config, f"validation/{name}")[-1] for name in ("reconstruction", "prior", "denoising")]
    assert sum(parts) == pytest.approx(bounds[-1])
    assert [*(config.run.folder / "pictures").glob("pictures-*.png")]
    model = DDPM.from_pretrained(config.run.folder / "model")
    assert model.sample(2, FAST).shape == (2, 3, 8, 8) and model.config.classes == ()


@pytest.mark.parametrize(
    ("settings", "objective"),
    [
        ({"variance": LearnedRange()}, Hybrid()),
        ({"variance": LearnedRange()}, Variational()),
    ],
    ids=["hybrid", "variational"],
)
def test_learned_variances(config: TrainConfig, settings: dict, objective: Hybrid | Variational):
    """The bound can be learned, with times drawn by their losses, and a stopped run goes on as if never."""
    settings = {
        "network": replace(UNET, out_channels=6),
        "process": replace(config.process, **settings),
        "objective": objective,
        "times": LossAwareConfig(remembered=2),
    }
    config = replace(config, **settings)
    train(config)
    whole = DDPM.from_pretrained(config.run.folder / "model").state_dict()
    again = replace(config, run=replace(config.run, folder=config.run.folder.with_name("again")))
    train(replace(again, lr=replace(config.lr, steps=20)))  # the rate is another one; the third run shows
    resumed = replace(again, run=replace(again.run, folder=config.run.folder))
    for newest in sorted((config.run.folder / "checkpoints").iterdir())[1:]:
        newest.rename(newest.with_name(f"set-aside-{newest.name}"))
    train(resumed)
    for name, weight in DDPM.from_pretrained(config.run.folder / "model").state_dict().items():
        assert torch.equal(weight, whole[name]), name


def test_muon(config: TrainConfig):
    """It trains what lies inside the network, and a run goes on as if never stopped."""
    config = replace(config, optim=OptimConfig(decay=0.0, muon=True))
    train(config)
    losses = told(config, "loss")
    assert losses[-1] < losses[0]
    whole = DDPM.from_pretrained(config.run.folder / "model").state_dict()
    for newest in sorted((config.run.folder / "checkpoints").iterdir())[1:]:
        newest.rename(newest.with_name(f"set-aside-{newest.name}"))
    train(config)
    for name, weight in DDPM.from_pretrained(config.run.folder / "model").state_dict().items():
        assert torch.equal(weight, whole[name]), name


def test_classes(config: TrainConfig):
    """Those of the data are known by name, drawn with guidance, and tell something of a picture."""
    train(replace(config, network=replace(UNET, classes=ClassesConfig(count=2))))
    model = DDPM.from_pretrained(config.run.folder / "model")
    assert model.config.classes == ("a", "b")
    drawn = model.sample(4, FAST, classes=["b", "a"], guidance=2.0)
    assert torch.equal(drawn[:2], model.sample(2, FAST, classes=["b", "a"], guidance=2.0))
    assert not torch.equal(drawn[0], model.sample(1, FAST, classes=["a"], guidance=2.0)[0])
    images = drawn.mul(255).round().div(255)
    bound = model.elbo(images, classes=["b", "a", "b", "a"], measuring=Measuring(times=3))
    assert bound.total.isfinite().all()


@pytest.mark.parametrize(
    ("settings", "reason"),
    [
        ({"network": replace(UNET, classes=ClassesConfig(count=3))}, "count is 3, .*pictures has 2 classes"),
        ({"network": replace(UNET, in_channels=1, out_channels=1)}, "x is .*channels|give floating-point"),
        ({"process": ProcessConfig(variance=LearnedRange())}, "out_channels is 3; .*wants 6"),
        ({"size": 9}, "size 9 does not divide by 2"),
        ({"data": PicturesConfig(gallery="nowhere")}, "nowhere"),
        ({"data": PicturesConfig(gallery="emoji:train:20", held_out=20)}, "held_out is 20 of 20 pictures"),
        ({"objective": Hybrid()}, "objective 'hybrid' teaches variances"),
    ],
)
def test_mistakes(config: TrainConfig, settings: dict, reason: str):
    """What does not belong together is told before, or at, the first step."""
    with pytest.raises(ValueError, match=reason):
        train(replace(config, **settings))


def test_the_usual_objective(config: TrainConfig):
    """It is DDPM's."""
    assert config.objective == Simple()
