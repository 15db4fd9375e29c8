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

from dalle.layout import Layout
from dalle.train import TrainConfig as DalleTrainConfig
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


# Words, codes and side of the grid of the tokenizers that a recipe names.
DALLES = {"emoji64": (2048, 4096, 8), "emoji64-gpu": (2048, 4096, 8), "gpu-110m": (16384, 16384, 16),
          "paper-12b": (16384, 8192, 32)}  # fmt: skip


@pytest.mark.parametrize("name", DALLES)
def test_dalles_fit_their_tokenizers(name: str) -> None:
    """Vocabulary, length, ranges and grids follow from the tokenizers that the recipe names."""
    config = parse(DalleTrainConfig, ["--config", str(ROOT / "recipes" / "dalle" / f"{name}.yaml")])
    words, codes, side = DALLES[name]
    Layout(words, config.text_length, codes, (side, side)).check(config.gpt)


def test_twelve_billion() -> None:
    """The paper's settings make its number of weights, and each of them is accounted for."""
    recipe = ROOT / "recipes" / "dalle" / "paper-12b.yaml"
    config = parse(DalleTrainConfig, ["--config", str(recipe)])
    with torch.device("meta"):
        gpt = GPT(config.gpt)
    width, layers, vocab = 64 * 62, 64, 16384 + 256 + 8192
    matrices = layers * 12 * width**2  # of attention 4, of an MLP four times as wide 8
    assert matrices == 12_092_178_432
    biases_and_norms = layers * (4 + 5 + 2 * 2) * width
    tables = 2 * vocab * width  # embedding and head
    places = (257 + 32 + 32) * width  # start and text, rows, columns
    rest = width + 2 * width  # the start token, the last norm
    total = sum(parameter.numel() for parameter in gpt.parameters())
    assert total == matrices + biases_and_norms + tables + places + rest
    assert round(total / 1e9) == 12
    layered = sum(parameter.numel() for parameter in gpt.blocks.parameters())
    assert f"Expected: {total:,} weights, {layered:,} of them in the layers" in header(recipe)
    kinds = [config.gpt.attention.mask.pattern(layer, layers) for layer in range(layers)]
    assert [kinds.count(kind) for kind in ("row", "column", "convolution")] == [47, 16, 1]
    assert config.objective.weights == {"text": 1 / 8, "image": 7 / 8}
