"""Diffusion from pictures to drawings, by the commands: small recipes train, and a DDPM does all it can."""

import json
from collections.abc import Callable
from pathlib import Path

import pytest
from PIL import Image

from diffusion import DDPM
from diffusion.hvae import HVAE
from diffusion.vae import VAE
from diffusion.vdm import VDM

ROOT = Path(__file__).parent.parent.parent
RECIPES = ROOT / "recipes" / "diffusion"
TOY = ("--lr.steps=2", "--lr.warmup_steps=0", "--run.precision=no", "--run.trackers=[]", "--run.log_steps=1",
       "--data.batch=4", "--data.held_out=4", "--data.workers=0", "--eval_steps=2",
       "--data.gallery=emoji:train:20")  # fmt: skip
UNET = ("--network.channels=8", "--network.multipliers=[1,1]", "--network.groups=4",
        "--network.attention_levels=[1]", "--bound_times=2")  # fmt: skip


def run(vqtok: Callable, *words: object) -> str:
    """What a command says that ends well."""
    outcome = vqtok(*words)
    assert outcome.code == 0, outcome.err
    return outcome.out


def test_from_pictures_to_drawings(vqtok: Callable, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    """Train, sample, complete, measure; and what diffusers would run is read back."""
    monkeypatch.chdir(tmp_path)
    run(vqtok, "train", RECIPES / "emoji32.yaml", "--run.folder=run", *TOY, *UNET)
    model = ("--model", "run/model")
    run(vqtok, "sample", *model, "--count", 3, "--sampler", "dpm_solver", "--steps", 2, "--out", "drawn.png")
    assert Image.open("drawn.png").width > 100
    Image.new("RGB", (40, 40), "red").save("a.png")
    run(vqtok, "complete", "a.png", *model, "--rows", 8, "--steps", 3, "--candidates", 2)
    hole = ("--hole", 2, 2, 20, 20, "--out", "filled.png")
    run(vqtok, "complete", "a.png", *model, "--steps", 3, *hole)
    data = ("--data", "emoji:validation:12", "--count", 4, "--times", 3)
    told = run(vqtok, "evaluate", "diffusion", *model, *data, "--samples", 4, "--steps", 2, "--out", "told")
    assert "bits a dimension or less" in told and "FD-lite0" in told
    report = json.loads(Path("told/report.json").read_text())
    assert report["pictures"] == 4 and report["samples"] == 4 and report["sampler_steps"] == 2
    assert DDPM.from_pretrained("run/model").config.size == 32


def test_gray_pictures(vqtok: Callable, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    """The recipe of Fashion-MNIST, on other pictures made gray; options of an ImageGPT are refused."""
    monkeypatch.chdir(tmp_path)
    run(vqtok, "train", RECIPES / "fashion32.yaml", "--run.folder=run", *TOY, *UNET)
    run(vqtok, "sample", "--model", "run/model", "--count", 2, "--steps", 2)
    outcome = vqtok("sample", "--model", "run/model", "--top-k", 3)
    assert outcome.code == 2 and "--top-k: a DDPM takes no such thing" in outcome.err


SMALL = {
    "vae": (VAE, ("--model.level.channels=8", "--model.level.groups=4")),
    "hvae": (HVAE, ()),
    "vdm": (VDM, ("--model.network.channels=8", "--model.network.groups=4")),
}


@pytest.mark.parametrize("kind", SMALL)
def test_the_lectures_chain(kind: str, vqtok: Callable, tmp_path: Path):
    """Two steps of each recipe leave a model that draws."""
    family, shape = SMALL[kind]
    run(vqtok, "train", RECIPES / f"emoji32-{kind}.yaml", f"--run.folder={tmp_path}", *TOY, *shape)
    drawn = family.from_pretrained(tmp_path / "model").sample(2, seed=0)
    assert drawn.shape == (2, 3, 32, 32) and 0 <= float(drawn.min()) <= float(drawn.max()) <= 1
