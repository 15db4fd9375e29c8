"""A folder of pictures as a sequence of images of one size.

Letters: s side of the square images, in pixels.
"""

import math
import os
import warnings
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from itertools import chain, islice
from pathlib import Path
from typing import Self

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import DataLoader, Dataset

from vqtok.data.pictures import PIXEL_LIMIT, Fit, check_form, read_pixels
from vqtok.data.plan import pieces
from vqtok.storage.manifests import sha256

SUFFIXES = {".png", ".jpg", ".jpeg", ".webp"}
LISTED = 20  # unreadable files that a message names; `corrupt` has them all


class PictureFolder:
    """All pictures under a folder, in the order of their names, each as (3, s, s) float32 in [0, 1].

    Pictures are the files named *.png, *.jpg, *.jpeg or *.webp, in any case, unless the name begins with a
    dot. Linked files count, linked folders do not. What becomes of orientation, transparency and so on is
    told in `vqtok.data.pictures`.

    Args:
        folder: Searched to any depth.
        size: Height and width of the images, in pixels.
        fit: "crop", "stretch" or "pad", as in `read_picture`.
        tolerate: Share of unreadable files, rounded up to whole files, from which `scan` refuses the folder.
        pixel_limit: Refuse to decode more pixels than these in one picture.

    Attributes:
        paths: The pictures; after `scan`, the readable ones.
        corrupt: Unreadable files and the reasons, as found by `scan`.
        others: How many files of each other suffix lie there, unread.

    Raises:
        ValueError: if there are no pictures, or no such size, fit or share.
    """

    def __init__(
        self,
        folder: str | Path,
        size: int,
        fit: Fit = "crop",
        tolerate: float = 0.01,
        pixel_limit: int = PIXEL_LIMIT,
    ) -> None:
        check_form(size, fit)
        if not 0 <= tolerate <= 1:
            raise ValueError(f"tolerate is {tolerate}, a share of the pictures: give 0 to 1")
        self.folder = Path(folder)
        self.size, self.fit, self.tolerate, self.pixel_limit = size, fit, tolerate, pixel_limit
        self.corrupt: dict[Path, str] = {}
        self.paths, self.others = _found(self.folder)
        self._kept: Tensor | None = None
        self._labeled: bool | None = None  # whether pictures have classes; looked at when asked
        if not self.paths:
            others = ", ".join(f"{count} {suffix}" for suffix, count in self.others.most_common(5))
            raise ValueError(
                f"no PNG, JPEG or WebP pictures under {folder} (but {others or 'no other files'}): "
                f"convert these, or give another folder"
            )

    def __len__(self) -> int:
        return len(self.paths)

    def __getitem__(self, index: int) -> Tensor:
        """Image number `index`; an unreadable one raises ValueError, unless `scan` has set it apart."""
        if self._kept is not None:
            return self._kept[index].float() / 255
        return self._pixels(self.paths[index]).float() / 255

    def scan(self, workers: int = 0, keep: bool = False) -> Self:
        """Decode every picture once, set the unreadable ones apart in `corrupt`, and say so in a warning.

        Args:
            workers: Processes that decode; 0 decodes here. The result is the same for any number.
            keep: Hold the images in memory, 3 s² bytes each, so that reading one again decodes nothing.

        Raises:
            ValueError: if more files are unreadable than `tolerate` allows, with their names and reasons.
        """
        decoded = self.decoded(pieces(range(len(self)), 16), workers, keep)
        results = dict(zip(self.paths, chain.from_iterable(decoded), strict=True))
        reasons = {path: result for path, result in results.items() if isinstance(result, str)}
        self.corrupt |= reasons
        self.refuse(reasons)
        if reasons:
            left_out = f"left out {len(reasons)} of {len(self)} pictures that cannot be read"
            warnings.warn(f"{left_out}:{_listed(reasons)}", stacklevel=2)
        self.paths = [path for path in self.paths if path not in reasons]
        self._kept = torch.from_numpy(np.stack([results[path] for path in self.paths])) if keep else None
        return self

    def decoded(
        self, batches: Sequence[Sequence[int]], workers: int = 0, keep: bool = True
    ) -> Iterator[list[np.ndarray | str | None]]:
        """Pictures of these numbers, batch by batch: (3, s, s) uint8, or the reason why one cannot be read.

        Args:
            batches: Numbers of pictures.
            workers: Processes that decode ahead; 0 decodes here. The result is the same for any number.
            keep: False gives None in the place of pixels.
        """
        return iter(
            DataLoader(
                _Decoded(self, keep),
                batch_sampler=batches,
                collate_fn=list,
                num_workers=workers,
                generator=torch.Generator(),  # or else DataLoader takes a number from the global one
            )
        )

    def name(self, index: int) -> str:
        """Printable name of a picture within the folder, the same wherever the folder lies."""
        return printable(self.paths[index].relative_to(self.folder))

    def label(self, index: int) -> str | None:
        """Name of the folder, inside this one, that a picture lies in; None if some lie in none."""
        if self._labeled is None:
            self._labeled = all("/" in self.name(number) for number in range(len(self)))
        return self.name(index).partition("/")[0] if self._labeled else None

    def digest(self, numbers: range) -> str:
        """Hash of the names and lengths of some files: pictures that came, went or were mended show in it."""
        lines = [f"{self.name(number)} {_length(self.paths[number])}" for number in numbers]
        return sha256("\n".join(lines).encode())

    def refuse(self, reasons: Mapping[Path | str, str]) -> None:
        """Raise a ValueError if these are more unreadable pictures than `tolerate` allows, or all there are.

        Args:
            reasons: Files, and why each of them cannot be read.
        """
        files, allowed = len(self), math.ceil(self.tolerate * len(self))
        if len(reasons) > allowed or len(reasons) == files:
            raise ValueError(
                f"{len(reasons)} of {files} pictures under {self.folder} cannot be read, {allowed} are "
                f"tolerated: repair or remove them, or raise tolerate from {self.tolerate}:{_listed(reasons)}"
            )

    def _pixels(self, path: Path) -> Tensor:
        return read_pixels(path, self.size, self.fit, self.pixel_limit)


class _Decoded(Dataset):
    """What the processes that decode send back, picture by picture.

    It is the reason why one cannot be read, or else its pixels if they are to be kept: (3, s, s) uint8, as an
    array, since each tensor that another process sends holds a file open.
    """

    def __init__(self, folder: PictureFolder, keep: bool) -> None:
        self.folder = folder
        self.keep = keep

    def __len__(self) -> int:
        return len(self.folder.paths)

    def __getitem__(self, index: int) -> np.ndarray | str | None:
        path = self.folder.paths[index]
        try:
            pixels = self.folder._pixels(path)
        except (ValueError, FileNotFoundError, PermissionError) as error:  # not the machine's own trouble
            return str(error).removeprefix(f"cannot read {path}: ")
        return pixels.numpy() if self.keep else None


def printable(path: Path) -> str:
    """A path in characters that print: bytes that are no UTF-8, as old archives leave them, are escaped."""
    return os.fsencode(path.as_posix()).decode("utf-8", "backslashreplace")


def _found(folder: Path) -> tuple[list[Path], Counter[str]]:
    """Pictures under `folder`, sorted by name, and a count of the other files by suffix."""
    if not folder.is_dir():
        raise ValueError(f"no folder {folder}: give one that holds PNG, JPEG or WebP pictures")
    paths, others = [], Counter()
    for place, _, names in os.walk(folder, onerror=_refuse):
        for name in names:
            suffix = Path(name).suffix.lower()
            if suffix in SUFFIXES and not name.startswith("."):
                paths.append(Path(place, name))
            else:
                others[suffix or "without a suffix"] += 1
    return sorted(paths, key=lambda path: path.relative_to(folder).as_posix()), others


def _length(path: Path) -> int:
    """Bytes of a file, of the one behind a link; of the link itself if it leads nowhere."""
    try:
        return path.stat().st_size
    except OSError:
        return path.lstat().st_size


def _listed(reasons: Mapping[Path | str, str]) -> str:
    """The first of the files with their reasons, a line each."""
    lines = [f"\n  {printable(Path(path))}: {reason}" for path, reason in islice(reasons.items(), LISTED)]
    more = [f"\n  and {len(reasons) - LISTED} more, see `corrupt`"] if len(reasons) > LISTED else []
    return "".join(lines + more)


def _refuse(error: OSError) -> None:
    """A folder that cannot be listed is an error, where os.walk would pass over it in silence."""
    raise error
