"""A Clip as a whole: vectors, similarity, its folder."""

from dataclasses import replace

import pytest
import torch

from vqtok.clip import Clip, ClipConfig

CAPTIONS = ["red", "a blue square", "all is white"]


def test_vectors_have_length_one(clip, images):
    """Images and captions become unit vectors of one width, float32, which ask for no gradient."""
    for vectors, count in ((clip.embed_images(images), 5), (clip.embed_texts(CAPTIONS), 3)):
        assert vectors.shape == (count, 16) and vectors.dtype == torch.float32 and not vectors.requires_grad
        torch.testing.assert_close(vectors.norm(dim=1), torch.ones(count))


def test_similarity_is_the_cosine(clip, images):
    """Of every image to every caption; so is what a call gives."""
    expected = torch.nn.functional.cosine_similarity(
        clip.embed_images(images)[:, None], clip.embed_texts(CAPTIONS), dim=-1
    )
    torch.testing.assert_close(clip.similarity(images, CAPTIONS), expected)
    assert torch.equal(clip(images, CAPTIONS), clip.similarity(images, CAPTIONS))


def test_parts_make_the_whole(clip, images, monkeypatch):
    """However many go through a tower at once, the similarity is the same."""
    whole = clip(images, CAPTIONS)
    monkeypatch.setattr("vqtok.clip.model.BATCH", 2)
    torch.testing.assert_close(clip(images, CAPTIONS), whole, atol=1e-6, rtol=0)  # float32 sums


def test_other_sizes(clip):
    """Images of another size are scaled."""
    assert clip(torch.rand(2, 3, 48, 40), CAPTIONS).shape == (2, 3)


def test_saved_and_loaded(clip, images, tmp_path):
    """A folder gives back the same model, text tokenizer included."""
    clip.save_pretrained(tmp_path / "clip")
    loaded = Clip.from_pretrained(tmp_path / "clip")
    assert loaded.config == clip.config
    assert torch.equal(loaded(images, CAPTIONS), clip(images, CAPTIONS))


def test_missing_tensor(clip, tmp_path):
    """A folder of another shape is refused, naming the tensor."""
    clip.save_pretrained(tmp_path / "clip")
    towers = replace(clip.config.towers, width=8)
    Clip(ClipConfig(text=clip.config.text, towers=towers)).save_pretrained(tmp_path / "other")
    (tmp_path / "clip" / "config.json").write_bytes((tmp_path / "other" / "config.json").read_bytes())
    with pytest.raises(ValueError, match="towers.image.out.weight"):
        Clip.from_pretrained(tmp_path / "clip")


def test_empty_caption(clip):
    """A caption without words is refused, naming its row; so are no captions at all."""
    with pytest.raises(ValueError, match="caption 1"):
        clip.embed_texts(["red", "  "])
    with pytest.raises(ValueError, match="no captions"):
        clip.embed_texts([])


def test_long_caption(clip):
    """What is too long is read as far as there is room, and counted in one warning."""
    with pytest.warns(UserWarning, match="1 of 2 captions"):
        long = clip.embed_texts(["red", "red " * 40])
    assert torch.isfinite(long).all()


def test_unseen_characters(clip):
    """Characters that were never seen are read as unknown."""
    assert torch.isfinite(clip.embed_texts(["\u4e2d\u6587"])).all()
