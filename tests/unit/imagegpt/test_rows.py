"""Rows of shards with classes: read by number, in an order of their own, refused when they do not belong."""

from pathlib import Path

import pytest
import torch

from imagegpt.layout import Layout
from imagegpt.rows import NONE, Order, Rows, classes_of, open_shards
from vqtok.data.pictures import read_picture
from vqtok.data.shards import Shards, write_shard
from vqtok.tokenizers.encode import Job, encode
from vqtok.tokenizers.palette import PaletteTokenizer


def shard(folder: Path, classes: list[str] | None) -> Shards:
    """Pictures of one id each, of these classes."""
    facts = {} if classes is None else {"labels": classes}
    write_shard(folder, [[number % 3] for number in range(len(classes or [0]))], 3, facts)
    return Shards(folder.parent)


def test_pictures_and_classes(shards: Path, palette: PaletteTokenizer):
    """Ids are those of the picture, its class that of the folder it lay in; classes stand in order."""
    opened = open_shards(shards, palette, "palette", Layout.of(palette))
    names = classes_of(opened)
    rows = Rows(opened, names)
    assert names == ("dark", "light") and len(rows) == 24
    for number in (0, 11, 12, 23):
        ids, label = rows[number]
        name = opened.facts[0]["names"][number]
        image = read_picture(shards.parent / "pictures" / name)
        assert torch.equal(ids, palette.encode(image[None]).flatten())
        assert names[label] == name.split("/")[0]
    ids, labels = rows.part([3, 20])
    assert torch.equal(ids[1], rows[20][0]) and labels.tolist() == [0, 1]
    assert set(Rows(opened).labels.tolist()) == {NONE}
    assert [len(rows.evenly(count)[0]) for count in (None, 5, 99)] == [24, 5, 24]


def test_order_of_classes(tmp_path: Path):
    """Numbers are sorted as numbers, words as words; no classes are none."""
    assert classes_of(shard(tmp_path / "a/0", ["10", "9", "10", "1"])) == ("1", "9", "10")
    assert classes_of(shard(tmp_path / "b/0", ["10", "cat", "9"])) == ("10", "9", "cat")
    assert classes_of(shard(tmp_path / "c/0", None)) == ()


def test_unknown_classes(tmp_path: Path):
    """A class that a model does not know, and no classes where it needs them, are refused by name."""
    opened = shard(tmp_path / "a/0", ["cat", "dog"])
    with pytest.raises(ValueError, match="0 has class 'dog', which is none of cat, cow: give pictures of"):
        Rows(opened, ("cat", "cow"))
    with pytest.raises(ValueError, match="0 does not tell the classes of its pictures: encode a gallery"):
        Rows(shard(tmp_path / "c/0", None), ("cat",))


def test_an_order_is_a_function_of_seed_and_index(shards: Path):
    """Each chosen picture once an epoch; another seed is another order."""
    rows = Rows(Shards(shards), ("dark", "light"))
    chosen = [1, 5, 7, 20]
    order, again, other = (Order(rows, chosen, seed) for seed in (0, 0, 1))
    first = [order[index] for index in range(40)]
    assert all(torch.equal(again[index][0], first[index][0]) for index in reversed(range(40)))
    assert not all(torch.equal(other[index][0], first[index][0]) for index in range(40))
    epoch = sorted(tuple(ids.tolist()) for ids, _ in first[:4])
    assert epoch == sorted(tuple(rows[number][0].tolist()) for number in chosen)


def test_mirrored(shards: Path, palette: PaletteTokenizer):
    """Half of the pictures are mirrored left to right, others are as they are."""
    layout = Layout.of(palette)
    rows = Rows(Shards(shards))
    plain, mirrored = Order(rows, range(24), 0), Order(rows, range(24), 0, mirror=layout)
    turned = 0
    for index in range(200):
        one, other = layout.grid(plain[index][0][None]), layout.grid(mirrored[index][0][None])
        assert torch.equal(one, other) or torch.equal(one.flip(2), other)
        turned += not torch.equal(one, other)
    assert 60 < turned < 130  # of 200, but for pictures that are their own mirror image


def test_shards_that_do_not_belong(
    shards: Path, palette: PaletteTokenizer, palette_folder: Path, tmp_path: Path
):
    """Those of another palette, or of pictures of another size, are refused."""
    other = PaletteTokenizer.of(palette.colors.flip(0) * 0.5, 4)
    with pytest.raises(ValueError, match=r"was encoded by tokenizer \w{12}, mine is \w{12}: encode again"):
        open_shards(shards, other, "mine", Layout.of(other))
    pictures = shards.parent / "pictures"
    encode(Job(tokenizer=str(palette_folder), data=pictures, out=tmp_path, size=5, decoders=0))
    with pytest.raises(ValueError, match=r"holds pictures of \[5, 5\] codes, .* gives \[4, 4\]: encode"):
        open_shards(tmp_path, palette, "palette", Layout.of(palette))
