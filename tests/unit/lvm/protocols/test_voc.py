"""Reading PASCAL VOC: classes, folds, masks and boxes as they are told, and clear words about damage."""

from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from PIL import Image

from lvm.protocols.voc import CLASSES, Voc, fold_classes, read_annotation


def test_folds_part_the_classes():
    """Four folds of five, in the order of their numbers, which masks count from 1."""
    assert [number for fold in range(4) for number in fold_classes(fold)] == [*range(1, 21)]
    first = [CLASSES[number - 1] for number in fold_classes(0)]
    assert first == ["aeroplane", "bicycle", "bird", "boat", "bottle"]
    with pytest.raises(ValueError, match=r"no fold 4: PASCAL-5i has 0 to 3"):
        fold_classes(4)


def test_masks_are_class_numbers_whatever_the_palette(miniature: Path):
    """0 background, 8 cat, 255 border, pixel by pixel."""
    labels = Voc(miniature).labels("2007_000000")
    assert labels.shape == (72, 96) and {*labels.unique().tolist()} == {0, 8, 255}
    assert bool((labels[20:50, 10:40] == 8).all()) and int((labels == 8).sum()) == 900


def test_gray_masks_are_read_too(miniature: Path):
    """As augmented versions of the data set have them."""
    path = miniature / "SegmentationClass" / "2007_000000.png"
    paletted = Voc(miniature).labels("2007_000000")
    Image.fromarray(paletted.numpy()).save(path)
    assert torch.equal(Voc(miniature).labels("2007_000000"), paletted)


def test_boxes_are_edges(miniature: Path, voc_xml: Callable[..., str]):
    """VOC's pixels 1 to 96 are the edges 0 to 96; parts of objects are none."""
    path = miniature / "Annotations" / "2007_000000.xml"
    things = [("cat", (0, 0, 96, 72)), ("bird", (10, 20, 40, 50))]
    path.write_text(voc_xml(things))
    note = Voc(miniature).annotation("2007_000000")
    assert (note.width, note.height) == (96, 72)
    assert [(thing.name, thing.box) for thing in note.things] == things


@pytest.mark.parametrize(
    ("old", "new", "said"),
    [
        ("<annotation>", '<!DOCTYPE a [<!ENTITY b "c">]><annotation>', "declares a document type"),
        ("<annotation>", '<!DOCTYPE a SYSTEM "file:///a"><annotation>', "declares a document type"),
        ("</annotation>", "", "is no XML"),
        ("<name>cat</name>", "<name>unicorn</name>", "names an object 'unicorn'"),
        ("<xmin>11</xmin>", "<xmin>41</xmin>", r"which is no box in a picture of 96 x 72"),
        ("<xmax>40</xmax>", "<xmax>97</xmax>", r"which is no box in a picture of 96 x 72"),
        ("<ymin>21</ymin>", "<ymin>nan</ymin>", "says 'nan' for bndbox/ymin"),
        ("<width>96</width>", "", "says None for size/width"),
        ("<annotation>", "<annotation>" + " " * 1_000_000, "1000000 are the limit"),
    ],
)
def test_bad_annotations_are_refused(
    tmp_path: Path, voc_xml: Callable[..., str], old: str, new: str, said: str
):
    """Each with the file's name and what is wrong; a document type before anything of it is expanded."""
    text = voc_xml([("cat", (10, 20, 40, 50))])
    assert old in text
    path = tmp_path / "a.xml"
    path.write_text(text.replace(old, new, 1))
    with pytest.raises(ValueError, match=f"a.xml .*{said}"):
        read_annotation(path)


def test_what_is_missing_is_named(miniature: Path, tmp_path: Path):
    """A folder, a list, an empty list, a name that leads out of the folder, a mask."""
    voc = Voc(miniature)
    with pytest.raises(ValueError, match="such as VOCdevkit/VOC2012"):
        Voc(tmp_path / "nowhere")
    with pytest.raises(ValueError, match=r"no list .*test\.txt"):
        voc.names("Main/test")
    (miniature / "ImageSets" / "Main" / "test.txt").write_text("\n")
    with pytest.raises(ValueError, match=r"test\.txt lists no pictures"):
        voc.names("Main/test")
    (miniature / "ImageSets" / "Main" / "test.txt").write_text("../../secret\n")
    with pytest.raises(ValueError, match=r"which is no name"):
        voc.names("Main/test")
    (miniature / "SegmentationClass" / "2008_1.png").unlink()
    with pytest.raises(ValueError, match=r"picture 2008_1 is listed but has no .*2008_1\.png"):
        voc.labels("2008_1")


def test_masks_without_classes_are_refused(miniature: Path):
    """Colors in the place of numbers, a number that no class has, a file that is no PNG."""
    voc, path = Voc(miniature), miniature / "SegmentationClass" / "2008_1.png"
    Image.new("RGB", (80, 120)).save(path)
    with pytest.raises(ValueError, match=r"2008_1\.png: it has colors \(mode RGB\)"):
        voc.labels("2008_1")
    Image.new("L", (80, 120), 21).save(path)
    with pytest.raises(ValueError, match=r"a pixel of class 21: masks hold 0 to 20 and 255"):
        voc.labels("2008_1")
    path.write_bytes(b"nothing")
    with pytest.raises(ValueError, match=r"cannot read the mask .*2008_1\.png"):
        voc.labels("2008_1")
