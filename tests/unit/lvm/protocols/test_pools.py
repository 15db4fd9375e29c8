"""Pools and questions: who may be asked about and shown, by which seed."""

from pathlib import Path

import pytest
import torch
from PIL import Image

from lvm.protocols.pools import Example, Pool, colorization, detection, questions, segmentation
from lvm.protocols.voc import Voc


@pytest.fixture
def pool() -> Pool:
    """Nine pictures of two classes; nothing is read."""
    cats = [Example(f"cat{k}", "cat") for k in range(5)]
    birds = [Example(f"bird{k}", "bird") for k in range(4)]
    return Pool("fold 0", [*cats, *birds], {"cat": cats, "bird": birds}, 0, lambda one: None)


def test_segmentation_has_the_classes_of_each_fold(miniature: Path):
    """A picture of two classes is asked about once for each; what a small mask does not show is left out."""
    first, second = segmentation(Voc(miniature), 64, folds=(0, 1))
    assert first.name == "fold 0" and second.name == "fold 1"
    assert {*first.queries} == {Example(name, "bird") for name in ("2008_1", "2008_2", "2008_3", "both")}
    assert {one.group for one in second.queries} == {"cat"} and len(second.queries) == 6
    assert (first.left_out, second.left_out) == (1, 0)  # the speck
    assert segmentation(Voc(miniature), 480, folds=(0,))[0].left_out == 0  # seen at its own size


def test_segmentation_takes_published_lists(miniature: Path, tmp_path: Path):
    """NAME__CLASS, and nothing else; a class of another fold is a mistake."""
    (tmp_path / "fold1.txt").write_text("2007_000000__08\nboth__08\n\n")
    [pool] = segmentation(Voc(miniature), 64, folds=(1,), lists=tmp_path)
    assert [*pool.queries] == [Example("2007_000000", "cat"), Example("both", "cat")]
    for line in ("both__03", "both", "both__x"):
        (tmp_path / "fold1.txt").write_text(line)
        with pytest.raises(ValueError, match=r"a class from 6 to 10, as in 2007_000033__06"):
            segmentation(Voc(miniature), 64, folds=(1,), lists=tmp_path)
    with pytest.raises(ValueError, match=r"no list .*fold2\.txt"):
        segmentation(Voc(miniature), 64, folds=(2,), lists=tmp_path)


def test_detection_asks_about_single_small_objects(miniature: Path):
    """Of the validation list; shown is what the training list has of the same kind."""
    [pool] = detection(Voc(miniature), 64)
    assert {one.picture for one in pool.queries} == {"2007_000002", "2007_000003", "2008_3"}
    assert {one.picture for ones in pool.supports.values() for one in ones} == {
        "2007_000000",
        "2007_000001",
        "2008_1",
        "2008_2",
    }
    assert pool.left_out == 2  # two objects; one of more than a fifth of the picture


def test_pairs_show_what_is_there(miniature: Path, photos: Path):
    """The mask of a rectangle is its box; both lie where the picture has the object's color."""
    voc = Voc(miniature)
    one = Example("2007_000001", "cat")
    [masks], [boxes] = segmentation(voc, 48, folds=(1,)), detection(voc, 48)
    picture, mask = masks.pair(one)
    assert picture.shape == mask.shape == (3, 48, 48)
    assert torch.equal(mask, boxes.pair(one)[1])
    object_, around = picture[1][mask[1] == 1], picture[1][mask[1] == 0]
    assert float(object_.min()) > 0.5 > float(around.median())
    [colors] = colorization(photos, 48)
    gray, right = colors.pair(colors.queries[3])
    assert gray.shape == right.shape == (3, 48, 48)
    assert not torch.equal(gray, right) and torch.equal(gray[0], gray[2])


def test_annotations_of_another_version_are_refused(miniature: Path):
    """A picture of another size than its mask and its boxes."""
    Image.new("RGB", (90, 72)).save(miniature / "JPEGImages" / "2007_000001.jpg")
    voc, one = Voc(miniature), Example("2007_000001", "cat")
    for pool in (*segmentation(voc, 48, folds=(1,)), *detection(voc, 48)):
        with pytest.raises(ValueError, match=r"000001 has 90 x 72 pixels, its annotation is for 96 x 72"):
            pool.pair(one)


def test_questions_show_other_pictures_of_the_class(pool: Pool):
    """Each once; all are asked about before one comes again, then with other examples."""
    drawn = questions(pool, 90, shots=3, seed=0)
    for query, shown in drawn:
        assert {one.group for one in shown} == {query.group} and len({*shown}) == 3 and query not in shown
    assert {one.query for one in drawn[:9]} == {*pool.queries}
    assert [one.query for one in drawn[9:18]] == [one.query for one in drawn[:9]]
    assert len({one.shown for one in drawn if one.query == drawn[0].query}) > 1


def test_questions_depend_on_the_seed_alone(pool: Pool):
    """More questions follow the same ones, and more shots stand before the same last one."""
    drawn = questions(pool, 20, shots=3, seed=1)
    assert questions(pool, 12, shots=3, seed=1) == drawn[:12]
    assert [one.shown for one in questions(pool, 20, shots=2, seed=1)] == [one.shown[1:] for one in drawn]
    assert questions(pool, 20, shots=3, seed=2) != drawn


def test_the_same_picture_is_never_shown(pool: Pool):
    """As an example before itself, where supports name it too."""
    twins = {"cat": [Example("cat0", "cat"), Example("cat1", "cat")]}
    only = Pool("all", [Example("cat0", "cat")], twins, 0, pool.pair)
    assert questions(only, 1, 1, 0)[0].shown == (Example("cat1", "cat"),)


def test_impossible_questions_are_refused(pool: Pool, tmp_path: Path):
    """Too many examples, nothing to ask about, numbers without sense, a folder without pictures."""
    with pytest.raises(ValueError, match=r"3 other pictures of class bird to show before bird., 4 are"):
        questions(pool, 9, shots=4, seed=0)
    with pytest.raises(ValueError, match="fold 3 has nothing to ask about, 2 left out: add pictures"):
        questions(Pool("fold 3", [], {}, 2, pool.pair), 1, 1, 0)
    for wrong in ({"count": 0}, {"shots": 0}, {"seed": -1}):
        with pytest.raises(ValueError, match="ask at least one, show at least one"):
            questions(pool, **{"count": 1, "shots": 1, "seed": 0} | wrong)
    with pytest.raises(ValueError, match="no folder"):
        colorization(tmp_path / "nowhere", 64)
