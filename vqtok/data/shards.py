"""Token shards: fixed-width rows of token ids on disk, read by memory map.

A shard is a folder of two files. `rows.bin` holds the rows one after another, little-endian uint16 where the
vocabulary has at most 65,536 ids and uint32 beyond. `manifest.json` says how many and how wide, for which
vocabulary, made by which tokenizer, with the length and SHA-256 of `rows.bin` and a hash of its own; it is
written last, so a folder without one is unfinished and never opened.

Letters: n rows, w ids in a row.
"""

import json
import os
from bisect import bisect_right
from collections.abc import Mapping
from dataclasses import dataclass
from functools import lru_cache
from itertools import accumulate
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import ArrayLike
from torch import Tensor

from vqtok.storage.folders import TEMPORARY, publish
from vqtok.storage.manifests import read_manifest, sha256, write_manifest

FORMAT = "vqtok token shard 1"
ROWS = "rows.bin"
MANIFEST = "manifest.json"


def write_shard(
    folder: str | Path,
    rows: ArrayLike,
    vocab: int,
    facts: dict[str, Any] | None = None,
    replace: bool = False,
    beside: Mapping[str, bytes] | None = None,
) -> None:
    """Write one shard; the folder appears whole or not at all.

    Args:
        folder: The shard's own folder, which must not exist unless `replace`.
        rows: (n, w) integers in [0, vocab); there may be no row, but a row has ids.
        vocab: Ids run from 0 to vocab - 1.
        facts: What else the manifest shall say, as JSON: "task", "names" ... and "tokenizer", a hash
            of the one that made the ids; shards of different tokenizers do not mix.
        replace: Put it in the place of an older one.
        beside: Content of other files of the shard, by name; their hashes stand in the manifest too.

    Raises:
        ValueError: if the rows have another shape or type, or an id is outside the vocabulary.
        OSError: if the folder exists, or the disk is full; nothing is left behind.
    """
    rows = _checked(np.asarray(rows), vocab)
    (count, width), dtype = rows.shape, _dtype(vocab)
    said = {"rows": count, "width": width, "vocab": vocab, "dtype": dtype.name, "facts": facts or {}}
    with publish(folder, replace=replace) as unpublished:
        (unpublished / ROWS).write_bytes(rows.astype(dtype).tobytes())  # tofile would not name a full disk
        for name, content in (beside or {}).items():
            (unpublished / name).write_bytes(content)
        write_manifest(unpublished, {"format": FORMAT, **said, "seal": _seal(said)})


class Shards:
    """All finished shards under a folder as one sequence of (w,) int64 rows, in the order of their names.

    It costs little to send to a worker process: files are mapped where and when a row is read.

    Args:
        folder: Searched to any depth, but not through links; may be a single shard.
        verify: Read every byte once and compare with the manifest's hash; lengths are compared in any case.

    Attributes:
        vocab: Ids run from 0 to vocab - 1.
        width: Ids in a row.
        tokenizer: Hash of the tokenizer that made the ids; None where the shards do not say.
        facts: What each shard's manifest says, shard by shard.
        folders: Each shard's folder.
        rows: How many rows each shard has.
        unfinished: Folders passed over, because their writer has not come, or never came, to the manifest.

    Raises:
        ValueError: if no shard is finished, one is damaged, or two differ in vocabulary, width or tokenizer.
    """

    def __init__(self, folder: str | Path, verify: bool = True) -> None:
        self.folder = Path(folder)
        finished, self.unfinished = _found(self.folder)
        self._hold([_opened(path, verify) for path in finished])

    def __len__(self) -> int:
        return self._ends[-1]

    def __getitem__(self, index: int) -> Tensor:
        if not 0 <= index < len(self):
            raise IndexError(f"row {index} of {len(self)}: rows are counted from 0 to {len(self) - 1}")
        number = bisect_right(self._ends, index)
        shard = self._shards[number]
        row = _mapped(shard)[index - self._ends[number] + shard.rows]
        return torch.from_numpy(row.astype(np.int64))

    @classmethod
    def by(cls, key: str, folder: str | Path, verify: bool = True) -> dict[str, "Shards"]:
        """The shards under a folder in groups that share a fact: `Shards.by("task", folder)["flat"]`.

        Rows of different groups may differ in width.

        Raises:
            ValueError: if a shard's facts lack the key, and as for one sequence, for each group.
        """
        finished, unfinished = _found(Path(folder))
        groups: dict[str, list[_Shard]] = {}
        for shard in (_opened(path, verify) for path in finished):
            if key not in shard.facts:
                known = ", ".join(sorted(shard.facts)) or "nothing"
                raise ValueError(f"{shard.folder} does not say its {key!r}, only {known}: choose of these")
            groups.setdefault(str(shard.facts[key]), []).append(shard)
        return {value: cls._of(Path(folder), groups[value], unfinished) for value in sorted(groups)}

    @classmethod
    def _of(cls, folder: Path, shards: list["_Shard"], unfinished: list[Path]) -> "Shards":
        """Those of one group."""
        group = cls.__new__(cls)
        group.folder, group.unfinished = folder, unfinished
        return group._hold(shards)

    def _hold(self, shards: list["_Shard"]) -> "Shards":
        """Become the sequence of these shards."""
        self.vocab = _agreed(shards, "vocab", [shard.vocab for shard in shards])
        self.width = _agreed(shards, "width", [shard.width for shard in shards])
        self.tokenizer = _agreed(shards, "tokenizer", [shard.facts.get("tokenizer") for shard in shards])
        self.facts = [shard.facts for shard in shards]
        self.folders = [shard.folder for shard in shards]
        self.rows = [shard.rows for shard in shards]
        self._shards = shards
        self._ends = list(accumulate(shard.rows for shard in shards))
        return self


@dataclass(frozen=True, kw_only=True, eq=False)
class _Shard:
    """What the manifest of one finished shard says, and when its rows were written, in ns."""

    folder: Path
    written: int
    rows: int
    width: int
    vocab: int
    facts: dict[str, Any]


def _checked(rows: np.ndarray, vocab: int) -> np.ndarray:
    """`rows`, if they can be a shard."""
    if not 1 <= vocab <= 1 << 32:
        raise ValueError(f"a vocabulary of {vocab} ids does not fit uint32 rows: give 1 to {1 << 32}")
    if rows.ndim != 2 or not rows.shape[1] or rows.dtype.kind not in "iu":
        raise ValueError(f"{rows.dtype} rows of shape {rows.shape} are no shard: give (n, w) integers")
    outside = np.argwhere((rows < 0) | (rows >= vocab))
    if len(outside):
        row, place = outside[0]
        raise ValueError(
            f"id {rows[row, place]} (row {row}, place {place}; {len(outside)} such) is outside a vocabulary "
            f"of {vocab}: pass the vocab of the tokenizer that made the ids"
        )
    return rows


def _dtype(vocab: int) -> np.dtype:
    """Smallest of the two row types that holds the ids."""
    return np.dtype("<u2" if vocab <= 1 << 16 else "<u4")


def _found(folder: Path) -> tuple[list[Path], list[Path]]:
    """Finished and unfinished shards' folders under `folder`, sorted by name."""
    if not folder.is_dir():
        raise ValueError(f"no folder {folder}: write shards there with `vqtok encode`")
    finished, unfinished = [], []
    for path in sorted({file.parent for name in (ROWS, MANIFEST) for file in folder.rglob(name)}):
        unpublished = any(TEMPORARY.fullmatch(part) for part in path.relative_to(folder).parts)
        (unfinished if unpublished or not (path / MANIFEST).exists() else finished).append(path)
    if not finished:
        raise ValueError(
            f"no finished shard under {folder}, {len(unfinished)} unfinished: run `vqtok encode`"
        )
    return finished, unfinished


def _opened(folder: Path, verify: bool) -> _Shard:
    """The shard in `folder`, its manifest checked against its files and itself."""
    manifest = read_manifest(folder, verify=verify)
    if manifest.get("format") != FORMAT:
        found = manifest.get("format", "something else")
        raise ValueError(f"{folder} holds {found!r}, not {FORMAT!r}: give a folder of such shards only")
    said = {key: manifest.get(key) for key in ("rows", "width", "vocab", "dtype", "facts")}
    if manifest.get("seal") != _seal(said) or ROWS not in manifest["files"]:
        raise ValueError(f"{folder / MANIFEST} has changed since it was written: encode this shard again")
    del said["dtype"]  # for readers that do not know the rule
    return _Shard(folder=folder, written=os.stat(folder / ROWS).st_mtime_ns, **said)


def _seal(said: dict[str, Any]) -> str:
    """Hash of what a manifest says about its shard, however the JSON is laid out."""
    return sha256(json.dumps(json.loads(json.dumps(said)), sort_keys=True).encode())


def _agreed(shards: list[_Shard], name: str, values: list[Any]) -> Any:
    """The one value that all shards share."""
    for shard, value in zip(shards, values, strict=True):
        if value != values[0]:
            raise ValueError(
                f"shards of different {name} do not mix: {values[0]!r} in {shards[0].folder}, {value!r} in "
                f"{shard.folder}: open them apart, or encode some again"
            )
    return values[0]


@lru_cache(maxsize=256)  # of possibly many thousand shards: each open map holds a file descriptor
def _mapped(shard: _Shard) -> np.ndarray:
    """(n, w) rows of a shard in the file, not in memory."""
    path, shape = shard.folder / ROWS, (shard.rows, shard.width)
    if os.stat(path).st_mtime_ns != shard.written:  # opened in another process, or long ago
        raise ValueError(f"{path} was replaced after it was opened: open its shards again")
    return np.asarray(np.memmap(path, _dtype(shard.vocab), mode="r", shape=shape))
