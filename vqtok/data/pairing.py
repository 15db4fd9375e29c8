"""Pairs of a picture and its caption, what is no pair, and pairs from a folder.

A source lists its pairs when it is opened: captions are read then, pictures when they are asked for. What
cannot become a pair (half of it is missing, its caption is empty or no text, its picture cannot be read) is
left out by name and reason, counted, and refused where it is more than a share of all.

Letters: h w rows and columns of pixels.
"""

import math
import os
import warnings
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Self

import numpy as np
import torch
from einops import rearrange
from torch import Tensor
from torch.utils.data import DataLoader, Dataset

from vqtok.data.folders import SUFFIXES, printable
from vqtok.data.pictures import Fit, check_form, pixels_of
from vqtok.data.plan import pieces
from vqtok.storage.manifests import sha256

NO_CAPTION = "picture without a caption"
NO_PICTURE = "caption without a picture"
EMPTY = "empty caption"
NOT_TEXT = "caption that is no UTF-8"
UNREADABLE = "picture that cannot be read"
FIRST = 3  # names that a report has for each reason; `names` has them all
TEXT = ".txt"


@dataclass
class LeftOut:
    """What became no pair.

    Args:
        source: Where it lies, for messages.
        kept: How many pairs there are.
        names: What was left out, each with its reason: one of the reasons above, and after a colon what else
            is known.
    """

    source: str
    kept: int
    names: dict[str, str]

    @property
    def counts(self) -> Counter[str]:
        """How many were left out for each reason."""
        return Counter(_kind(reason) for reason in self.names.values())

    def __str__(self) -> str:
        """A line of totals, then one for each reason, with the first few names."""
        lines = [f"{self.source}: {self.kept} pairs, {len(self.names)} left out"]
        for kind, count in self.counts.most_common():
            first = [name for name, reason in self.names.items() if _kind(reason) == kind][:FIRST]
            more = ["..."] if count > FIRST else []
            lines.append(f"  {count} x {kind}: {', '.join(first + more)}")
        return "\n".join(lines)

    def refuse(self, tolerate: float) -> None:
        """Raise a ValueError if there is no pair, or more than this share, rounded up, was left out."""
        total = self.kept + len(self.names)
        allowed = math.ceil(tolerate * total)
        if not self.kept:
            raise ValueError(f"no pairs of a picture and a caption in {self}")
        if len(self.names) > allowed:
            raise ValueError(
                f"{len(self.names)} of {total} are no pairs, {allowed} are tolerated: mend or remove them, "
                f"or raise tolerate from {tolerate}. {self}"
            )


@dataclass(frozen=True, slots=True)
class Pair:
    """One pair of a source.

    Args:
        name: Of the picture, which no other pair of the source has.
        caption: What it shows.
        place: Where its source finds the picture.
        length: Bytes of the picture's file; 0 where asking would cost reading it.
    """

    name: str
    caption: str
    place: Any
    length: int = 0


class Pairs:
    """Pictures with captions, number 0 to len - 1; `[index]` is ((h, w, 3) uint8, caption).

    It is a gallery too (`vqtok.data.galleries`), so that what encodes pictures encodes these.

    Args:
        size: Height and width of the pictures, in pixels; None leaves each its own.
        fit: What becomes of one that is not square, as in `read_picture`.

    Attributes:
        left_out: What became no pair.
    """

    def __init__(self, size: int | None, fit: Fit) -> None:
        check_form(size, fit)
        self.size, self.fit = size, fit
        self.left_out = LeftOut("", 0, {})

    def __len__(self) -> int:
        raise NotImplementedError

    def __getitem__(self, index: int) -> tuple[np.ndarray, str]:
        """Pair number `index`; a ValueError if its picture cannot be read."""
        if not 0 <= index < len(self):
            raise IndexError(f"pair {index} of {len(self)}: pairs are counted from 0 to {len(self) - 1}")
        picture = rearrange(self.pixels(index), "c h w -> h w c").contiguous()
        return picture.numpy(), self.caption(index)

    def pixels(self, index: int) -> Tensor:
        """(3, h, w) uint8 of one picture; a ValueError with the reason if it cannot be read."""
        raise NotImplementedError

    def caption(self, index: int) -> str:
        """The caption of one picture; white space within it is single spaces."""
        raise NotImplementedError

    def name(self, index: int) -> str:
        """A name that no other picture of the source has."""
        raise NotImplementedError

    def label(self, index: int) -> None:
        """Pairs have captions in the place of classes."""

    def digest(self, numbers: range) -> str:
        """Hash of the names and captions of some pairs."""
        lines = [f"{self.name(number)}\0{self.caption(number)}" for number in numbers]
        return sha256("\n".join(lines).encode())

    def decoded(
        self, batches: Sequence[Sequence[int]], workers: int = 0
    ) -> Iterator[list[np.ndarray | str | None]]:
        """Pictures of these numbers, batch by batch: (3, h, w) uint8, or why one cannot be read.

        Args:
            batches: Numbers of pairs.
            workers: Processes that decode ahead; 0 decodes here. The result is the same for any number.
        """
        loader = DataLoader(
            _Decoded(self),
            batch_sampler=batches,
            collate_fn=list,
            num_workers=workers,
            generator=torch.Generator(),  # or else DataLoader takes a number from the global one
        )
        return iter(loader)

    def refuse(self, reasons: Mapping[str, str]) -> None:
        """There are no pictures that could be unreadable."""


class FoundPairs(Pairs):
    """Pairs that lie somewhere, listed when they are opened.

    Args:
        source: Where, for messages.
        pairs: The pairs.
        names: What became no pair, with reasons.
        size: Height and width of the pictures, in pixels; None leaves each its own.
        fit: What becomes of one that is not square.
        tolerate: Share, rounded up, of what may be left out.

    Raises:
        ValueError: if there is no pair, or more was left out; it says what and why.
    """

    def __init__(
        self,
        source: str,
        pairs: list[Pair],
        names: dict[str, str],
        size: int | None = None,
        fit: Fit = "crop",
        tolerate: float = 0.01,
    ) -> None:
        super().__init__(size, fit)
        if not 0 <= tolerate <= 1:
            raise ValueError(f"tolerate is {tolerate}, a share of the pairs: give 0 to 1")
        self.pairs, self.tolerate = pairs, tolerate
        self.left_out = LeftOut(source, len(pairs), names)
        self.left_out.refuse(tolerate)
        if names:
            warnings.warn(str(self.left_out), stacklevel=3)

    def __len__(self) -> int:
        return len(self.pairs)

    def content(self, place: Any) -> bytes:
        """The file of a picture."""
        raise NotImplementedError

    def pixels(self, index: int) -> Tensor:
        """(3, h, w) uint8 of one picture; a ValueError with the reason if it cannot be read."""
        pair = self.pairs[index]
        return pixels_of(self.content(pair.place), pair.name, self.size, self.fit)

    def caption(self, index: int) -> str:
        """The caption of one picture."""
        return self.pairs[index].caption

    def name(self, index: int) -> str:
        """The name of one picture."""
        return self.pairs[index].name

    def digest(self, numbers: range) -> str:
        """Hash of names, lengths and captions: what came, went or was mended shows in it."""
        pairs = (self.pairs[number] for number in numbers)
        lines = [f"{pair.name}\0{pair.length}\0{pair.caption}" for pair in pairs]
        return sha256("\n".join(lines).encode())

    def refuse(self, reasons: Mapping[str, str]) -> None:
        """Raise a ValueError if these, with what is left out already, are more than is tolerated.

        Args:
            reasons: Names of pictures, and why each of them cannot be read, as `decoded` tells.
        """
        names = self.left_out.names | reasons
        known = len(self.pairs) + len(self.left_out.names)
        LeftOut(self.left_out.source, known - len(names), names).refuse(self.tolerate)

    def scan(self, workers: int = 0) -> Self:
        """Decode every picture once, and leave out the pairs of those that cannot be read, with a warning.

        Args:
            workers: Processes that decode; 0 decodes here.

        Raises:
            ValueError: if more is left out than `tolerate` allows.
        """
        batches = pieces(range(len(self)), 16)
        results = (found for batch in self.decoded(batches, workers) for found in batch)
        told = {self.name(index): one for index, one in enumerate(results) if isinstance(one, str)}
        self.refuse(told)
        if told:
            self.pairs = [pair for pair in self.pairs if pair.name not in told]
            self.left_out.names |= told
            self.left_out.kept = len(self.pairs)
            warnings.warn(str(self.left_out), stacklevel=2)
        return self


class FolderPairs(FoundPairs):
    """Pictures under a folder, at any depth, each with a text file of the same stem beside it.

    Pictures are the files named *.png, *.jpg, *.jpeg or *.webp, captions those named *.txt, in any case,
    unless the name begins with a dot. A text file is one caption, however many lines it has. Linked files
    count, linked folders do not. The order is that of the pictures' names.

    Args:
        folder: Searched to any depth.
        options: As of `FoundPairs`.
    """

    def __init__(self, folder: str | Path, **options: Any) -> None:
        pairs, names = _paired(Path(folder))
        super().__init__(str(folder), pairs, names, **options)

    def content(self, place: Path) -> bytes:
        """The file of a picture."""
        return place.read_bytes()


def caption_of(text: str | bytes) -> str:
    """A caption with single spaces for white space; a ValueError with the reason if it is none."""
    try:
        text = text.decode("utf-8-sig") if isinstance(text, bytes) else text.encode().decode()
    except UnicodeError as error:
        raise ValueError(f"{NOT_TEXT}: {error.reason} at {error.start}") from error
    if not (words := text.split()):
        raise ValueError(EMPTY)
    return " ".join(words)


class _Decoded(Dataset):
    """What processes that decode send back: (3, h, w) uint8 as an array, or why a picture cannot be read."""

    def __init__(self, pairs: Pairs) -> None:
        self.pairs = pairs

    def __len__(self) -> int:
        return len(self.pairs)

    def __getitem__(self, index: int) -> np.ndarray | str:
        try:
            return self.pairs.pixels(index).numpy()
        except (ValueError, FileNotFoundError, PermissionError) as error:  # not the machine's own trouble
            reason = str(error).removeprefix(f"cannot read {self.pairs.name(index)}: ")
            return reason if reason == NO_PICTURE else f"{UNREADABLE}: {reason}"


def _paired(folder: Path) -> tuple[list[Pair], dict[str, str]]:
    """The pairs under a folder, and what is none, with reasons."""
    if not folder.is_dir():
        raise ValueError(f"no folder {folder}: give one that holds pictures and captions in .txt files")
    pictures, captions = _listed(folder)
    texts = {path.with_suffix(""): path for path in reversed(captions)}  # of a.TXT and a.txt the first
    pairs, names, used = [], {}, set()
    for path in pictures:
        name, text = printable(path.relative_to(folder)), texts.get(path.with_suffix(""))
        try:
            if text is None:
                raise ValueError(NO_CAPTION)
            used.add(text)
            pairs.append(Pair(name, caption_of(text.read_bytes()), path, path.stat().st_size))
        except FileNotFoundError:  # a link that leads nowhere
            names[name] = f"{UNREADABLE}: a file is missing"
        except ValueError as error:
            names[name] = str(error)
    alone = sorted({*captions} - used)
    return pairs, names | {printable(path.relative_to(folder)): NO_PICTURE for path in alone}


def _listed(folder: Path) -> tuple[list[Path], list[Path]]:
    """Pictures and text files, each sorted by name."""
    pictures, texts = [], []
    for place, _, files in os.walk(folder, onerror=_refuse):
        for path in (Path(place, name) for name in files if not name.startswith(".")):
            if path.suffix.lower() in SUFFIXES:
                pictures.append(path)
            elif path.suffix.lower() == TEXT:
                texts.append(path)
    return sorted(pictures, key=Path.as_posix), sorted(texts, key=Path.as_posix)


def _refuse(error: OSError) -> None:
    """A folder that cannot be listed is an error, where os.walk would pass over it in silence."""
    raise error


def _kind(reason: str) -> str:
    """A reason without its details."""
    return reason.partition(":")[0]
