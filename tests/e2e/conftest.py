"""What whole paths need: toy models, a folder of pictures like photos, and the command in this process."""

from collections.abc import Callable
from dataclasses import dataclass
from importlib import import_module
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image, ImageDraw, ImageFilter

from lvm import LVM, LVMConfig
from lvm.kind import KindClassifier, KindConfig
from vqtok.gpt import GPTConfig
from vqtok.tokenizers import TokenizerConfig, VQTokenizer
from vqtok.tokenizers.autoencoder import AutoencoderConfig
from vqtok.tokenizers.quantizers.vq import VQConfig
from vqtok.training import launch
from workbench import cli

ROOT = Path(__file__).parent.parent.parent
CODES = 32


@dataclass(frozen=True)
class Outcome:
    """How a command ended, and what it said."""

    code: int
    out: str
    err: str


Command = Callable[..., Outcome]


@pytest.fixture
def vqtok(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Command:
    """Run the command `vqtok` without the seconds that a new process takes to import torch.

    Where `vqtok train` would become the trainer's process, the trainer runs here.
    """

    def become(program: str, arguments: list[str]) -> None:
        module = import_module(arguments[2])  # arguments are: python -m MODULE --config ...
        launch(module.train, module.TrainConfig, arguments[3:])

    def run(*arguments: object) -> Outcome:
        capsys.readouterr()
        monkeypatch.setattr("workbench.recipes.os.execv", become)
        try:
            code = cli.main([str(argument) for argument in arguments])
        except SystemExit as stop:
            code = int(stop.code or 0)
        return Outcome(code, *capsys.readouterr())

    return run


@pytest.fixture(scope="session")
def toys(tmp_path_factory: pytest.TempPathFactory, toy_lvm: Callable[[int], LVM]) -> Path:
    """A folder with untrained models: `tokenizer` of 64 px, `lvm` with it inside, and `kind`, a judge."""
    folder = tmp_path_factory.mktemp("toys")
    torch.manual_seed(0)
    model = toy_lvm(64)
    model.tokenizer.save_pretrained(folder / "tokenizer")
    model.save_pretrained(folder / "lvm")
    KindClassifier(KindConfig(channels=(8, 8))).save_pretrained(folder / "kind")
    return folder


@pytest.fixture(scope="session")
def toy_lvm() -> Callable[[int], LVM]:
    """Make an untrained model that sees pictures of that many pixels a side, and takes three pairs."""
    return _toy_lvm


def _toy_lvm(size: int) -> LVM:
    shape = AutoencoderConfig(channels=8, multipliers=(1, 2), blocks=1, latent=8, groups=4, patch=4)
    tokenizer = TokenizerConfig(autoencoder=shape, quantizer=VQConfig(codes=CODES, width=4), size=size)
    tokens = VQTokenizer(tokenizer).tokens
    gpt = GPTConfig(vocab=CODES + 3, length=8 * tokens + 2, width=32, depth=1, heads=2, period=2 * tokens)
    return LVM(LVMConfig(tokenizer=tokenizer, gpt=gpt))


@pytest.fixture(scope="session")
def photos(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """200 pictures somewhat like photos, in two folders, upright and lying, JPEG and PNG."""
    folder = tmp_path_factory.mktemp("photos")
    for index in range(200):
        place = folder / ("home", "away")[index % 2]
        place.mkdir(exist_ok=True)
        photo(index).save(place / f"{index:03d}.{('jpg', 'png')[index % 3 == 0]}")
    return folder


def photo(index: int) -> Image.Image:
    """Sky over ground, a few soft blobs before it, grain over all."""
    rng = np.random.default_rng((index, 7))
    width, height = (96, 72) if index % 4 else (72, 96)
    rows = np.linspace(0, 1, height)[:, None, None]
    picture = Image.fromarray(np.uint8(255 * np.broadcast_to(_mix(rng, rows), (height, width, 3))))
    draw = ImageDraw.Draw(picture)
    horizon = int(height * rng.uniform(0.4, 0.8))
    draw.rectangle((0, horizon, width, height), fill=_color(rng))
    for _ in range(rng.integers(1, 5)):
        left, top, side = rng.integers(0, width), rng.integers(0, height), rng.integers(8, 40)
        draw.ellipse((left - side, top - side // 2, left + side, top + side // 2), fill=_color(rng))
    soft = np.asarray(picture.filter(ImageFilter.GaussianBlur(1.2)), np.float32)
    grain = rng.normal(0, 4, soft.shape)
    return Image.fromarray(np.uint8((soft + grain).clip(0, 255)))


def _mix(rng: np.random.Generator, share: np.ndarray) -> np.ndarray:
    return rng.uniform(0.2, 1, 3) * (1 - share) + rng.uniform(0.2, 1, 3) * share


def _color(rng: np.random.Generator) -> tuple[int, ...]:
    return tuple(rng.integers(0, 256, 3).tolist())
