"""Scorers by name: ours, and what is refused. Those of others are in tests/parity/test_clip.py."""

import sys

import pytest
import torch

from vqtok.clip import load_scorer


def test_ours(clip, images, tmp_path):
    """A folder of ours scores as the model that was saved there."""
    clip.save_pretrained(tmp_path / "clip")
    captions = ["red", "a blue square"]
    assert torch.equal(load_scorer(tmp_path / "clip")(images, captions), clip(images, captions))


@pytest.mark.parametrize(
    "name, told",
    [
        ("open_clip:ViT-B-32", "open_clip:ARCHITECTURE:TAG_OR_FILE"),
        ("open_clip::laion2b", "open_clip:ARCHITECTURE:TAG_OR_FILE"),
        ("hf:", "hf:NAME"),
        ("no/such/folder/anywhere", "neither a folder"),
    ],
)
def test_half_a_name(name, told):
    """A name that lacks a part, or leads nowhere, is refused with the way to write it."""
    with pytest.raises(ValueError, match=told):
        load_scorer(name)


@pytest.mark.parametrize(
    "name, module", [("open_clip:ViT-B-32:laion2b", "open_clip"), ("hf:openai/clip", "transformers")]
)
def test_missing_package(name, module, monkeypatch):
    """Where a package is missing, the error says what to install."""
    monkeypatch.setitem(sys.modules, module, None)
    with pytest.raises(ValueError, match=r"pip install 'vqtok\[clip\]'"):
        load_scorer(name)


def test_no_clip_of_transformers(tmp_path):
    """A folder that transformers cannot load is named."""
    pytest.importorskip("transformers")
    with pytest.raises(ValueError, match=f"{tmp_path}"):
        load_scorer(f"hf:{tmp_path}")
