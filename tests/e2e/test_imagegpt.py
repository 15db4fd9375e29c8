"""ImageGPT from pictures to drawings, by the commands: palette, ids, training, all that a model is asked."""

import json
import struct
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from imagegpt import ImageGPT
from vqtok.tokenizers import load_tokenizer

ROOT = Path(__file__).parent.parent.parent
TOY = ("--lr.steps=4", "--lr.warmup_steps=1", "--run.precision=no", "--run.trackers=[]", "--data.batch=4",
       "--data.held_out=4", "--eval_steps=4", "--data.workers=0")  # fmt: skip
GPT = ("--gpt.vocab=9", "--gpt.length=64", "--gpt.width=16", "--gpt.depth=1", "--gpt.heads=2")


@pytest.fixture
def fashion(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A data set like Fashion-MNIST, of 24 pictures of 8x8 pixels in three classes; the folder is entered."""
    monkeypatch.chdir(tmp_path)
    rng = np.random.default_rng(0)
    for name, count in (("train", 24), ("t10k", 12)):
        kinds = np.arange(count, dtype=np.uint8) % 3
        pixels = (kinds[:, None, None] * 100 + rng.integers(0, 40, (count, 8, 8))).astype(np.uint8)
        header = struct.pack(">4B3I", 0, 0, 8, 3, count, 8, 8)
        (tmp_path / f"{name}-images-idx3-ubyte").write_bytes(header + pixels.tobytes())
        header = struct.pack(">4BI", 0, 0, 8, 1, count)
        (tmp_path / f"{name}-labels-idx1-ubyte").write_bytes(header + kinds.tobytes())
    return tmp_path


def test_from_pictures_to_drawings(fashion: Path, vqtok: Callable):
    """Each command says where its result lies, and the next one takes it."""

    def run(*words: object) -> str:
        outcome = vqtok(*words)
        assert outcome.code == 0, outcome.err
        return outcome.out

    recipes = ROOT / "recipes"
    palette = recipes / "tokenizer" / "palette-fashion28.yaml"
    run("train", palette, "--data=train-images-idx3-ubyte", "--palette.codes=9", "--palette.size=8",
        "--folder=palette")  # fmt: skip
    assert load_tokenizer("palette/model").vocab == 9
    for name in ("train", "t10k"):
        data = ("--data", f"{name}-images-idx3-ubyte", "--out", f"ids/{name}")
        run("encode", "--tokenizer", "palette/model", *data)
    for number in range(2):
        picture = Image.new("L", (8, 8), 99 + number)
        Path("pictures").mkdir(exist_ok=True)
        picture.save(f"pictures/{number}.png")
    images = ("--data", "pictures", "--size", 16, "--out", "fidelity")
    told = run("evaluate", "tokenizer", "--model", "palette/model", *images)
    assert "256 tokens = 812 bits an image" in told  # of 9 colors each
    data = ("--data.shards=ids/train", "--data.tokenizer=palette/model", *TOY)
    grid = ("--gpt.positions.columns=8",)
    for name, more in (("fashion28", GPT + grid), ("fashion28-bert", GPT + grid),
                       ("fashion28-classes", ("--start=fashion28/model",))):  # fmt: skip
        run("train", recipes / "imagegpt" / f"{name}.yaml", f"--run.folder={name}", *data, *more)
    run("sample", "--model", "fashion28/model", "--count", 3, "--top-k", 4, "--out", "samples.png")
    assert Image.open("samples.png").width > 100
    run("complete", "pictures/0.png", "--model", "fashion28/model", "--rows", 3)
    hole = ("--hole", 2, 2, 6, 6, "--out", "filled.png")
    run("complete", "pictures/1.png", "--model", "fashion28-bert/model", *hole)
    shards = ("--shards", "ids/t10k", "--data", "t10k-images-idx3-ubyte")
    told = run("evaluate", "imagegpt", "--model", "fashion28-classes/model", *shards)
    assert "bits a pixel" in told and "of the classes are right" in told
    probe = ("--train", "ids/train", "--test", "ids/t10k", "--out", "probe")
    assert "of the test are right" in run("probe", "--model", "fashion28/model", *probe)
    assert json.loads(Path("probe/report.json").read_text())["classes"] == 3
    assert ImageGPT.from_pretrained("fashion28-classes/model").config.classes == ("0", "1", "2")


def test_over_codes(fashion: Path, vqtok: Callable):
    """The same family draws codes of classes: another tokenizer in the recipe."""
    shape = ("--tokenizer.autoencoder.channels=8", "--tokenizer.autoencoder.groups=4",
             "--tokenizer.quantizer.codes=9")  # fmt: skip
    tokenizer = ROOT / "recipes" / "tokenizer" / "fashion32.yaml"
    short = [word for word in TOY if not word.startswith("--lr.warmup")]
    words = ("--data.idx=train-images-idx3-ubyte", "--run.folder=vq", "--codebook_steps=2", *shape, *short)
    outcome = vqtok("train", tokenizer, *words, "--lr.warmup_steps=0")
    assert outcome.code == 0, outcome.err
    outcome = vqtok("encode", "--data", "train-images-idx3-ubyte", "--tokenizer", "vq/model", "--out", "ids")
    assert outcome.code == 0, outcome.err
    recipe = ROOT / "recipes" / "imagegpt" / "fashion32-codes.yaml"
    gpt = ("--gpt.vocab=9", "--gpt.width=16", "--gpt.depth=1", "--gpt.heads=2", "--gpt.prefix.classes=3")
    data = ("--data.shards=ids", "--data.tokenizer=vq/model", "--run.folder=codes")
    outcome = vqtok("train", recipe, *data, *gpt, *TOY)
    assert outcome.code == 0, outcome.err
    outcome = vqtok("sample", "--model", "codes/model", "--count", 2, "--class", 1, "--guidance", 2)
    assert outcome.code == 0 and Path("samples.png").is_file(), outcome.err
