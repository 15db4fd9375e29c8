"""Sentences: of one task and of different pictures, errors on purpose, and what is kept for validation."""

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from lvm.encode import Job, encode
from lvm.layout import Layout
from lvm.sentences import Sentences, SentencesConfig, TaskPairs, pairs_of, sources
from lvm.tasks import TASKS
from vqtok.data.pictures import write_picture
from vqtok.data.shards import Shards, write_shard
from vqtok.tokenizers.tokenizer import VQTokenizer


@pytest.fixture
def data(shards: Path, tokenizer_folder: Path) -> SentencesConfig:
    """Seven pairs a task to train on, three held out; sentences of three pairs."""
    return SentencesConfig(shards=shards, tokenizer=str(tokenizer_folder), held_out=3, pairs=3, batch=4)


def pairs_by_task(shards: Path) -> dict[str, TaskPairs]:
    """All pairs of a folder of shards."""
    return {name: pairs_of(rows) for name, rows in Shards(shards).by("task").items()}


def test_sentences_are_a_function_of_seed_and_index(shards: Path, layout: Layout):
    """Read in any order, from shards opened anew; another seed is another order."""
    first, again, other = (Sentences(pairs_by_task(shards), layout, 3, seed) for seed in (0, 0, 1))
    expected = [first[index][0] for index in range(8)]
    assert all(torch.equal(again[index][0], expected[index]) for index in reversed(range(8)))
    assert not all(torch.equal(other[index][0], expected[index]) for index in range(8))


def test_a_sentence_is_of_one_task(shards: Path, layout: Layout):
    """Its pairs are rows of one task's shards, each at most once."""
    by_task = pairs_by_task(shards)
    rows = {name: {tuple(held[i].tolist()) for i in range(len(held))} for name, held in by_task.items()}
    source = Sentences(by_task, layout, 3, seed=0)
    for index in range(20):
        pairs = [tuple(pair.tolist()) for pair in layout.images(source[index][0]).view(3, 32)]
        assert any(set(pairs) <= held for held in rows.values()) and len(set(pairs)) == 3


def test_what_the_model_sees_has_errors_in_its_answers(shards: Path, layout: Layout):
    """Never in queries, tokens of the same sentence, from none up to the share asked for; the same twice."""
    by_task = pairs_by_task(shards)
    source = Sentences(by_task, layout, 3, seed=0, spoil=0.5)
    shares = []
    for index in range(100):
        ids, seen = (layout.images(ids) for ids in source[index])  # (6, t)
        assert torch.equal(ids[::2], seen[::2])
        assert torch.isin(seen, ids).all()
        shares.append(float((ids != seen)[1::2].float().mean()))
    assert min(shares) < 0.1 and 0.3 < max(shares) < 0.8 and 0.1 < sum(shares) / 100 < 0.25
    assert torch.equal(source[3][1], Sentences(by_task, layout, 3, seed=0, spoil=0.5)[3][1])
    plain = Sentences(by_task, layout, 3, seed=0)
    assert all(torch.equal(*plain[index]) for index in range(20))


def test_tasks_come_by_their_weights(layout: Layout):
    """A task of weight 1.5 comes three times as often as one of 0.5, and a task unknown here counts 1."""
    weights = {task.name: task.weight for task in TASKS}
    names = ["shaded to flat", "noisy to mask", "somebody's own"]
    tasks = {name: TaskPairs.every(torch.full((3, 32), number)) for number, name in enumerate(names)}
    source = Sentences(tasks, layout, 3, seed=0)
    counts = torch.bincount(torch.stack([source[index][0][1] for index in range(1500)]), minlength=3) / 1500
    wanted = torch.tensor([weights[names[0]], weights[names[1]], 1.0])
    # Three standard errors of a share of a half among 1,500.
    torch.testing.assert_close(counts, wanted / wanted.sum(), atol=0.04, rtol=0)


def test_too_few_pairs_are_refused(layout: Layout):
    """With the task, what it has and what a sentence needs."""
    rows = torch.zeros(9, 32, dtype=torch.int64)
    cases = {"2 pairs of 2": TaskPairs.every(rows[:2]), "9 pairs of 2": TaskPairs.every(rows, pictures=2)}
    for told, pairs in cases.items():
        with pytest.raises(ValueError, match=f"'mirror' has {told} pictures to train on, a sentence needs 3"):
            Sentences({"mirror": pairs}, layout, 3, seed=0)


def test_no_sentence_shows_a_picture_twice(layout: Layout):
    """Twelve pairs of four pictures: any two of a sentence are of different ones."""
    rows = torch.arange(12)[:, None].repeat(1, 32)
    source = Sentences({"mirror": TaskPairs.every(rows, pictures=4)}, layout, 3, seed=0)
    shown = torch.stack([layout.images(source[index][0])[::2, 0] % 4 for index in range(50)])
    assert all(len(set(pictures)) == 3 for pictures in shown.tolist())


def test_a_missing_shard_is_refused(tmp_path: Path):
    """TaskPairs would be taken for those of other pictures; the message says which are missing."""
    for first in (0, 4):
        facts = {"task": "mirror", "pictures": 3, "first": first, "pairs": 2}
        write_shard(tmp_path / f"{first:05}", torch.zeros(2, 32, dtype=torch.int64), 32, facts)
    with pytest.raises(ValueError, match="pairs 2 to 3 are missing before .*00004"):
        pairs_of(Shards(tmp_path))


@pytest.mark.parametrize(
    ("setting", "told"), [({"pairs": 0}, "pairs 0"), ({"query_weight": -1.0}, "query_weight -1"),
                          ({"spoil": 1.5}, "spoil 1.5")]
)  # fmt: skip
def test_senseless_settings_are_refused(setting: dict, told: str):
    """With what makes sense."""
    with pytest.raises(ValueError, match=rf"{told}.*(give|leaves)"):
        SentencesConfig(shards=Path("shards"), tokenizer="tokenizer", **setting)


def test_held_out_pairs_are_the_last_and_never_trained_on(
    data: SentencesConfig, tiny_tokenizer: Callable[..., VQTokenizer]
):
    """Of ten pairs seven are trained on; three make validation sentences, each once at every place."""
    train_rows, kept = sources(data, tiny_tokenizer())
    for name, rows in Shards(data.shards).by("task").items():
        assert len(train_rows[name]) == 7 and torch.equal(train_rows[name][6], rows[6])
        orders = [(7, 8, 9), (9, 7, 8), (8, 9, 7)]
        wanted = torch.stack([torch.stack([rows[i] for i in order]).view(6, 16) for order in orders])
        assert torch.equal(kept[name], wanted)


def test_held_out_pictures_are_shown_by_no_other_pair(
    tmp_path: Path, tokenizer_folder: Path, tiny_tokenizer: Callable[..., VQTokenizer]
):
    """Of five pictures in twelve pairs a task, those of the held-out pairs do not come back in training."""
    for number in range(5):
        write_picture(tmp_path / "pictures" / f"{number}.png", torch.full((3, 64, 64), number / 5))
    shards = tmp_path / "shards"
    encode(Job(tokenizer=str(tokenizer_folder), out=shards, data=tmp_path / "pictures", pairs=12))
    config = SentencesConfig(shards=shards, tokenizer=str(tokenizer_folder), held_out=3, pairs=2)
    train_rows, kept = sources(config, tiny_tokenizer())
    rows = Shards(shards).by("task")["invert"]
    assert train_rows["invert"].which.tolist() == [0, 1, 2, 5, 6, 7, 10, 11]  # of the pictures 0, 1 and 2
    wanted = torch.cat([rows[3], rows[4]]).view(1, 4, 16)  # of the three, two make a sentence
    assert torch.equal(kept["invert"][:1], wanted)
    with pytest.raises(ValueError, match="made with pictures '5', this job has '6'"):
        write_picture(tmp_path / "pictures" / "5.png", torch.ones(3, 64, 64))
        encode(Job(tokenizer=str(tokenizer_folder), out=shards, data=tmp_path / "pictures", pairs=12))


def test_shards_of_another_tokenizer_are_refused(
    data: SentencesConfig, tiny_tokenizer: Callable[..., VQTokenizer], tmp_path: Path
):
    """For training and for validation alike, with the folder, both marks and the way out."""
    other = tiny_tokenizer(seed=1)
    told = r"shards was encoded by tokenizer \w{12}, .*: encode again with this one"
    with pytest.raises(ValueError, match=told):
        sources(data, other)
    other.save_pretrained(tmp_path / "other")
    encode(Job(tokenizer=str(tmp_path / "other"), out=tmp_path / "validation", pairs=3, split="validation"))
    with pytest.raises(ValueError, match=r"validation was encoded by tokenizer"):
        sources(replace(data, validation=tmp_path / "validation"), tiny_tokenizer())


def test_no_validation_is_refused(data: SentencesConfig, tiny_tokenizer: Callable[..., VQTokenizer]):
    """Fewer held-out pairs than a sentence has cannot be measured on."""
    told = "2 held-out pairs a task make no sentence of 3: raise data.held_out"
    with pytest.raises(ValueError, match=told):
        sources(replace(data, held_out=2), tiny_tokenizer())
