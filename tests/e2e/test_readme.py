"""The commands and the Python of the documents run as they stand, but for sizes."""

import os
import re
import shlex
import shutil
import subprocess
import sys
import tarfile
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from PIL import Image, ImageOps

from lvm.protocols.voc import CLASSES
from lvm.published import write_jsonl
from vqtok.data.emoji import load_emoji

ROOT = Path(__file__).parent.parent.parent
README = ROOT / "README.md"
DOCUMENTS = [README, *sorted((ROOT / "docs" / "guides").glob("*.md"))]

NOT_RUN = {
    "make": "installs; test_demo.py runs what it starts",
    "source": "of the reader's shell",
    "accelerate": "eight GPUs; test_recipes.py reads the recipe with the same trainer",
    "pip": "installs",
}
CODES = 32  # of the tokenizer that the commands train
NETWORK = (
    "--tokenizer.autoencoder.channels 8 --tokenizer.autoencoder.multipliers [1,2] "
    f"--tokenizer.autoencoder.patch 4 --tokenizer.autoencoder.groups 4 --tokenizer.quantizer.codes {CODES}"
)
SHORT = "--lr.warmup_steps 1 --run.precision no --run.trackers []"
TOY = {  # beginning of a command -> flags behind it that make it toy-sized; the first that fits
    "vqtok train recipes/tokenizer/palette-": "--data emoji:validation:12 --palette.codes 8 --palette.size 8",
    "vqtok train recipes/imagegpt/": "--lr.steps 3 --data.batch 2 --data.held_out 4 --gpt.vocab 8 "
    f"--gpt.length 64 --gpt.width 16 --gpt.depth 1 --gpt.heads 2 --gpt.positions.columns 8 {SHORT}",
    "vqtok train recipes/diffusion/": "--lr.steps 3 --data.batch 2 --data.held_out 4 --network.channels 8 "
    "--network.multipliers [1,1] --network.groups 4 --network.attention_levels [] --bound_times 2 "
    f"--data.gallery emoji:train:12 {SHORT}",
    "vqtok train recipes/text/": "--data emoji:train:200 --text.vocab 120",
    "vqtok train recipes/clip/": "--lr.steps 3 --data.batch 4 --data.held_out 4 --towers.image test_resnet "
    f"--towers.width 16 --towers.text.width 16 --towers.text.depth 1 --towers.text.heads 2 {SHORT}",
    "vqtok sample --model runs/diffusion-": "--count 2 --steps 2",
    "vqtok complete a.png b.png --model runs/diffusion-": "--steps 3",
    "vqtok evaluate diffusion": "--data emoji:validation:6 --times 2 --samples 4 --steps 2",
    "vqtok encode --data emoji:train:24000": "--data emoji:train:12",
    "vqtok encode --captions emoji:train:40000": "--captions emoji:train:12",
    "vqtok encode --captions emoji:new_pairs:1000": "--captions emoji:new_pairs:6",
    "vqtok complete": "--rows 4",
    "vqtok train recipes/tokenizer/": "--lr.steps 6 --restart_steps 4 --data.workers 0 --data.batch 4 "
    f"{NETWORK} {SHORT}",
    "vqtok encode --pairs 4000 --tokenizer lvm/weights/": "--pairs 12 --tokenizer {toys}/lvm",
    "vqtok encode --pairs 5000 --tokenizer lvm/weights/": "--pairs 12 --tokenizer {toys}/lvm",
    "vqtok encode --pairs 64 --tokenizer lvm/weights/": "--pairs 12 --tokenizer {toys}/lvm",
    "vqtok encode --pairs": "--pairs 12",
    "vqtok train recipes/lvm/lora64.yaml": "--lr.steps 3 --data.batch 2 --data.held_out 4 "
    f"--model {{toys}}/lvm {SHORT}",
    "vqtok train recipes/lvm/distill64.yaml": "--lr.steps 3 --data.batch 2 --data.held_out 4 "
    f"--teacher {{toys}}/lvm --gpt.vocab {CODES + 3} --gpt.width 32 --gpt.depth 1 --gpt.heads 2 {SHORT}",
    "vqtok train recipes/lvm/": f"--lr.steps 3 --data.batch 2 --data.held_out 4 --gpt.vocab {CODES + 3} "
    f"--gpt.width 32 --gpt.depth 1 --gpt.heads 2 {SHORT}",
    "vqtok evaluate tokenizer --model": "",
    "vqtok evaluate tokenizer": "--split validation",
    "vqtok evaluate lvm": "--names 2 --judge {toys}/kind",
    "vqtok evaluate protocols": "--count 2",
}


def blocks(document: Path, language: str) -> list[str]:
    """Contents of a document's fenced blocks of one language."""
    return re.findall(
        rf"^```{language}\n(.*?)^```", document.read_text(encoding="utf-8"), re.MULTILINE | re.DOTALL
    )


def commands(document: Path) -> list[str]:
    """Lines of a document's shell blocks that a test can run."""
    lines = [line for block in blocks(document, "bash") for line in block.splitlines() if line.strip()]
    return [line for line in lines if line.split()[0] not in NOT_RUN]


def toy_sized(line: str, toys: Path) -> list[str]:
    """A command's words behind `vqtok`, and those that make it small."""
    more = next((flags for start, flags in TOY.items() if line.startswith(start)), "")
    return shlex.split(f"{line} {more.format(toys=toys)}")[1:]


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory, photos: Path, voc_example: Callable) -> Path:
    """A folder with what the documents speak of: recipes/, my/pictures, a.png, VOCdevkit and so on."""
    folder = tmp_path_factory.mktemp("checkout")
    (folder / "recipes").symlink_to(ROOT / "recipes")
    (folder / "my").mkdir()
    for name in ("pictures", "other_pictures"):
        (folder / "my" / name).symlink_to(photos)
    captions = [f"{emoji.name}, {style} style" for emoji in load_emoji("train") for style in ("flat", "line")]
    (folder / "my" / "captions.txt").write_text("\n".join(captions))
    for name, path in zip("abc", sorted(photos.rglob("*.png")), strict=False):
        picture = Image.open(path)
        picture.save(folder / f"{name}.png")
        ImageOps.invert(picture).save(folder / f"{name}-inverted.png")
    (folder / "my" / "captioned").mkdir()
    for number, path in enumerate(sorted(photos.rglob("*.png"))[:4]):
        shutil.copy(path, folder / "my" / "captioned" / f"{number}.png")
        (folder / "my" / "captioned" / f"{number}.txt").write_text(f"photo number {number}")
    with tarfile.open(folder / "my" / "captioned-000.tar", "w") as archive:
        archive.add(folder / "my" / "captioned", ".")
    ids = np.random.default_rng(0).integers(CODES, size=(5, 16 * 64))
    write_jsonl(folder / "depth.jsonl", ids)  # five sentences of eight pairs
    voc = folder / "VOCdevkit" / "VOC2012"
    names = {f"{kind}_{k}": kind for kind in CLASSES for k in range(4)}
    for k, (name, kind) in enumerate(names.items()):
        voc_example(voc, name, [(kind, (k % 50, 20, k % 50 + 30, 50))])
    for listed in ("Segmentation/val", "Main/train", "Main/val"):
        path = voc / "ImageSets" / f"{listed}.txt"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text("\n".join(names))
    return folder


@pytest.fixture(scope="module")
def trained(place: Path, toys: Path) -> Path:
    """That folder after the README's four commands for own pictures, each a process of its own."""
    four = next(block for block in blocks(README, "bash") if "folder64" in block).splitlines()
    assert len(four) == 4
    for line in four:
        words = [sys.executable, "-m", "workbench.cli", *toy_sized(line, toys)]
        ran = subprocess.run(words, cwd=place, env=os.environ, capture_output=True, text=True)
        assert ran.returncode == 0, f"{line}\n{ran.stdout}{ran.stderr}"
    return place


@pytest.fixture
def here(trained: Path, toys: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """That folder as the working directory, and toys in the place of the shipped weights."""
    monkeypatch.chdir(trained)
    monkeypatch.setattr("lvm.DEFAULT_WEIGHTS", toys / "lvm")
    monkeypatch.setattr("lvm.evaluate.DEFAULT_WEIGHTS", toys / "lvm")
    monkeypatch.setattr("lvm.protocols.evaluate.DEFAULT_WEIGHTS", toys / "lvm")
    monkeypatch.setattr("vqtok.tokenizers.evaluate.DEFAULT_WEIGHTS", toys / "tokenizer")
    return trained


def test_own_pictures_in_four_commands(trained: Path) -> None:
    """The README's four commands lead from 200 pictures to an answer."""
    for made in ("tokenizer-folder64/model", "pairs-folder64", "lvm-folder64/model"):
        assert (trained / "runs" / made).is_dir()
    assert (trained / "answer.png").stat().st_size > 1000


@pytest.mark.parametrize("document", DOCUMENTS, ids=lambda path: path.name)
def test_commands(document: Path, here: Path, toys: Path, vqtok: Callable) -> None:
    """Every command of a document ends well; what it trains a second time, it resumes."""
    for line in commands(document):
        assert line.split()[0] == "vqtok", f"{line}: say in NOT_RUN why it is not run"
        outcome = vqtok(*toy_sized(line, toys))
        assert outcome.code == 0, f"{line}\n{outcome.err}"


@pytest.mark.parametrize("document", DOCUMENTS, ids=lambda path: path.name)
def test_python(document: Path, here: Path) -> None:
    """Every block of Python runs."""
    for block in blocks(document, "python"):
        exec(compile(block, document.name, "exec"), {})  # our own documents


WRITTEN = [path for path in ROOT.rglob("*.md") if not {".venv", "runs", "demo"} & {*path.parts}]


@pytest.mark.parametrize("document", WRITTEN, ids=lambda path: str(path.relative_to(ROOT)))
def test_links(document: Path) -> None:
    """What a document links to in the checkout is there."""
    targets = re.findall(r"\]\((?!https?:)([^)#]+)\)", document.read_text(encoding="utf-8"))
    assert [target for target in targets if not (document.parent / target).exists()] == []
