"""Pairs from tar files as WebDataset lays them out: files of one sample have one name up to the first dot.

    0001.jpg  0001.txt  0002.png  0002.json ...

Each tar is read once from front to back, headers only but for captions, and where each picture lies is
remembered; after that any picture is one read away. Compressed tars cannot be read so, and are refused.
"""

import glob
import json
import os
import tarfile
from pathlib import Path
from typing import Any, NamedTuple

from vqtok.data.folders import SUFFIXES, printable
from vqtok.data.pairing import NO_CAPTION, NO_PICTURE, FoundPairs, Pair, caption_of

BLOCK = 1 << 20
KEY = "caption"  # of a sample's JSON, unless another is named


class Stretch(NamedTuple):
    """Where a file lies in a tar."""

    path: Path
    offset: int
    length: int


class TarPairs(FoundPairs):
    """Samples of the tar files that a pattern names, in the order of the files' names and within them.

    A sample's picture is its `jpg`, `jpeg`, `png` or `webp`, its caption its `txt`, or the value of a key of
    its `json`. Other members are passed over. Members of a sample need not stand side by side.

    Args:
        pattern: Of local files, such as `data/train-*.tar`; `**` goes to any depth.
        caption_key: Take captions from this key of `json`; None takes `txt`, and `caption` of `json` where
            there is no `txt`.
        options: As of `FoundPairs`.

    Raises:
        ValueError: if there is no such file, or one is no whole, uncompressed tar; and as of `FoundPairs`.
    """

    def __init__(self, pattern: str, caption_key: str | None = None, **options: Any) -> None:
        paths = sorted(Path(path) for path in glob.glob(pattern, recursive=True) if os.path.isfile(path))
        if not paths:
            raise ValueError(f"no tar file at {pattern}: give a pattern of local ones, such as data/*.tar")
        shared = Path(os.path.commonpath([path.parent for path in paths]))
        pairs: list[Pair] = []
        names: dict[str, str] = {}
        for path in paths:
            samples, doubled = _samples(path, f"{printable(path.relative_to(shared))}/")
            names |= doubled
            for name, sample in samples.items():
                _sort(name, sample, caption_key, pairs, names)
        super().__init__(pattern, pairs, names, **options)

    def content(self, place: Stretch) -> bytes:
        """The file of a picture."""
        with open(place.path, "rb") as file:
            file.seek(place.offset)
            return file.read(place.length)


def _samples(path: Path, tar: str) -> tuple[dict[str, dict[str, Stretch]], dict[str, str]]:
    """Name -> suffix -> place of the members of one tar that may be halves of pairs, and repeated ones."""
    samples: dict[str, dict[str, Stretch]] = {}
    doubled = {}
    try:
        with tarfile.open(path, "r:") as archive:
            for member in archive:
                name = tar + printable(Path(member.name))
                folder, _, file = name.rpartition("/")
                stem, _, suffix = file.partition(".")
                suffix = f".{suffix.lower()}"
                if not member.isfile() or not stem or suffix not in {*SUFFIXES, ".txt", ".json"}:
                    continue
                sample = samples.setdefault(f"{folder}/{stem}", {})
                if suffix in sample:
                    doubled[f"{name} at {member.offset}"] = "second file of this name in its tar"
                else:
                    sample[suffix] = Stretch(path, member.offset_data, member.size)
            _check_end(path, archive.offset)
    except tarfile.TarError as error:
        raise ValueError(f"{path} is no whole, uncompressed tar ({error}): make it again") from error
    return samples, doubled


def _check_end(path: Path, offset: int) -> None:
    """Raises tarfile.ReadError unless all behind `offset` is zero: Python takes any damage for the end."""
    with open(path, "rb") as file:
        file.seek(offset)
        while block := file.read(BLOCK):
            if any(block):
                raise tarfile.ReadError(f"something else than a member stands at byte {offset}")


def _sort(
    name: str, sample: dict[str, Stretch], key: str | None, pairs: list[Pair], names: dict[str, str]
) -> None:
    """A sample becomes a pair, or what it has is left out with the reason."""
    pictures = [suffix for suffix in sample if suffix in SUFFIXES]
    try:
        caption = _caption(sample, key)
        if not pictures:
            raise ValueError(NO_PICTURE)
    except ValueError as error:
        names[name + (pictures[0] if pictures else "")] = str(error)
        return
    first, *others = pictures
    pairs.append(Pair(name + first, caption, sample[first], sample[first].length))
    names |= {name + other: "second picture of its sample" for other in others}


def _caption(sample: dict[str, Stretch], key: str | None) -> str:
    """The caption of a sample; a ValueError with the reason if it has none."""
    if key is None and ".txt" in sample:
        return caption_of(_read(sample[".txt"]))
    if ".json" not in sample:
        raise ValueError(NO_CAPTION)
    try:
        value = json.loads(_read(sample[".json"]))
    except ValueError as error:
        raise ValueError(f"JSON that cannot be read: {error}") from error
    text = value.get(key or KEY) if isinstance(value, dict) else None
    if not isinstance(text, str):
        raise ValueError(f"JSON without text under {key or KEY!r}")
    return caption_of(text)


def _read(stretch: Stretch) -> bytes:
    with open(stretch.path, "rb") as file:
        file.seek(stretch.offset)
        return file.read(stretch.length)
