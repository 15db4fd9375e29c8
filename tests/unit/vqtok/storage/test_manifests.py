"""A manifest marks a folder complete and tells truncation, change and loss."""

import json

import pytest

from vqtok.storage.manifests import read_manifest, sha256, write_manifest


@pytest.fixture
def folder(tmp_path):
    """Two files and their manifest."""
    (tmp_path / "sub").mkdir()
    (tmp_path / "rows.bin").write_bytes(bytes(range(100)))
    (tmp_path / "sub" / "facts.txt").write_text("x")
    write_manifest(tmp_path, {"vocab": 7})
    return tmp_path


def test_facts_and_files_come_back(folder):
    """Facts as given, every file with size and SHA-256, the manifest itself left out."""
    facts = read_manifest(folder)
    assert facts["vocab"] == 7
    assert facts["files"]["rows.bin"] == {"bytes": 100, "sha256": sha256(bytes(range(100)))}
    assert sorted(facts["files"]) == ["rows.bin", "sub/facts.txt"]


def test_sha256_of_bytes_and_files(folder):
    """The published test vector, and a file like its bytes."""
    assert sha256(b"abc") == "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad"
    assert sha256(folder / "rows.bin") == sha256(bytes(range(100)))


def test_truncated_file(folder):
    """Sizes are compared even without hashes."""
    (folder / "rows.bin").write_bytes(bytes(99))
    with pytest.raises(ValueError, match="rows.bin has 99 of 100 bytes"):
        read_manifest(folder, verify=False)


def test_changed_file(folder):
    """One flipped bit is found when hashes are asked for."""
    (folder / "rows.bin").write_bytes(b"\x01" + bytes(range(1, 100)))
    assert read_manifest(folder, verify=False)
    with pytest.raises(ValueError, match="rows.bin has changed"):
        read_manifest(folder)


def test_missing_file(folder):
    """The lost file is named."""
    (folder / "sub" / "facts.txt").unlink()
    with pytest.raises(ValueError, match="facts.txt is missing"):
        read_manifest(folder)


def test_missing_manifest(tmp_path):
    """A folder without a manifest was never finished."""
    with pytest.raises(ValueError, match="has no manifest.json, so it was never finished"):
        read_manifest(tmp_path)


@pytest.mark.parametrize(
    "text", ["{", "[]", "{}", '{"files": 3}', '{"files": {"a": 3}}', '{"files": {"a": {}}}']
)
def test_foreign_manifest(tmp_path, text):
    """Whatever else is called manifest.json is refused in one line."""
    (tmp_path / "manifest.json").write_text(text)
    with pytest.raises(ValueError, match="is no manifest of ours"):
        read_manifest(tmp_path)


def test_files_is_taken(tmp_path):
    """A fact may not hide the files."""
    with pytest.raises(ValueError, match="`files`"):
        write_manifest(tmp_path, {"files": []})


def test_again_after_more_files(folder):
    """A second manifest replaces the first."""
    (folder / "more.txt").write_text("y")
    write_manifest(folder, {})
    assert "more.txt" in read_manifest(folder)["files"]
    assert (
        json.loads((folder / "manifest.json").read_text())["files"].keys()
        == read_manifest(folder)["files"].keys()
    )
