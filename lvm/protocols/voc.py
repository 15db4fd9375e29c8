"""A folder in the layout of PASCAL VOC, as it is unpacked:

    JPEGImages/NAME.jpg            pictures
    SegmentationClass/NAME.png     the class of every pixel: 0 is background, 255 a border that counts as none
    Annotations/NAME.xml           boxes
    ImageSets/Segmentation/*.txt   lists of names, one a line
    ImageSets/Main/*.txt           the same, of pictures with boxes

Everingham et al. 2010, "The PASCAL visual object classes (VOC) challenge". Everything is checked as it is
read, and of XML nothing that it could declare is followed.

Letters: h w size of a picture, s side of a square one, in pixels.
"""

import math
import re
from dataclasses import dataclass
from pathlib import Path
from xml.etree import ElementTree
from xml.parsers import expat

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from vqtok.data.pictures import PIXEL_LIMIT, read_pixels

CLASSES = (
    "aeroplane", "bicycle", "bird", "boat", "bottle", "bus", "car", "cat", "chair", "cow", "diningtable",
    "dog", "horse", "motorbike", "person", "pottedplant", "sheep", "sofa", "train", "tvmonitor",
)  # fmt: skip
BORDER = 255
FOLDS = 4
FOLD_CLASSES = len(CLASSES) // FOLDS
XML_LIMIT = 1_000_000  # bytes; annotations have some thousand
NAME = re.compile(r"\w[\w.-]*")  # of a picture: a list must not lead out of the folder
EDGES = ("xmin", "ymin", "xmax", "ymax")

Box = tuple[float, float, float, float]


def fold_classes(fold: int) -> range:
    """Numbers of the classes of one of the four folds of PASCAL-5i, as masks count them: from 1.

    Raises:
        ValueError: if there is no such fold.

    Source: Shaban et al. 2017, "One-shot learning for semantic segmentation"; numbered from 0, as in
    Bar et al.'s program.
    """
    if fold not in range(FOLDS):
        raise ValueError(f"no fold {fold}: PASCAL-5i has 0 to {FOLDS - 1}, of {FOLD_CLASSES} classes each")
    return range(fold * FOLD_CLASSES + 1, (fold + 1) * FOLD_CLASSES + 1)


@dataclass(frozen=True)
class Thing:
    """An object in a picture.

    Args:
        name: Its class.
        box: Left, top, right and bottom edge in pixels from the picture's upper left corner.
    """

    name: str
    box: Box


@dataclass(frozen=True)
class Annotation:
    """The objects in a picture of `width` x `height` pixels."""

    width: int
    height: int
    things: tuple[Thing, ...]


class Voc:
    """Pictures, masks and boxes of a folder, by name.

    Args:
        folder: It holds JPEGImages.

    Raises:
        ValueError: if there is no such folder.
    """

    def __init__(self, folder: str | Path) -> None:
        self.folder = Path(folder)
        if not (self.folder / "JPEGImages").is_dir():
            raise ValueError(
                f"no folder {self.folder / 'JPEGImages'}: give a folder in the layout of PASCAL VOC, such as "
                "VOCdevkit/VOC2012"
            )

    def names(self, listed: str) -> list[str]:
        """Names of pictures in the list `listed`, such as "Segmentation/val".

        Raises:
            ValueError: if there is no such list, it is empty, or a line is no name.
        """
        return [line.split()[0] for line in read_lines(self.folder / "ImageSets" / f"{listed}.txt")]

    def path(self, name: str) -> Path:
        """File of a picture.

        Raises:
            ValueError: if there is none of that name.
        """
        return self._file("JPEGImages", name, ".jpg")

    def pixels(self, name: str) -> Tensor:
        """A picture as (3, h, w) uint8, of its own size.

        Raises:
            ValueError: if there is none of that name, or it cannot be read.
        """
        return read_pixels(self.path(name))

    def labels(self, name: str) -> Tensor:
        """Classes of a picture's pixels, (h, w) uint8: 0 is background, 1 to 20 classes, 255 the border.

        Raises:
            ValueError: if the picture has no mask, or it holds other values, or colors instead of classes.
        """
        path = self._file("SegmentationClass", name, ".png")
        labels = _indices(path)
        wrong = labels[(labels > len(CLASSES)) & (labels != BORDER)]
        if len(wrong):
            raise ValueError(
                f"{path} has a pixel of class {int(wrong[0])}: masks hold 0 to {len(CLASSES)} and {BORDER}, "
                "take the original file"
            )
        return labels

    def annotation(self, name: str) -> Annotation:
        """The objects in a picture.

        Raises:
            ValueError: if it has no annotation, or one that says nothing sensible.
        """
        return read_annotation(self._file("Annotations", name, ".xml"))

    def _file(self, kind: str, name: str, suffix: str) -> Path:
        path = self.folder / kind / f"{name}{suffix}"
        if not path.is_file():
            raise ValueError(f"picture {name} is listed but has no {path}: complete the folder, or the list")
        return path


def read_lines(path: Path) -> list[str]:
    """Lines of a list of pictures, each of which begins with a name; empty lines do not count.

    Raises:
        ValueError: if there is no such file, it is empty, or a line does not begin with a name.
    """
    if not path.is_file():
        raise ValueError(f"no list {path}: it names the pictures to ask about, one a line")
    lines = [line for line in path.read_text(encoding="utf-8").splitlines() if line.strip()]
    if not lines:
        raise ValueError(f"{path} lists no pictures: give their names, one a line")
    for line in lines:
        if not NAME.fullmatch(line.split()[0]):
            raise ValueError(f"{path} lists {line!r}, which is no name: give names as in 2007_000033")
    return lines


def read_annotation(path: Path) -> Annotation:
    """The objects that an XML file of PASCAL VOC tells of; parts of objects are passed over.

    VOC counts pixels from 1 and means the last one too; here edges are coordinates, and the box that covers
    all begins at 0 and ends at the width and height.

    Raises:
        ValueError: if the file is no such XML, declares a document type, or is longer than a megabyte; or a
            class is unknown, or a box is empty or lies outside of the picture.
    """
    data = path.read_bytes()
    if len(data) > XML_LIMIT:
        raise ValueError(f"{path} has {len(data)} bytes, {XML_LIMIT} are the limit: it is no VOC annotation")
    try:
        _refuse_declarations(data, path)
        root = ElementTree.fromstring(data)
    except (expat.ExpatError, ElementTree.ParseError) as error:
        raise ValueError(f"{path} is no XML ({error}): take the original file") from error
    width, height = (round(_number(root, f"size/{side}", path)) for side in ("width", "height"))
    things = tuple(_thing(node, width, height, path) for node in root.findall("object"))
    return Annotation(width, height, things)


def _thing(node: ElementTree.Element, width: int, height: int, path: Path) -> Thing:
    name = (node.findtext("name") or "").strip()
    if name not in CLASSES:
        raise ValueError(f"{path} names an object {name!r}: choose one of {', '.join(CLASSES)}")
    left, top, right, bottom = (_number(node, f"bndbox/{edge}", path) for edge in EDGES)
    left, top = left - 1, top - 1
    if not (0 <= left < right <= width and 0 <= top < bottom <= height):
        raise ValueError(
            f"{path} has a {name} at {EDGES} = {(left + 1, top + 1, right, bottom)}, which is no box in a "
            f"picture of {width} x {height} pixels: correct it"
        )
    return Thing(name, (left, top, right, bottom))


def _number(node: ElementTree.Element, place: str, path: Path) -> float:
    text = node.findtext(place)
    try:
        number = float(text)
    except (TypeError, ValueError):
        number = math.nan
    if not math.isfinite(number):
        raise ValueError(f"{path} says {text!r} for {place}: give a number of pixels")
    return number


def _refuse_declarations(data: bytes, path: Path) -> None:
    """Before anything is built: entities, which can grow without bound or name other files, need a DTD."""

    def refuse(*_: object) -> None:
        raise ValueError(f"{path} declares a document type, and VOC's files have none: take it out")

    parser = expat.ParserCreate()
    parser.StartDoctypeDeclHandler = refuse
    parser.Parse(data, True)


def _indices(path: Path) -> Tensor:
    """Values of a gray or paletted PNG, (h, w) uint8; palettes are colors for the eye only."""
    try:
        with Image.open(path, formats=["PNG"]) as picture:
            if picture.width * picture.height > PIXEL_LIMIT:
                raise ValueError(f"{picture.width} x {picture.height} pixels exceed {PIXEL_LIMIT}")
            if picture.mode not in ("P", "L"):
                raise ValueError(f"it has colors (mode {picture.mode}) where a mask has class numbers")
            return torch.from_numpy(np.array(picture, dtype=np.uint8))
    except Exception as error:  # damaged files raise almost anything
        if isinstance(error, MemoryError):
            raise
        raise ValueError(f"cannot read the mask {path}: {error}; take the original file") from error
