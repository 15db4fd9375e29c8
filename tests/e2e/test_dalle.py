"""DALL-E from pairs to pictures: trained by its recipe at toy size, then every command that it has."""

import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from dalle import Dalle
from dalle.layout import Layout
from dalle.network import Network
from dalle.train import bundle
from vqtok.data.captions import beside
from vqtok.data.shards import write_shard
from vqtok.gpt.config import GPTConfig, HeadConfig
from vqtok.gpt.model import GPT
from vqtok.gpt.prefix import SOSConfig
from vqtok.text import TextConfig, TextTokenizer
from vqtok.tokenizers import load_tokenizer
from vqtok.tokenizers.encode import rows_of
from vqtok.tokenizers.fingerprint import fingerprint
from vqtok.tokenizers.interface import ImageTokenizer

ROOT = Path(__file__).parent.parent.parent
COLORS = {"red": (220, 30, 30), "green": (30, 200, 30), "blue": (30, 30, 220)}


@pytest.fixture
def pairs(toys: Path, tmp_path: Path) -> dict[str, Path]:
    """Shards of 24 pictures of one color each, their captions beside them, and a text tokenizer."""
    tokenizer = load_tokenizer(toys / "tokenizer")
    captions = [f"a {color} picture" for color in COLORS] * 8
    pixels = np.stack([np.array(color, np.uint8)[:, None, None].repeat(64, 1).repeat(64, 2)
                       for color in COLORS.values()] * 8)  # fmt: skip
    side = tokenizer.config.size // tokenizer.factor
    facts, files = beside(captions)
    facts |= {"tokenizer": fingerprint(tokenizer), "grid": [side, side]}
    ids = rows_of(tokenizer, pixels).numpy()
    write_shard(tmp_path / "pairs" / "0", ids, tokenizer.vocab, facts, beside=files)
    TextTokenizer.fit(captions, TextConfig(vocab=24)).save_pretrained(tmp_path / "text")
    return {"shards": tmp_path / "pairs", "text": tmp_path / "text", "tokenizer": toys / "tokenizer"}


def test_from_pairs_to_pictures(
    pairs: dict[str, Path], vqtok: Callable, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Train, draw by captions, complete by one, measure; each leaves what it promises."""
    monkeypatch.chdir(tmp_path)
    tokens = load_tokenizer(pairs["tokenizer"]).tokens
    columns, places, words, codes = int(tokens**0.5), 12, 24, 32
    ends = (words + places, words + places + codes)
    ranges = [{"start": 1, "low": 0, "high": ends[0]}, {"start": 1 + places, "low": ends[0], "high": ends[1]}]
    outcome = vqtok(
        "train", ROOT / "recipes" / "dalle" / "emoji64.yaml", "--run.folder=run",
        *(f"--data.{name}={place}" for name, place in pairs.items()), "--data.validation=null",
        "--data.held_out=6", "--data.batch=4", f"--text_length={places}", f"--gpt.vocab={ends[1]}",
        f"--gpt.length={places + tokens}", "--gpt.width=32", "--gpt.depth=1", "--gpt.heads=2",
        f"--gpt.positions.columns={columns}", f"--gpt.positions.before={1 + places}",
        f"--gpt.head.ranges={json.dumps(ranges)}", "--lr.steps=30", "--lr.warmup_steps=1",
        "--run.precision=no", "--run.trackers=[]", "--run.log_steps=5",
    )  # fmt: skip
    assert outcome.code == 0, outcome.err
    assert "24 captions of" in outcome.out and "0 are cut, 0 have unknown characters" in outcome.out
    rows = [json.loads(line) for line in Path("run/metrics.jsonl").read_text().splitlines()]
    steps = [row for row in rows if "loss" in row]
    assert steps[-1]["loss/image"] < steps[0]["loss/image"] and steps[-1]["loss/text"] < steps[0]["loss/text"]
    commands = (
        ["sample", "--model", "run/model", "--caption", "a red picture", "--caption", "a blue picture",
         "--count", 3, "--out", "drawn.png"],
        ["complete", "a.png", "--model", "run/model", "--caption", "a red picture", "--rows", 1,
         "--candidates", 2, "--out", "completed.png"],
        ["evaluate", "dalle", "--model", "run/model", "--shards", pairs["shards"], "--out", "measured"],
    )  # fmt: skip
    Image.new("RGB", (64, 64), COLORS["red"]).save("a.png")
    for words_ in commands:
        outcome = vqtok(*words_)
        assert outcome.code == 0, outcome.err
    assert Image.open("drawn.png").width > 3 * 64 and Image.open("completed.png").width > 4 * 64
    report = json.loads(Path("measured/report.json").read_text())
    assert report["image_nats"]["caption"] < report["image_nats"]["uniform"]
    assert "the own caption fits better than another in" in outcome.out


def test_what_the_user_did_wrong(vqtok: Callable, pairs: dict[str, Path], tmp_path: Path) -> None:
    """No caption, an empty one, or shards without captions: one line each that says what to do."""
    text = TextTokenizer.from_pretrained(pairs["text"])
    tokenizer = load_tokenizer(pairs["tokenizer"])
    model = _untrained(text, tokenizer)
    model.save_pretrained(tmp_path / "model")
    outcome = vqtok("sample", "--model", tmp_path / "model", "--out", tmp_path / "a.png")
    assert outcome.code == 2 and "a DALL-E draws what a caption says: give --caption" in outcome.err
    outcome = vqtok("sample", "--model", tmp_path / "model", "--caption", " ", "--out", tmp_path / "a.png")
    assert outcome.code == 2 and "caption 0 is empty" in outcome.err
    (pairs["shards"] / "0" / "captions.jsonl").unlink()
    words = ("--model", tmp_path / "model", "--shards", pairs["shards"], "--out", tmp_path / "out")
    outcome = vqtok("evaluate", "dalle", *words)
    assert outcome.code == 2 and "captions.jsonl is missing: restore it" in outcome.err
    assert not (tmp_path / "a.png").exists() and not (tmp_path / "out").exists()


def _untrained(text: TextTokenizer, tokenizer: ImageTokenizer) -> Dalle:
    """A model of both tokenizers."""
    layout = Layout.of(text.vocab, 12, tokenizer)
    gpt = GPTConfig(vocab=layout.vocab, length=layout.length, width=16, depth=1, heads=2, prefix=SOSConfig(),
                    head=HeadConfig(ranges=layout.ranges))  # fmt: skip
    return bundle(Network(GPT(gpt), layout), tokenizer, text)
