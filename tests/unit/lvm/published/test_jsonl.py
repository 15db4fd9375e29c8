"""Files of sentences of LVM's own trainer: read line by line, refused by line, written whole."""

import base64
import json
from pathlib import Path

import numpy as np
import pytest

from lvm.data import SentencesConfig
from lvm.forms import SINGLE, Form, annotated, groups, sequence
from lvm.model import LVM
from lvm.published.jsonl import form_of, import_jsonl, read_jsonl, write_jsonl
from lvm.train import TrainConfig, train
from vqtok.data.shards import Shards
from vqtok.tokenizers.fingerprint import fingerprint
from vqtok.tokenizers.tokenizer import VQTokenizer
from vqtok.training.optim import OptimConfig
from vqtok.training.run import RunConfig
from vqtok.training.schedule import LRConfig

IMAGES, TOKENS, CODES = 16, 16, 32  # of a record, and of the tiny tokenizer


@pytest.fixture
def sentences() -> np.ndarray:
    """Five records of eight pairs, all of them different."""
    return np.random.default_rng(0).integers(CODES, size=(5, IMAGES * TOKENS))


@pytest.fixture
def file(sentences: np.ndarray, tmp_path: Path) -> Path:
    """The records as the scripts of LVM write them."""
    path = tmp_path / "depth.jsonl"
    lines = [
        json.dumps({"tokens": base64.b64encode(ids.astype("<i4").tobytes()).decode()}) for ids in sentences
    ]
    path.write_text("\n".join(lines) + "\n")
    return path


def line(value: object) -> str:
    """A record whose tokens are these."""
    return json.dumps({"tokens": value})


def packed(ids: list[int]) -> str:
    """A record of these ids."""
    return line(base64.b64encode(np.array(ids, "<i4").tobytes()).decode())


def imported(file: Path, folder: Path, tokenizer: Path, form: str = "pairs") -> Shards:
    """The shards of a file."""
    import_jsonl(file, folder, str(tokenizer), "depth of field", form_of(form))
    return Shards(folder / "depth-of-field")


def test_a_record_of_eight_pairs_is_eight_rows(
    file: Path, sentences: np.ndarray, tokenizer_folder: Path, tiny_tokenizer, tmp_path: Path
):
    """In their order, with all facts that training asks for."""
    shards = imported(file, tmp_path / "out", tokenizer_folder)
    assert len(shards) == 40 and shards.width == 32
    assert np.array_equal(np.stack([shards[i] for i in range(40)]), sentences.reshape(40, 32))
    facts = shards.facts[0]
    assert facts["form"]["name"] == "pairs" and facts["tokenizer"] == fingerprint(tiny_tokenizer())
    assert (facts["first"], facts["rows"], facts["members"], facts["source"]) == (0, 40, 1, "depth.jsonl")


def test_shards_of_a_thousand_rows(
    file: Path, tokenizer_folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    """A file of any length is written shard by shard, numbered by their first rows."""
    monkeypatch.setattr("lvm.published.jsonl.SHARD", 15)
    shards = imported(file, tmp_path / "out", tokenizer_folder)
    assert [(facts["first"], facts["rows"]) for facts in shards.facts] == [(0, 15), (15, 15), (30, 10)]
    assert [folder.name for folder in shards.folders] == ["00000", "00001", "00002"]


def test_pairs_in_other_groups_are_left_out(sentences: np.ndarray, tokenizer_folder: Path, tmp_path: Path):
    """The scripts write the same pairs several times in other orders: each becomes one row, which is told."""
    mixed = np.random.default_rng(1).permutation(sentences.reshape(40, 32)).reshape(5, -1)
    write_jsonl(tmp_path / "twice.jsonl", [*sentences, *mixed])
    told = import_jsonl(
        tmp_path / "twice.jsonl", tmp_path / "out", str(tokenizer_folder), "depth", form_of("pairs")
    )
    assert told == (
        "pairs of task 'depth': 40 rows of 2 images from 10 sentences, "
        "40 rows left out that were there already"
    )


@pytest.mark.parametrize(
    ("words", "form"),
    [
        ("single", SINGLE),
        ("sequence:16", sequence(16)),
        ("annotated:4", annotated(4)),
        ("groups:4:2", groups(4, 2)),
    ],
)
def test_other_forms(words: str, form: Form, file: Path, tokenizer_folder: Path, tmp_path: Path):
    """Rows hold as many images as the form says."""
    shards = imported(file, tmp_path / "out", tokenizer_folder, words)
    assert len(shards) == 5 * IMAGES // form.images and shards.width == form.images * TOKENS
    assert Form.of(shards.facts[0]["form"]) == form


@pytest.mark.parametrize("words", ["pear", "pairs:2", "sequence", "sequence:x", "groups:4", "modalities:5:3"])
def test_other_words_are_no_form(words: str):
    """The message lists what is."""
    with pytest.raises(ValueError, match=f"form '{words}' is none: give single, pairs, sequence:FRAMES"):
        form_of(words)


@pytest.mark.parametrize(
    ("wrong", "told"),
    [
        ('{"tokens": "AAAA', "is no JSON: is the file cut"),
        (b"\xff\xfe", "is no JSON"),
        ("[1, 2]", "has no text under 'tokens'"),
        ('{"ids": "AAAA"}', "has no text under 'tokens'"),
        (line([1, 2]), "has no text under 'tokens'"),
        (line("AAA"), "is no base64"),
        (line("AA*AAA=="), "is no base64"),
        (line("é" * 4), "is no base64"),
        (line(""), "has 0 bytes"),
        (line("AAAAAAA="), "has 5 bytes, no whole int32"),
        (packed([0] * 31 + [32]), "holds id 32, codes are 0 to 31"),
        (packed([-1] * 32), "holds id -1, codes are 0 to 31"),
        (packed([0] * 33), "has 33 ids, no whole number of images of 16"),
        (packed([0] * 48), r"has 3 images, no whole number of rows of 2 \(pairs\)"),
    ],
)
def test_a_wrong_line_is_named(
    wrong: str | bytes, told: str, file: Path, tokenizer_folder: Path, tmp_path: Path
):
    """By its number, with what is wrong and what to do; of the lines before it nothing is left behind."""
    with file.open("ab") as stream:
        stream.write(b"\n" + (wrong if isinstance(wrong, bytes) else wrong.encode()))
    with pytest.raises(ValueError, match=rf"depth\.jsonl, line 7 {told}"):
        imported(file, tmp_path / "out", tokenizer_folder)
    assert not [*(tmp_path / "out").iterdir()]


def test_an_empty_file_is_refused(tokenizer_folder: Path, tmp_path: Path):
    """Rather than a task without rows."""
    (tmp_path / "none.jsonl").write_text("\n")
    with pytest.raises(ValueError, match="none.jsonl holds no sentence"):
        imported(tmp_path / "none.jsonl", tmp_path / "out", tokenizer_folder)


def test_a_task_that_is_there_is_not_replaced(file: Path, tokenizer_folder: Path, tmp_path: Path):
    """Another name, or another folder, has room."""
    imported(file, tmp_path / "out", tokenizer_folder)
    with pytest.raises(FileExistsError, match="exists already"):
        imported(file, tmp_path / "out", tokenizer_folder)


def test_what_is_written_is_read(sentences: np.ndarray, file: Path, tmp_path: Path):
    """The same bytes as the scripts write, and the same ids back."""
    write_jsonl(tmp_path / "mine.jsonl", sentences)
    assert (tmp_path / "mine.jsonl").read_bytes() == file.read_bytes()
    for number, (found, ids) in enumerate(
        zip(read_jsonl(tmp_path / "mine.jsonl"), sentences, strict=True), 1
    ):
        assert found[0] == number and np.array_equal(found[1], ids)


def test_training_reads_what_was_imported(
    file: Path, tokenizer_folder: Path, model: LVM, tiny_tokenizer: VQTokenizer, tmp_path: Path
):
    """From the file to a model, with rows kept for validation."""
    imported(file, tmp_path / "out", tokenizer_folder)
    data = SentencesConfig(
        shards=tmp_path / "out", tokenizer=str(tokenizer_folder), held_out=6, pairs=3, batch=2
    )
    train(TrainConfig(
        run=RunConfig(folder=tmp_path / "run", trackers=()), data=data, gpt=model.config.gpt,
        optim=OptimConfig(), lr=LRConfig(peak=1e-2, warmup_steps=1, steps=2), eval_steps=2, save_steps=2,
    ))  # fmt: skip
    assert (tmp_path / "run" / "model" / "model.safetensors").is_file()
    assert "validation/task/depth of field" in (tmp_path / "run" / "metrics.jsonl").read_text()
