"""Folders and files appear whole or not at all: after errors, kills at any call, beside other writers."""

import os
import signal
import sys
from pathlib import Path

import pytest

from vqtok.storage.folders import TEMPORARY, publish, remove, write_file

EVENTS = {
    "open",
    "os.mkdir",
    "os.rename",
    "os.remove",
    "os.rmdir",
    "os.chmod",
    "shutil.rmtree",
    "ctypes.dlsym",
}


def put(folder, text, **options):
    """Publish a folder of two files, one in a subfolder."""
    with publish(folder, **options) as part:
        (part / "a.txt").write_text(text)
        (part / "sub").mkdir()
        (part / "sub" / "b.txt").write_text(text)


def content(folder):
    """Text of each file below."""
    return {str(p.relative_to(folder)): p.read_text() for p in sorted(folder.rglob("*")) if p.is_file()}


def whole(text):
    """What `put` leaves."""
    return {"a.txt": text, "sub/b.txt": text}


def forked(action):
    """Run `action` in a forked process; its exit status as `os.waitpid` gives it."""
    process = os.fork()
    if process == 0:
        try:
            action()
        except BaseException:
            os._exit(1)
        os._exit(0)
    return os.waitpid(process, 0)[1]


def killed_at(event, action):
    """Whether `action` met a kill -9 at its file system call number `event`, counted from 0."""

    def doomed():
        left = [event]

        def hook(name, _):
            if name in EVENTS:
                left[0] -= 1
                if left[0] < 0:
                    os.kill(os.getpid(), signal.SIGKILL)

        sys.addaudithook(hook)
        action()

    status = forked(doomed)
    assert os.WIFSIGNALED(status) or os.WEXITSTATUS(status) == 0
    return os.WIFSIGNALED(status)


def test_publish_makes_the_folder_and_its_parents(tmp_path):
    """What the block wrote stands under the name, and nothing else stands beside it."""
    put(tmp_path / "x" / "y", "new")
    assert content(tmp_path) == {f"x/y/{name}": "new" for name in whole("new")}


def test_nothing_is_visible_before_the_end(tmp_path):
    """Readers see no folder while it is being written."""
    with publish(tmp_path / "y") as part:
        (part / "a.txt").write_text("new")
        assert not (tmp_path / "y").exists()
        assert part.parent == tmp_path


@pytest.mark.parametrize("error", [ValueError, KeyboardInterrupt])
def test_exception_changes_nothing(tmp_path, error):
    """The temporary goes, an older folder stays."""
    put(tmp_path / "y", "old")
    with pytest.raises(error), publish(tmp_path / "y", replace=True) as part:
        (part / "a.txt").write_text("new")
        raise error
    assert content(tmp_path / "y") == whole("old")
    assert [path.name for path in tmp_path.iterdir()] == ["y"]


def test_existing_folder_is_refused_unless_replaced(tmp_path):
    """The error names the folder; with `replace` only the new content stands there."""
    put(tmp_path / "y", "old")
    (tmp_path / "y" / "extra.txt").write_text("old")
    with pytest.raises(FileExistsError, match="exists already.*y'"):
        put(tmp_path / "y", "new")
    put(tmp_path / "y", "new", replace=True)
    assert content(tmp_path / "y") == whole("new")


def test_replace_without_atomic_exchange(tmp_path, monkeypatch):
    """Where the kernel cannot swap two names, two renames do."""
    monkeypatch.setattr(sys, "platform", "darwin")
    put(tmp_path / "y", "old")
    put(tmp_path / "y", "new", replace=True)
    assert content(tmp_path) == {f"y/{name}": "new" for name in whole("new")}


def test_killed_at_any_call_while_publishing(tmp_path):
    """Absent or whole, whichever file system call is the last one; the next publish sweeps what was left."""
    event = 0
    while killed_at(event, lambda: put(tmp_path / "y", "new")):
        assert not (tmp_path / "y").exists() or content(tmp_path / "y") == whole("new")
        put(tmp_path / "z", "other", replace=True)
        assert not [path for path in tmp_path.iterdir() if TEMPORARY.fullmatch(path.name)]
        if (tmp_path / "y").exists():
            remove(tmp_path / "y")
        event += 1
    assert event > 8
    assert content(tmp_path / "y") == whole("new")


def test_killed_at_any_call_while_replacing(tmp_path):
    """Old or new, and always whole."""
    put(tmp_path / "y", "old")
    event, seen = 0, set()
    while killed_at(event, lambda: put(tmp_path / "y", "new", replace=True)):
        assert content(tmp_path / "y") in (whole("old"), whole("new"))
        seen.add(content(tmp_path / "y")["a.txt"])
        put(tmp_path / "y", "old", replace=True)
        assert [path.name for path in tmp_path.iterdir()] == ["y"]
        event += 1
    assert seen == {"old", "new"}
    assert content(tmp_path / "y") == whole("new")


def test_killed_at_any_call_while_writing_a_file(tmp_path):
    """A reader sees all of the old or all of the new file."""
    path = tmp_path / "a.txt"
    path.write_text("old")
    event = 0
    while killed_at(event, lambda: write_file(path, b"new")):
        assert path.read_text() in ("old", "new")
        event += 1
    assert event > 3
    assert path.read_text() == "new"
    assert [item.name for item in tmp_path.iterdir()] == ["a.txt"]


def test_killed_while_removing(tmp_path):
    """A folder being deleted is whole under its name, or not there."""
    put(tmp_path / "y", "old")
    event = 0
    while killed_at(event, lambda: remove(tmp_path / "y")):
        if (tmp_path / "y").exists():
            assert content(tmp_path / "y") == whole("old")
        else:
            put(tmp_path / "y", "old")
        event += 1
    assert not (tmp_path / "y").exists()


def test_living_writers_are_not_swept(tmp_path):
    """Another publish beside a running one leaves its temporary alone, from this and from another process."""
    with publish(tmp_path / "y") as part:
        (part / "a.txt").write_text("new")
        put(tmp_path / "z", "other")
        assert forked(lambda: put(tmp_path / "w", "other")) == 0
        assert (part / "a.txt").exists()
    assert content(tmp_path / "y") == {"a.txt": "new"}


def test_foreign_hidden_files_are_not_swept(tmp_path):
    """Only names of our own form are ever deleted."""
    for name in (".y.part", ".git", ".y.0123.vqtok-part"):
        (tmp_path / name).mkdir()
    put(tmp_path / "y", "new")
    assert sorted(path.name for path in tmp_path.iterdir()) == [".git", ".y.0123.vqtok-part", ".y.part", "y"]


@pytest.mark.parametrize("replace", [False, True])
def test_full_disk(tmp_path, monkeypatch, replace):
    """The error names the place; the old folder stays, no temporary does."""
    if replace:
        put(tmp_path / "y", "old")

    def fsync(_):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", fsync)
    with pytest.raises(OSError, match="No space left on device: '.*y") as caught:
        put(tmp_path / "y", "new", replace=replace)
    assert caught.value.errno == 28
    assert content(tmp_path) == ({f"y/{name}": "old" for name in whole("old")} if replace else {})
    with pytest.raises(OSError, match="No space left"):
        write_file(tmp_path / "a.txt", b"new")
    assert not (tmp_path / "a.txt").exists()


def test_plain_write_errors_name_the_folder(tmp_path):
    """An error of a file's `write` does not know its file; it leaves with the folder's name."""
    with pytest.raises(OSError, match="No space left on device: '.*y'"), publish(tmp_path / "y"):
        raise OSError(28, "No space left on device")


def test_plain_write_errors_name_the_file(tmp_path, monkeypatch):
    """Nor does that of a file written alone."""

    def full(path, data):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(Path, "write_bytes", full)
    with pytest.raises(OSError, match="No space left on device: '.*a.bin'"):
        write_file(tmp_path / "a.bin", b"new")


def test_a_file_is_no_folder_to_replace(tmp_path):
    """A file, or a link, that stands where the folder shall be is refused and stays."""
    (tmp_path / "y").write_text("precious")
    (tmp_path / "z").symlink_to(tmp_path)
    for path in (tmp_path / "y", tmp_path / "z"):
        with pytest.raises(FileExistsError, match=f"exists already.*{path}"), publish(path, replace=True):
            pass
    assert (tmp_path / "y").read_text() == "precious" and (tmp_path / "z").is_symlink()


def test_write_file_writes_and_replaces(tmp_path):
    """Parents are made, bytes are kept."""
    path = tmp_path / "x" / "a.bin"
    for data in (b"\x00old", b"new"):
        write_file(path, data)
        assert path.read_bytes() == data
    assert [item.name for item in path.parent.iterdir()] == ["a.bin"]


def test_relative_paths_survive_a_change_of_folder(tmp_path, monkeypatch):
    """The place is fixed when the block begins."""
    (tmp_path / "x").mkdir()
    monkeypatch.chdir(tmp_path)
    with publish("y") as part:
        (part / "a.txt").write_text("new")
        monkeypatch.chdir(tmp_path / "x")
    assert Path(tmp_path / "y" / "a.txt").read_text() == "new"
