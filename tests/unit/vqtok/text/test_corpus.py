"""Captions out of text files."""

from pathlib import Path

import pytest

from vqtok.text.corpus import read_captions


def test_a_file(tmp_path: Path):
    """Every line is a caption; lines that have none are counted; a byte order mark is none."""
    path = tmp_path / "captions.txt"
    path.write_bytes("\ufeffa fox\r\n\n \u200d\nein Öl\u2028fleck".encode())
    captions, blank = read_captions(path)
    assert [caption.strip() for caption in captions] == ["a fox", "ein Öl\u2028fleck"] and blank == 2
    path.write_text("a fox\n")
    assert read_captions(path) == (["a fox"], 0)


def test_a_folder(tmp_path: Path):
    """All .txt at any depth, by name; hidden files and others are passed over."""
    (tmp_path / "b").mkdir()
    files = {"b/1.txt": "one", "a.txt": "two\nthree\n", ".c.txt": "no", "d.json": "no", "e.txt": ""}
    for name, text in files.items():
        (tmp_path / name).write_text(text)
    assert read_captions(tmp_path) == (["two", "three", "one"], 0)


def test_not_utf8(tmp_path: Path):
    """A file in another encoding is named, with the line and the byte; after a byte order mark, too."""
    path = tmp_path / "a.txt"
    for start in (b"", b"\xef\xbb\xbf"):
        path.write_bytes(start + b"fine\nalso fine\ncaf\xe9\n")
        with pytest.raises(ValueError, match=r"a.txt, line 3: byte 0xe9 is no UTF-8: save the file as UTF-8"):
            read_captions(tmp_path)


def test_nothing(tmp_path: Path):
    """No file, no captions."""
    with pytest.raises(ValueError, match="no file or folder .*nowhere: give captions, one a line"):
        read_captions(tmp_path / "nowhere")
    with pytest.raises(ValueError, match="has no captions in 0 files"):
        read_captions(tmp_path)
