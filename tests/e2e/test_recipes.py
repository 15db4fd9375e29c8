"""Every recipe keeps the form of its promise: a header with command, cost and figure, settings that parse.

Those of tokenizers that no other test trains also run, at toy size.
"""

import json
import re
import struct
from collections.abc import Callable
from importlib import import_module
from pathlib import Path

import pytest
import torch

from lvm.layout import BareConfig
from lvm.published import SIZES, official_config
from lvm.train import TrainConfig as LVMTrainConfig
from vqtok.gpt.model import GPT
from vqtok.tokenizers import load_tokenizer
from vqtok.tokenizers.choice import build
from vqtok.tokenizers.train import TrainConfig
from vqtok.training import parse
from workbench.recipes import trainer

ROOT = Path(__file__).parent.parent.parent
RECIPES = sorted((ROOT / "recipes").rglob("*.yaml"))


def header(recipe: Path) -> str:
    """The comment a recipe begins with."""
    return re.match(r"(#.*\n)*", recipe.read_text(encoding="utf-8"))[0]


@pytest.mark.parametrize("recipe", RECIPES, ids=lambda path: str(path.relative_to(ROOT)))
def test_header(recipe: Path) -> None:
    """The command names this very file; cost and expected number are stated; 40 lines hold it all."""
    text = header(recipe)
    assert f"--config {recipe.relative_to(ROOT)}\n" in text
    for promise in ("Cost:", "Expected:"):
        assert re.search(rf"^# {promise} .*\d", text, re.MULTILINE), f"{promise} a figure from a run"
    assert len(recipe.read_text(encoding="utf-8").splitlines()) <= 40


@pytest.mark.parametrize("recipe", RECIPES, ids=lambda path: str(path.relative_to(ROOT)))
def test_settings(recipe: Path) -> None:
    """The trainer that the header names accepts every setting."""
    kind = import_module(trainer(recipe)).TrainConfig
    assert isinstance(parse(kind, ["--config", str(recipe)]), kind)


TOY = ("--lr.steps=2", "--lr.warmup_steps=0", "--run.trackers=[]", "--run.precision=no", "--run.log_steps=1",
       "--data.workers=0", "--data.batch=4", "--codebook_steps=2")  # fmt: skip
SHAPE = ("--tokenizer.autoencoder.channels=8", "--tokenizer.autoencoder.groups=4",
         "--tokenizer.quantizer.codes=32")  # fmt: skip
SMALL = {
    "emoji64-gpu": (*SHAPE, "--tokenizer.autoencoder.patch=4", "--tokenizer.autoencoder.multipliers=[1,2]",
                    "--loss.perceptual=0", "--critic.channels=8", "--critic.train_from=0",
                    "--critic.count_from=0", "--critic.ramp_steps=0"),
    "emoji64-dvae": ("--tokenizer.channels=8", "--tokenizer.vocab=32", "--tokenizer.embedding=8"),
    "fashion32": (*SHAPE, "--data.idx=images", "--data.held_out=4"),
}  # fmt: skip


@pytest.mark.parametrize("name", SMALL)
def test_two_steps(name: str, vqtok: Callable, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Two steps of a recipe at toy size leave a tokenizer, and record what the recipe turns on."""
    monkeypatch.chdir(tmp_path)
    header = struct.pack(">BBBBIII", 0, 0, 8, 3, 12, 28, 28)
    Path("images").write_bytes(header + bytes(range(196)) * 4 * 12)
    recipe = ROOT / "recipes" / "tokenizer" / f"{name}.yaml"
    outcome = vqtok("train", recipe, "--run.folder=run", *TOY, *SMALL[name])
    assert outcome.code == 0, outcome.err
    size = load_tokenizer("run/model").config.size
    assert size == (32 if name == "fashion32" else 64)
    rows = [json.loads(line) for line in Path("run/metrics.jsonl").read_text().splitlines()]
    recorded = {key for row in rows for key in row}
    wanted = {
        "emoji64-gpu": {"critic/weight", "critic/real", "loss/squared"},
        "emoji64-dvae": {"loss/laplace", "quantizer/kl", "psnr/shaded"},
        "fashion32": {"psnr/images", "quantizer/error"},
    }
    assert wanted[name] | {"codebook/usage"} <= recorded


@pytest.mark.parametrize(
    ("name", "parameters", "tokens"),
    [
        ("imagenet256-f16-llamagen", 71_883_403, 256),
        ("imagenet256-f8-llamagen", 70_109_835, 1024),
        ("imagenet256-f16-taming", 72_141_699, 256),
    ],
)
def test_published_sizes(name: str, parameters: int, tokens: int) -> None:
    """A recipe in a publication's settings trains a network with the publication's number of parameters."""
    config = parse(TrainConfig, ["--config", str(ROOT / "recipes" / "tokenizer" / f"{name}.yaml")])
    with torch.device("meta"):
        tokenizer = build(config.tokenizer)
    assert sum(parameter.numel() for parameter in tokenizer.parameters()) == parameters
    assert tokenizer.tokens == tokens


@pytest.mark.parametrize("size", SIZES)
def test_sizes_of_the_published_lvm(size: str) -> None:
    """A recipe for each, with its shape, its vocabulary, and as many weights as its header says."""
    recipe = ROOT / "recipes" / "lvm" / f"lvm-{size}.yaml"
    config = parse(LVMTrainConfig, ["--config", str(recipe)])
    assert config.gpt == official_config(size) and config.layout == BareConfig()
    with torch.device("meta"):
        gpt = GPT(config.gpt)
    parameters = sum(parameter.numel() for parameter in gpt.parameters())
    assert f"Expected: {parameters:,} weights" in header(recipe)
