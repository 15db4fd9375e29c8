"""Training by the bound: three kinds of models, one loop; what does not belong together is refused."""

import json
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from diffusion.gamma import LearnedLinearGammaConfig
from diffusion.hvae import HVAE, HVAEConfig
from diffusion.levels import LevelConfig
from diffusion.networks.unet import UNetConfig
from diffusion.pictures import PicturesConfig, open_pictures
from diffusion.train_bound import ModelConfig, ObjectiveConfig, TrainConfig, drawings, measure, train
from diffusion.vae import VAE, VAEConfig
from diffusion.vdm import VDM, VDMConfig
from vqtok.data.pictures import write_picture
from vqtok.training.optim import OptimConfig
from vqtok.training.run import RunConfig
from vqtok.training.schedule import LRConfig, Ramp, cosine

LEVEL = LevelConfig(channels=8, groups=4, latent=4)
UNET = UNetConfig(channels=8, groups=4, multipliers=(1,), blocks=1, attention_levels=(), in_channels=15)
MODELS: dict[str, ModelConfig] = {
    "vae": VAEConfig(size=8, level=LEVEL),
    "hvae": HVAEConfig(size=8, chain=(LEVEL, LEVEL)),
    "vdm": VDMConfig(size=8, network=UNET, gamma=LearnedLinearGammaConfig()),
    "vdm in steps": VDMConfig(size=8, network=UNET, steps=10),
}
KINDS = {"vae": VAE, "hvae": HVAE, "vdm": VDM}


@pytest.fixture(scope="session")
def gallery(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Twelve black and white pictures of 8x8 pixels in blocks of 4x4."""
    folder = tmp_path_factory.mktemp("bound") / "pictures"
    for number in range(12):
        corners = torch.randint(2, (1, 2, 2), generator=torch.Generator().manual_seed(number)).float()
        blocks = corners.repeat_interleave(4, 1).repeat_interleave(4, 2)
        write_picture(folder / f"{number:02}.png", blocks.expand(3, 8, 8))
    return folder


@pytest.fixture
def config(gallery: Path, tmp_path: Path) -> TrainConfig:
    """Sixteen steps of eight pictures; four are held out."""
    return TrainConfig(
        run=RunConfig(folder=tmp_path / "run", log_steps=1, trackers=()),
        data=PicturesConfig(gallery=str(gallery), held_out=4, batch=8),
        model=MODELS["vae"],
        optim=OptimConfig(decay=0.0),
        lr=LRConfig(peak=1e-2, warmup_steps=2, steps=16),
        average=0.5,
        eval_steps=16,
        save_steps=8,
    )


@pytest.fixture(autouse=True)
def quick(monkeypatch: pytest.MonkeyPatch):
    """Few times and steps for what a VDM is measured by and draws."""
    monkeypatch.setattr("diffusion.train_bound.TIMES", 4)
    monkeypatch.setattr("diffusion.train_bound.STEPS", 4)


def told(config: TrainConfig) -> tuple[list[dict], list[dict]]:
    """What a run recorded of training, and of its evaluations."""
    lines = (config.run.folder / "metrics.jsonl").read_text().splitlines()
    rows = [json.loads(line) for line in lines]
    return [row for row in rows if "loss" in row], [row for row in rows if "validation/bits" in row]


@pytest.mark.parametrize("name", MODELS)
def test_the_bound_falls(config: TrainConfig, name: str):
    """That of held-out pictures; and `model/` says what was measured."""
    config = replace(config, model=MODELS[name], eval_steps=8)
    train(config)
    rows, (early, late) = told(config)
    assert late["validation/bits"] < early["validation/bits"]
    parts = [late[f"validation/{part}"] for part in ("reconstruction", "prior", "denoising")]
    assert late["validation/bits"] == pytest.approx(sum(parts), rel=1e-4) and late["validation/error"] > 0
    assert {"bits/reconstruction", "bits/prior", "bits/denoising"} <= {*rows[-1]}
    assert [*(config.run.folder / "pictures").glob("pictures-*.png")]
    model = KINDS[name.split()[0]].from_pretrained(config.run.folder / "model")
    _, (kept, _), _ = open_pictures(config.data, 8, 0)
    assert measure(model, kept)["validation/bits"] == pytest.approx(late["validation/bits"], rel=1e-4)


@pytest.mark.parametrize("name", ["hvae", "vdm"])
def test_a_run_goes_on(config: TrainConfig, name: str, monkeypatch: pytest.MonkeyPatch):
    """Stopped half-way and gone on with, it ends in the same weights."""
    short = replace(config, model=MODELS[name], lr=replace(config.lr, steps=4), save_steps=2, eval_steps=3)
    other = replace(short, run=replace(short.run, folder=short.run.folder.with_name("straight")))
    train(other)

    def stop(step: int, config: LRConfig) -> float:
        if step == 3:
            raise KeyboardInterrupt
        return cosine(step, config)

    monkeypatch.setattr("diffusion.train_bound.cosine", stop)
    with pytest.raises(KeyboardInterrupt):
        train(short)
    monkeypatch.undo()
    train(short)
    ended, straight = (
        KINDS[name].from_pretrained(c.run.folder / "model").state_dict() for c in (short, other)
    )
    assert all(torch.equal(ended[key], weight) for key, weight in straight.items())


@pytest.mark.parametrize("name", ["hvae", "vdm"])
def test_bfloat16_says_almost_the_same(config: TrainConfig, name: str):
    """The first loss, in bfloat16, is that in float32 to two digits: terms are computed in float32."""
    config = replace(config, model=MODELS[name], lr=replace(config.lr, steps=3, peak=1e-3))
    run = replace(config.run, folder=config.run.folder.with_name("half"), precision="bf16")
    half = replace(config, run=run)
    train(config)
    train(half)
    assert told(half)[0][0]["loss"] == pytest.approx(told(config)[0][0]["loss"], rel=1e-2)


def test_beta_weighs_while_training_only(config: TrainConfig):
    """With beta at 0 the loss is the reconstruction; what is measured is the bound all the same."""
    config = replace(config, objective=ObjectiveConfig(beta=Ramp(start=0.0, end=0.0, steps=0)))
    train(config)
    rows, (late,) = told(config)
    assert rows[-1]["loss"] == pytest.approx(rows[-1]["bits/reconstruction"], rel=1e-5)
    assert late["validation/bits"] > late["validation/reconstruction"] and rows[-1]["bits/prior"] > 0


def test_drawings(config: TrainConfig):
    """Held-out pictures, what comes back of them, and drawings; a VDM has nothing that comes back."""
    _, (kept, _), _ = open_pictures(config.data, 8, 0)
    assert drawings(MODELS["vae"].build(), kept, 0).shape == (3, 3 * 8, 4 * 8)
    assert drawings(MODELS["vdm in steps"].build(), kept, 0).shape == (3, 2 * 8, 4 * 8)


def test_nothing_left_to_learn_from(config: TrainConfig):
    """Is refused before training, not after the hours that it takes."""
    with pytest.raises(ValueError, match="data.held_out is 12 of 12 pictures: leave at least one"):
        train(replace(config, data=replace(config.data, held_out=12)))
    assert not (config.run.folder / "checkpoints").exists()


def test_settings_that_do_not_go_together(config: TrainConfig):
    """A weight for a VDM, a weight below 0, gray pictures."""
    beta = ObjectiveConfig(beta=Ramp(start=0.0, end=1.0, steps=5))
    with pytest.raises(ValueError, match="objective.beta: a vdm's terms"):
        replace(config, model=MODELS["vdm"], objective=beta)
    with pytest.raises(ValueError, match="a weight is not below 0"):
        ObjectiveConfig(beta=Ramp(start=-1.0, end=1.0, steps=5))
    with pytest.raises(ValueError, match="model.channels is 1, pictures have 3"):
        replace(config, model=replace(MODELS["vae"], channels=1))
