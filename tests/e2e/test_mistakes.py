"""A user's mistakes: one line each, with the value, the limit and the way out; nothing half-written."""

import errno
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from lvm import LVM
from vqtok.data.shards import write_shard
from vqtok.tokenizers import load_tokenizer

ROOT = Path(__file__).parent.parent.parent
RECIPE = ROOT / "recipes" / "tokenizer" / "folder64.yaml"
TOY = (
    "--tokenizer.autoencoder.channels=8", "--tokenizer.autoencoder.multipliers=[1,2]", "--data.workers=0",
    "--tokenizer.autoencoder.patch=4", "--tokenizer.autoencoder.groups=4", "--tokenizer.quantizer.codes=32",
    "--lr.steps=2", "--lr.warmup_steps=1", "--save_steps=1", "--run.precision=no", "--run.trackers=[]",
)  # fmt: skip


@pytest.fixture
def place(tmp_path: Path, toys: Path, photos: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A working directory: a picture a.png, a folder of 30 pictures, the toys, a copy of the recipe."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "pictures").mkdir()
    for path in sorted(photos.rglob("*.jpg"))[:30]:
        shutil.copy(path, tmp_path / "pictures")
    Image.open(next(photos.rglob("*.png"))).save(tmp_path / "a.png")
    shutil.copytree(toys, tmp_path / "toys")
    shutil.copy(RECIPE, tmp_path / "recipe.yaml")
    return tmp_path


@pytest.fixture
def refused(vqtok: Callable, place: Path) -> Callable[..., str]:
    """Run a command that must fail; gives its one line. Only a run's config.yaml may be new on the disk."""

    def run(*arguments: object) -> str:
        before = tree(place)
        outcome = vqtok(*arguments)
        assert outcome.code not in (0, 1), outcome
        [line] = filter(None, outcome.err.split("\n"))  # a progress bar leaves an empty one
        assert re.match(r"(vqtok: )?error: ", line)
        assert {path for path in tree(place) - before if path.name != "config.yaml"} == set()
        return line

    return run


def tree(folder: Path) -> set[Path]:
    """All files under a folder, hidden ones too."""
    return {path for path in folder.rglob("*") if path.is_file()}


def train(*flags: str) -> list[str]:
    """Words of a toy-sized training of the copied recipe."""
    return ["train", "recipe.yaml", "--data.folder=pictures", "--run.folder=run", *TOY, *flags]


def encode(data: str = "pictures", tokenizer: str = "toys/tokenizer", *flags: str) -> list[str]:
    """Words of an encoding of a folder."""
    return ["encode", "--data", data, "--tokenizer", tokenizer, "--out", "out", *flags]


def evaluate(data: str = "pictures", model: str = "toys/tokenizer", *flags: str) -> list[str]:
    """Words of an evaluation of a tokenizer on a folder."""
    return ["evaluate", "tokenizer", "--data", data, "--model", model, "--out", "out", *flags]


def prompt(query: str = "a.png", model: str = "toys/lvm") -> list[str]:
    """Words of a prompt with one pair."""
    return ["prompt", "--model", model, "--pair", "a.png", "a.png", "--query", query, "--out", "answer.png"]


def test_misspelt_key(place: Path, refused: Callable) -> None:
    """The recipe's file, the key and the likeliest right one are named; likewise a flag."""
    recipe = place / "recipe.yaml"
    recipe.write_text(recipe.read_text().replace("peak", "paek"))
    assert "recipe.yaml: unknown setting `lr.paek`; did you mean `lr.peak`?" in refused(*train())
    shutil.copy(RECIPE, recipe)
    assert "`--lr.pek`; did you mean `--lr.peak`?" in refused(*train("--lr.pek=1"))


def test_wrong_type(refused: Callable) -> None:
    """The setting, the value and the type it should have are named."""
    told = refused(*train("--lr.steps=many"))
    assert all(word in told for word in ("lr.steps", "many", "int"))


@pytest.mark.parametrize(
    ("command", "missing"),
    [
        (["train", "nowhere.yaml"], "nowhere.yaml"),
        (train("--data.folder=nowhere"), "nowhere"),
        (["encode", "--pairs", "9", "--tokenizer", "nowhere", "--out", "pairs"], "nowhere"),
        (encode("nowhere", "toys/tokenizer", "--pairs", "9"), "nowhere"),
        (encode("nowhere"), "nowhere"),
        (encode("pictures", "nowhere"), "nowhere"),
        (["evaluate", "lvm", "--model", "nowhere"], "nowhere"),
        (["evaluate", "tokenizer", "--model", "nowhere"], "nowhere"),
        (prompt(query="nowhere.png"), "nowhere.png"),
        (prompt(model="nowhere"), "nowhere"),
    ],
    ids=lambda value: value if isinstance(value, str) else " ".join(value[:2]),
)
def test_missing_file(command: list[str], missing: str, refused: Callable) -> None:
    """What is not there is named."""
    assert missing in refused(*command)


def test_corrupt_image(place: Path, refused: Callable) -> None:
    """A damaged picture is named with the reason, given alone or found in a folder with others."""
    whole = (place / "a.png").read_bytes()
    (place / "torn.png").write_bytes(whole[: len(whole) // 2])
    assert "cannot read torn.png: " in refused(*prompt(query="torn.png"))
    for name in ("torn1.png", "torn2.png"):
        shutil.copy(place / "torn.png", place / "pictures" / name)
    for command in (train(), evaluate(), encode(), encode("pictures", "toys/tokenizer", "--pairs", "9")):
        told = refused(*command)
        assert "2 of 32 pictures under pictures cannot be read, 1 are tolerated" in told
        assert "torn1.png" in told


@pytest.mark.parametrize("command", [encode, evaluate])
def test_empty_folder(command: Callable, place: Path, refused: Callable) -> None:
    """A folder without pictures is named, with what lies there instead."""
    (place / "empty").mkdir()
    assert "no PNG, JPEG or WebP pictures under empty (but no other files)" in refused(*command("empty"))
    (place / "empty" / "a.heic").write_text("photo")
    assert "1 .heic" in refused(*command("empty"))


@pytest.mark.parametrize("command", [encode, evaluate])
def test_size_that_does_not_fit(command: Callable, refused: Callable) -> None:
    """Pictures of a size that holds no whole codes are refused with a size that does."""
    told = refused(*command("pictures", "toys/tokenizer", "--size", "60"))
    assert "images of 60x60 pixels do not divide by 8" in told and "for example to 64x64" in told
    assert "a picture 0 pixels wide" in refused(*command("pictures", "toys/tokenizer", "--size", "0"))
    assert "0 images at once" in refused(*command("pictures", "toys/tokenizer", "--batch", "0"))


@pytest.mark.parametrize("command", [encode, evaluate])
def test_weights_that_are_none(command: Callable, place: Path, refused: Callable) -> None:
    """Truncated weights are named, and so is code in a pickle, which does not run."""
    torch.save({"encoder.conv_in.weight": torch.zeros(64, 3, 3, 3)}, place / "torn.pt")
    for name in ("torn.pt", "toys/tokenizer/model.safetensors"):
        (place / name).write_bytes((place / name).read_bytes()[:-200])
    assert "torn.pt is truncated or no checkpoint" in refused(*command("pictures", "torn.pt"))
    assert "model.safetensors is truncated" in refused(*command())
    torch.save({"model": Hostile()}, place / "hostile.pt")
    told = "hostile.pt holds posix.system, which is code and was not run"
    assert told in refused(*command("pictures", "hostile.pt"))
    assert told in refused("import", "hostile.pt", "ours")
    assert not (place / "ran").exists() and not (place / "ours").exists()


class Hostile:
    """Makes a file when it is unpickled."""

    def __reduce__(self) -> tuple:
        return os.system, ("touch ran",)


@pytest.mark.parametrize(
    ("image", "told"),
    [
        (torch.zeros(1, 1, 64, 64), r"\(1, 1, 64, 64\)"),
        (torch.zeros(1, 3, 64, 64, dtype=torch.uint8), r"uint8: read them with"),
        (torch.full((1, 3, 64, 64), float("nan")), "not a number: mend"),
        (torch.full((1, 3, 64, 64), 255.0), "reach from 255 to 255, not within"),
    ],
    ids=["channels", "type", "nan", "range"],
)
def test_images_from_python(image: torch.Tensor, told: str, toys: Path) -> None:
    """What files cannot hold but callers can pass is refused at a tokenizer's door."""
    with pytest.raises(ValueError, match=told):
        load_tokenizer(toys / "tokenizer").encode(image)


def test_truncated_model(place: Path, refused: Callable) -> None:
    """A model whose tensors are cut off is named, and so is a cut config.json."""
    for name in ("model.safetensors", "config.json"):
        path = place / "toys" / "lvm" / name
        whole = path.read_bytes()
        path.write_bytes(whole[:-20])
        assert f"{name} is truncated" in refused(*prompt())
        path.write_bytes(whole)


def test_truncated_checkpoint(place: Path, vqtok: Callable, refused: Callable) -> None:
    """A run whose checkpoints are all cut off says which file, and does not begin anew by itself."""
    assert vqtok(*train()).code == 0
    for path in (place / "run" / "checkpoints").glob("*/model-0.safetensors"):
        path.write_bytes(path.read_bytes()[:-20])
    told = refused(*train("--lr.steps=3"))
    assert "model-0.safetensors" in told
    assert "bytes" in told


def test_id_outside_the_vocabulary(place: Path, toys: Path, refused: Callable) -> None:
    """Shards, tokenizer and transformer each refuse ids that they do not know, with the largest they do."""
    rows = np.arange(16).reshape(2, 8)
    with pytest.raises(ValueError, match=r"id 9 .* outside a vocabulary of 9: "):
        write_shard(place / "shard", rows, vocab=9)
    assert not (place / "shard").exists()
    tokenizer = load_tokenizer(toys / "tokenizer")
    with pytest.raises(ValueError, match=r"32 .*codes 0 to 31: "):
        tokenizer.decode(torch.full((1, 8, 8), 32))
    model = LVM.from_pretrained(toys / "lvm")
    with pytest.raises(ValueError, match=r"id 35 is outside \[0, 35\): "):
        model.gpt(torch.tensor([[0, 35]]))


def test_vocabulary_of_another_tokenizer(place: Path, vqtok: Callable, refused: Callable) -> None:
    """A transformer with a vocabulary that is not its tokenizer's is refused before it trains."""
    assert vqtok(*encode("pictures", "toys/tokenizer", "--pairs", "8")).code == 0
    told = refused(
        "train", ROOT / "recipes" / "lvm" / "folder64.yaml", "--run.folder=run", "--run.trackers=[]",
        "--data.shards=out", "--data.tokenizer=toys/tokenizer", "--data.held_out=4", "--lr.steps=2",
        "--lr.warmup_steps=1", "--data.batch=1", "--gpt.vocab=99", "--gpt.width=32", "--gpt.heads=2",
    )  # fmt: skip
    assert "99" in told
    assert "35" in told


def test_image_of_another_size(place: Path, toys: Path, refused: Callable, toy_lvm: Callable) -> None:
    """A prompt takes any size, but one a pair; a tokenizer tells what it takes, and so does an exam."""
    model = LVM.from_pretrained(toys / "lvm")
    small = torch.zeros(3, 32, 32)
    assert model.prompt([(small, small)], small).shape == (1, 3, 64, 64)
    with pytest.raises(ValueError, match="pictures of pair 1 have 32x32 and 32x16 pixels"):
        model.prompt([(small, small[:, :, :16])], small)
    with pytest.raises(ValueError, match=r"60x60 pixels do not divide by 8.*resize"):
        model.tokenizer.encode(torch.zeros(1, 3, 60, 60))
    toy_lvm(32).save_pretrained(place / "small")
    told = refused("evaluate", "lvm", "--model", "small", "--judge", "toys/kind", "--names", "2")
    assert "64 pixels a side, this model sees 32" in told


def test_disk_full_at_the_answer(place: Path, refused: Callable, monkeypatch: pytest.MonkeyPatch) -> None:
    """An answer that cannot be written leaves no file, and an older answer as it was."""

    def full(path: Path) -> None:
        raise OSError(errno.ENOSPC, "No space left on device", str(path))

    monkeypatch.setattr("vqtok.storage.folders.flush", full)
    assert "No space left on device" in refused(*prompt())
    (place / "answer.png").write_bytes(b"older")
    refused(*prompt())
    assert (place / "answer.png").read_bytes() == b"older"


def test_disk_full_while_saving(place: Path) -> None:
    """On a disk that really is full, a run tells so in one line, and what it saved before stays whole."""
    mount = "mount -t tmpfs -o size=3m none run"
    (place / "run").mkdir()
    if (
        not shutil.which("unshare")
        or subprocess.run(["unshare", "-rm", "sh", "-c", mount], cwd=place).returncode
    ):
        pytest.skip("this machine lets nobody mount a small disk")
    words = [
        sys.executable,
        "-m",
        "workbench.cli",
        *train("--run.folder=run/run", "--lr.steps=30", "--run.keep=30"),
    ]
    after = "code=$?; find run -name '.*vqtok-part*' >&2; ls run/run/checkpoints; exit $code"
    script = f'{mount} && "$@"; {after}'
    ran = subprocess.run(
        ["unshare", "-rm", "sh", "-c", script, "sh", *words], cwd=place, capture_output=True, text=True
    )
    assert ran.returncode == 2, ran.stderr
    assert re.fullmatch(r"error: .*No space left on device.*older ones are untouched.*\n", ran.stderr), (
        ran.stderr
    )
    assert "step-00000001" in ran.stdout
