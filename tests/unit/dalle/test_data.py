"""Rows and their order: words on the way, what is dropped, what is counted, what does not fit."""

import warnings
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from dalle.data import CaptionsConfig, Order, Rows, rows_of, words
from dalle.layout import NONE, Layout
from vqtok.data.shards import Shards
from vqtok.text import TextTokenizer
from vqtok.tokenizers.palette import PaletteTokenizer


@pytest.fixture
def rows(folder: Path, palette: PaletteTokenizer, text: TextTokenizer, layout: Layout) -> Rows:
    """24 pairs in two shards."""
    return rows_of(folder / "shards", palette, "palette", text, layout)


def changed(rows: Rows, captions: dict[int, str]) -> Rows:
    """The same pictures with some other captions."""
    told = [captions.get(number, caption) for number, caption in enumerate(rows.captions)]
    return Rows(rows.shards, told, rows.text, rows.layout)


def test_rows(rows: Rows, folder: Path, names: tuple[str, ...]):
    """Words of the caption of that very picture, paddings, and its codes."""
    assert len(rows) == 24
    shards = Shards(folder / "shards")
    for number in (0, 13, 23):
        row = rows.row(number)
        assert rows.text.decode(row[None, :3]) == [names[number % 4]]
        assert row[3:5].tolist() == [47, 48]
        assert torch.equal(row[5:] - 49, shards[number])


def test_every_row_once_an_epoch(rows: Rows):
    """Without anything dropped, an epoch is all chosen rows in another order; a seed's is always the same."""
    order = Order(rows, range(4, 24), seed=1)
    epochs = [torch.stack([order[epoch * 20 + k] for k in range(20)]) for epoch in range(2)]
    assert not torch.equal(*epochs)
    wanted = sorted(rows.part(range(4, 24)).tolist())
    assert [sorted(epoch.tolist()) for epoch in epochs] == [wanted, wanted]
    assert torch.equal(Order(rows, range(4, 24), seed=1)[7], order[7])


def test_dropped_captions(rows: Rows):
    """Their share is the setting's, other ones in each epoch; such a row is behind the null caption."""
    order = Order(rows, range(24), seed=0, captions_dropped=0.25)
    found = torch.stack([order[k] for k in range(40 * 24)])
    silent = (found[:, :5] == rows.layout.padding).all(1)
    assert silent.float().mean().item() == pytest.approx(0.25, abs=0.05)
    assert not torch.equal(silent[:24], silent[24:48])
    assert torch.equal(found[silent][:, 5:].unique(dim=0), rows.part(range(24))[:, 5:].unique(dim=0))


def test_dropped_merges(rows: Rows, names: tuple[str, ...]):
    """The same caption is cut in several ways, each of which spells it; seed and place say in which."""
    order = Order(rows, [0], seed=0, merges_dropped=0.05)
    found = torch.stack([order[k] for k in range(60)])
    ways = found[:, :5].unique(dim=0)
    assert len(ways) > 1
    for way in ways:
        assert rows.text.decode(way[way < 44][None]) == [names[0]]
    assert torch.equal(found, torch.stack([order[k] for k in range(60)]))


def test_dropping_cuts_nothing(text: TextTokenizer):
    """A caption that only dropped merges make too long is taken with none dropped."""
    rng = np.random.default_rng(0)
    found = words(text, "a dark square", 5, merges_dropped=0.99, rng=rng)
    assert torch.equal(found, text.encode(["a dark square"], length=5).ids[0])
    long = words(text, "a dark square a light thing", 5, merges_dropped=0.99, rng=rng)
    assert torch.equal(long, text.encode(["a dark square a light thing"]).ids[0, :5])


def test_what_is_counted(rows: Rows):
    """Captions that are cut and those with unknown characters, without a warning for each."""
    other = changed(rows, {3: "a dark square a light thing", 7: "a dark Ω", 8: "a light Ω"})
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        found = other.found()
    assert (found.captions, found.cut, found.unknown, found.longest) == (24, 1, 2, 6)
    assert found.facts["captions/cut"] == 1 and found.facts["captions/unknown"] == 2
    assert "24 captions of 3.2 tokens, the longest of 6; 1 are cut, 2 have unknown characters" in str(found)
    assert found.words == int((other.text.encode(other.captions).ids != NONE).sum())


def test_overflow_as_an_error(rows: Rows):
    """It says which caption, and how many places would do."""
    rows.found(overflow="error")
    other = changed(rows, {3: "a dark square a light thing"})
    told = "1 captions are longer than 5 tokens, such as row 3, 'a dark .* thing': raise text_length to 6"
    with pytest.raises(ValueError, match=told):
        other.found(overflow="error")


def test_empty_captions(rows: Rows):
    """Shards hold none; a caption that normalizes to nothing is refused when all are counted."""
    with pytest.raises(ValueError, match="caption 5 is empty"):
        changed(rows, {5: " \u200b"}).found()


def test_another_tokenizer(folder: Path, palette: PaletteTokenizer, text: TextTokenizer, layout: Layout):
    """Its shards, and pictures of another size, are refused."""
    with pytest.raises(ValueError, match="holds pictures of .*4, 4.* codes, the .* size gives .2, 2"):
        rows_of(folder / "shards", palette, "palette", text, replace(layout, shape=(2, 2)))
    with torch.no_grad():
        palette.colors.mul_(0.9)
    with pytest.raises(ValueError, match="was encoded by tokenizer .*, other is .*: encode again"):
        rows_of(folder / "shards", palette, "other", text, layout)


@pytest.mark.parametrize("name", ["merges_dropped", "captions_dropped"])
def test_shares(name: str, tmp_path: Path):
    """All captions, or all merges, cannot be dropped."""
    with pytest.raises(ValueError, match=f"data.{name} is 1.0, a share below 1"):
        CaptionsConfig(shards=tmp_path, tokenizer="a", text="b", **{name: 1.0})
