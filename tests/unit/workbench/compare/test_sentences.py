"""Ways to make sentences: who sees what, and a table with a row for each."""

from dataclasses import replace
from pathlib import Path

import pytest
import torch

from lvm.data import SentencesConfig, contexts
from lvm.layout import BareLayout
from lvm.sentences import Rows
from workbench.compare import sentences
from workbench.compare.sentences import (
    COMPARISON,
    SHAPE,
    Comparison,
    Sizes,
    Stream,
    Suite,
    encoded,
    learned,
    read,
    remembered,
)

CPU = torch.device("cpu")
TINY = replace(SHAPE, width=16, depth=1, heads=2)


@pytest.fixture(scope="module")
def suite(tmp_path_factory: pytest.TempPathFactory) -> Suite:
    """The suite, at toy size."""
    return encoded(Sizes(many=16, few=8, times=2, measured=8), tmp_path_factory.mktemp("suite"))


def test_a_stream_is_cut_anywhere_and_loses_nothing():
    """Its contexts, one after the other, are the sentences one after the other; all tokens count."""
    rows = {"a": Rows.every(torch.arange(24 * 8).view(24, 8) % 50)}
    layout = BareLayout(50, 4)
    config = SentencesConfig(shards=Path("none"), tokenizer="none", pairs=2)
    whole = contexts(config, rows, layout, layout.length(4), seed=0)
    stream = Stream(whole, length=7)
    found = torch.cat([stream[index].ids for index in range(16)])
    assert torch.equal(found, torch.cat([whole[index].ids for index in range(7)]))
    assert all(bool((stream[index].weights == 1).all()) for index in range(3))


def test_every_way_learns_from_its_own_contexts(suite: Suite):
    """Shares, ids and weights are those of its settings."""
    for name, way in COMPARISON.ways.items():
        rows = suite.rows[way.augmented]
        layout, source = read(way, suite, rows, SHAPE.length, seed=0)
        sample = source[0]
        assert len(sample.ids) == SHAPE.length, name
        codes = int((sample.ids < layout.codes).sum())
        assert (codes == SHAPE.length) == way.official
        counted = float(sample.weights.sum())
        assert counted == SHAPE.length if way.official else counted <= codes + 1
        assert bool(layout.tasks) == (way.untold < 1)


def test_scarce_tasks_have_few_rows(suite: Suite):
    """Augmented, they have more, of the same pictures."""
    for name in sentences.SCARCE:
        plain, more = suite.rows[False][name], suite.rows[True][name]
        assert len(plain) == 8 and len(more) == 16 and set(more.pictures) == set(plain.pictures)
        assert torch.equal(plain[3], more[3]) and not torch.equal(plain[3], more[11])


def test_learning_follows_from_the_seed(suite: Suite):
    """Twice the same but for the time it took; another seed is another training."""
    way = COMPARISON.ways["base, losses balanced"]
    one, same, other = (learned(way, suite, TINY, 2, seed, CPU)[:-1] for seed in (0, 0, 1))
    assert one == same != other and len(one) == len(suite.kept) + 2


def test_what_was_learned_is_remembered(tmp_path: Path):
    """Work is done once for a key; another key, or no file, does it again."""
    done = []

    def work() -> list[float]:
        done.append(1)
        return [0.5]

    keys = [(1, "a"), (1, "a"), (2, "a")]
    assert [remembered(tmp_path, key, work) for key in keys] == [[0.5]] * 3
    assert len(done) == 2


def test_a_toy(monkeypatch: pytest.MonkeyPatch, suite: Suite, tmp_path: Path):
    """A table with a row for everybody and a column for every group."""
    monkeypatch.setattr(sentences, "encoded", lambda sizes, folder: suite)
    monkeypatch.setattr(sentences, "PLACE", tmp_path)
    ways = dict(list(COMPARISON.ways.items())[:2])
    told = Comparison(ways=ways).run(CPU, steps=1, seeds=[0], toy=True)
    rows = [line.split(" | ") for line in told.splitlines() if line.startswith("| ")]
    assert [row[0] for row in rows[2:]] == [f"| {name}" for name in ways]
    assert len(rows[0]) == 1 + len(suite.kept) + 3
