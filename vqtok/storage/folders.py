"""Folders and files that appear whole or not at all, also under `kill -9` and on a full disk.

Everything is written beside its place under a hidden temporary name, flushed to the disk, and renamed. A
rename within one folder is atomic on every POSIX file system. The writer holds a lock on its temporary, which
the kernel drops when the process dies: so whoever publishes next in that place knows which leftovers to
sweep.
"""

import ctypes
import errno
import fcntl
import os
import re
import shutil
import sys
import uuid
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

TEMPORARY = re.compile(r"\..+\.[0-9a-f]{32}\.vqtok-part")
EXCHANGE, HERE = 2, -100  # RENAME_EXCHANGE and AT_FDCWD of linux/fs.h and fcntl.h


@contextmanager
def publish(folder: Path | str, replace: bool = False) -> Iterator[Path]:
    """Yield an empty temporary folder that becomes `folder` when the block ends well.

    An exception inside the block, a full disk included, removes the temporary and changes nothing else.

    Args:
        folder: Where the content shall stand; missing parents are made.
        replace: Put the new folder in the place of an existing one, which is then deleted.

    Raises:
        FileExistsError: if `folder` exists and `replace` is False, or is no folder.
    """
    folder = Path(os.path.abspath(folder))
    if os.path.lexists(folder) and (not replace or folder.is_symlink() or not folder.is_dir()):
        raise FileExistsError(errno.EEXIST, "exists already: delete it or choose another name", str(folder))
    folder.parent.mkdir(parents=True, exist_ok=True)
    sweep(folder.parent)
    temporary, lock = _claim(folder, lambda path: path.mkdir())
    try:
        yield temporary
        _flush_tree(temporary)
        _move(temporary, folder)
    except OSError as error:
        _name(error, folder)
        raise
    finally:
        # After an exchange the temporary name holds the old content.
        shutil.rmtree(temporary, ignore_errors=True)
        os.close(lock)
    flush(folder.parent)


def write_file(path: Path | str, data: bytes) -> None:
    """Write `data` to `path` so that a reader sees the old content or all of the new, never a part."""
    path = Path(os.path.abspath(path))
    path.parent.mkdir(parents=True, exist_ok=True)
    sweep(path.parent)
    temporary, lock = _claim(path, lambda part: part.touch(exist_ok=False))
    try:
        temporary.write_bytes(data)
        flush(temporary)
        os.replace(temporary, path)
    except OSError as error:
        _name(error, path)
        raise
    finally:
        temporary.unlink(missing_ok=True)
        os.close(lock)
    flush(path.parent)


def sweep(parent: Path) -> None:
    """Delete the temporaries in `parent` whose writers are dead."""
    for entry in [Path(item.path) for item in os.scandir(parent) if TEMPORARY.fullmatch(item.name)]:
        try:
            lock = os.open(entry, os.O_RDONLY)
        except OSError:
            continue  # gone in the meantime
        with suppress(OSError):  # its writer lives, or this disk knows no locks
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            shutil.rmtree(entry, ignore_errors=True) if entry.is_dir() else entry.unlink(missing_ok=True)
        os.close(lock)


def remove(folder: Path) -> None:
    """Delete a folder so that no reader ever finds half of it under its name."""
    part = _part(folder)
    os.rename(folder, part)
    shutil.rmtree(part, ignore_errors=True)


def flush(path: Path) -> None:
    """Wait until a file's content, or a folder's list of names, is on the disk."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    except OSError as error:
        raise OSError(error.errno, error.strerror, str(path)) from error
    finally:
        os.close(descriptor)


def _name(error: OSError, path: Path) -> None:
    """Tell the place: a plain write does not say where it failed."""
    if error.errno is not None and error.filename is None:
        error.filename = str(path)


def _part(path: Path) -> Path:
    return path.parent / f".{path.name}.{uuid.uuid4().hex}.vqtok-part"


def _claim(path: Path, make: Callable[[Path], None]) -> tuple[Path, int]:
    """A new temporary beside `path` and the descriptor that holds its lock."""
    while True:
        part = _part(path)
        make(part)
        try:
            lock = os.open(part, os.O_RDONLY)
        except FileNotFoundError:
            continue  # swept between its making and its lock: take another
        with suppress(OSError):  # this disk knows no locks: leftovers of killed writers stay
            fcntl.flock(lock, fcntl.LOCK_EX)
        if part.exists():
            return part, lock
        os.close(lock)


def _flush_tree(folder: Path) -> None:
    for root, _, names in os.walk(folder, topdown=False):
        for name in names:
            flush(Path(root, name))
        flush(Path(root))


def _move(temporary: Path, folder: Path) -> None:
    """Rename `temporary` to `folder`; an old `folder` ends up under the temporary name."""
    if not os.path.lexists(folder):
        return os.rename(temporary, folder)
    if _exchange(temporary, folder):
        return None
    aside = _part(folder)  # no atomic exchange here (macOS, some network disks): two renames
    os.rename(folder, aside)
    try:
        os.rename(temporary, folder)
    except OSError:
        os.rename(aside, folder)
        raise
    return os.rename(aside, temporary)


def _exchange(one: Path, other: Path) -> bool:
    """Swap two names atomically where the kernel can; False where it cannot."""
    if not sys.platform.startswith("linux"):
        return False
    rename = getattr(ctypes.CDLL(None, use_errno=True), "renameat2", None)
    return rename is not None and rename(HERE, os.fsencode(one), HERE, os.fsencode(other), EXCHANGE) == 0
