"""Tensors in files: what `read_tensors` gives is what was written, and others may read it too."""

import os
from pathlib import Path

import torch

from vqtok.storage.tensors import read_tensors, write_tensors


def test_round_trip_and_permissions(tmp_path: Path) -> None:
    """Tensors come back bit for bit, from a file with the permissions of any other new file."""
    tensors = {"a": torch.randn(3, 4), "b": torch.arange(5)}
    write_tensors(tmp_path / "t.safetensors", tensors)
    (tmp_path / "plain").touch()
    found = read_tensors(tmp_path / "t.safetensors")
    assert sorted(found) == ["a", "b"]
    assert all(torch.equal(found[name], tensors[name]) for name in tensors)
    assert os.stat(tmp_path / "t.safetensors").st_mode == os.stat(tmp_path / "plain").st_mode
