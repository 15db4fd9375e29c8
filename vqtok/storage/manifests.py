"""manifest.json: what a folder holds, with sizes and hashes; written last, it marks the folder complete."""

import hashlib
import json
from pathlib import Path
from typing import Any

from vqtok.storage.folders import write_file

NAME = "manifest.json"


def write_manifest(folder: Path | str, facts: dict[str, Any]) -> None:
    """Write `facts` and the size and SHA-256 of every file under `folder` to its manifest.json.

    Args:
        folder: Holds every file already; nothing in it may change afterwards.
        facts: What else readers need, as JSON; the key "files" is taken.

    Raises:
        ValueError: if `facts` has a key "files".
    """
    if "files" in facts:
        raise ValueError("the key `files` of a manifest lists the files: give the fact another name")
    folder = Path(folder)
    paths = sorted(path for path in folder.rglob("*") if path.is_file() and path != folder / NAME)
    files = {
        path.relative_to(folder).as_posix(): {"bytes": path.stat().st_size, "sha256": sha256(path)}
        for path in paths
    }
    write_file(folder / NAME, json.dumps({**facts, "files": files}, indent=2).encode())


def read_manifest(folder: Path | str, verify: bool = True) -> dict[str, Any]:
    """The facts of a complete folder, and its "files".

    Args:
        folder: As `write_manifest` left it; files it does not list are ignored.
        verify: Compare hashes too; sizes are always compared.

    Raises:
        ValueError: if the manifest is missing or unreadable, or a file is missing, truncated or changed; it
            names the file.
    """
    folder = Path(folder)
    facts = _read(folder)
    for name, file in facts["files"].items():
        path = folder / name
        if not path.is_file():
            raise ValueError(f"{path} is missing: restore it, or make the folder again")
        if path.stat().st_size != file["bytes"]:
            raise ValueError(
                f"{path} has {path.stat().st_size} of {file['bytes']} bytes: copy or make it again"
            )
        if verify and sha256(path) != file["sha256"]:
            raise ValueError(
                f"{path} has changed since it was written: copy it again, or make the folder again"
            )
    return facts


def sha256(content: Path | str | bytes) -> str:
    """SHA-256 of a file or of bytes, in hex."""
    if isinstance(content, bytes):
        return hashlib.sha256(content).hexdigest()
    with open(content, "rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _read(folder: Path) -> dict[str, Any]:
    path = folder / NAME
    if not path.is_file():
        raise ValueError(f"{folder} has no {NAME}, so it was never finished: make it again")
    try:
        facts = json.loads(path.read_bytes())
        if not all({"bytes", "sha256"} <= file.keys() for file in facts["files"].values()):
            raise KeyError("bytes, sha256")
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise ValueError(f"{path} is no manifest of ours ({error!r}): make the folder again") from error
    return facts
