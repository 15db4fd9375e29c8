"""A palette as a tokenizer: nearest colors, exact colors back, one format with OpenAI and transformers."""

import json
import shutil
from pathlib import Path

import numpy as np
import pytest
import torch

from vqtok.tokenizers import load_tokenizer
from vqtok.tokenizers.fingerprint import fingerprint
from vqtok.tokenizers.loading import import_tokenizer
from vqtok.tokenizers.palette import PaletteConfig, PaletteTokenizer
from vqtok.tokenizers.published.palettes import read_palette, write_centers, write_preprocessor


@pytest.fixture
def palette() -> PaletteTokenizer:
    """20 random colors, for images of 8 pixels a side."""
    return PaletteTokenizer.of(torch.rand(20, 3) * 2 - 1, size=8)


def test_a_pixel_is_its_nearest_color(palette: PaletteTokenizer):
    """By squared distance, as measured in float64 one by one; the image comes back in those colors."""
    images = torch.rand(2, 3, 6, 5)
    ids = palette.encode(images)
    pixels = (images.double() * 2 - 1).permute(0, 2, 3, 1)
    far = (pixels[..., None, :] - palette.colors.double()).square().sum(-1)
    assert ids.dtype == torch.int64 and torch.equal(ids, far.argmin(-1))
    decoded = palette.decode(ids)
    assert torch.equal(decoded.permute(0, 2, 3, 1), palette.colors[ids] / 2 + 0.5)


def test_its_own_colors_come_back(palette: PaletteTokenizer):
    """Every id decodes to a color that encodes to the same id."""
    ids = torch.arange(20).view(1, 4, 5)
    assert torch.equal(palette.encode(palette.decode(ids)), ids)


def test_what_it_tells(palette: PaletteTokenizer):
    """One pixel a token, as many tokens as pixels; it has colors and no more."""
    assert (palette.factor, palette.vocab, palette.tokens, palette.id_shape) == (1, 20, 64, ())
    assert [*palette.state_dict()] == ["colors"] and not any(p.requires_grad for p in palette.parameters())


def test_saved_and_loaded(palette: PaletteTokenizer, tmp_path: Path):
    """A folder of ours loads as the same tokenizer, fingerprint included."""
    palette.save_pretrained(tmp_path / "palette")
    loaded = load_tokenizer(tmp_path / "palette")
    assert isinstance(loaded, PaletteTokenizer) and loaded.config == palette.config
    assert torch.equal(loaded.colors, palette.colors) and fingerprint(loaded) == fingerprint(palette)


def test_no_gradient_trains_it(palette: PaletteTokenizer):
    """Its forward pass and a trainer's question for its inside say how it is fitted."""
    for ask in (lambda: palette(torch.rand(1, 3, 8, 8)), lambda: palette.inside):
        with pytest.raises(ValueError, match="not trained by gradient: fit it with"):
            ask()


@pytest.mark.parametrize("form", ["kmeans_centers.npy", "preprocessor_config.json"])
@pytest.mark.parametrize("folder", [False, True])
def test_published_files(form: str, folder: bool, palette: PaletteTokenizer, tmp_path: Path):
    """OpenAI's and transformers' files hold the same colors to the bit, and load by name or by folder."""
    if form.endswith("npy"):
        write_centers(palette, tmp_path / form)
        centers = np.load(tmp_path / form)
        assert centers.shape == (20, 3) and centers.dtype == np.float32
    else:
        write_preprocessor(palette, tmp_path)
    loaded = load_tokenizer(tmp_path if folder else tmp_path / form)
    assert torch.equal(loaded.colors, palette.colors)
    assert loaded.config.size == (32 if form.endswith("npy") else 8)


def test_older_settings(palette: PaletteTokenizer, tmp_path: Path):
    """Older files give the size as one number, and stand beside a transformer's config.json."""
    settings = {"clusters": palette.colors.tolist(), "size": 16}
    (tmp_path / "preprocessor_config.json").write_text(json.dumps(settings))
    (tmp_path / "config.json").write_text(json.dumps({"model_type": "imagegpt", "vocab_size": 21}))
    loaded = load_tokenizer(tmp_path)
    assert torch.equal(loaded.colors, palette.colors) and loaded.config.size == 16


def test_import(palette: PaletteTokenizer, tmp_path: Path):
    """`vqtok import` writes a folder of ours, with the size where the file does not tell."""
    write_centers(palette, tmp_path / "centers.npy")
    told = import_tokenizer(tmp_path / "centers.npy", tmp_path / "ours", size=28)
    assert told == "palette: 20 colors, for 28 pixels a side"
    assert torch.equal(load_tokenizer(tmp_path / "ours").colors, palette.colors)
    with pytest.raises(ValueError, match="low 0: colors of a palette are in"):
        import_tokenizer(tmp_path / "centers.npy", tmp_path / "ours", low=0.0)


@pytest.mark.parametrize(
    ("colors", "told"),
    [
        (torch.zeros(4, 4), r"colors are \(k, 3\), red, green and blue, not \(4, 4\)"),
        (torch.full((4, 3), 200.0), r"colors reach from 200 to 200, not within \[-1, 1\]: divide 8-bit"),
        (torch.full((4, 3), torch.nan), "colors reach from nan"),
    ],
)
def test_wrong_colors(colors: torch.Tensor, told: str, tmp_path: Path):
    """Shape and range are checked, wherever the colors come from; the file is named."""
    with pytest.raises(ValueError, match=told):
        PaletteTokenizer.of(colors)
    np.save(tmp_path / "colors.npy", colors.numpy())
    with pytest.raises(ValueError, match=rf"(?s)colors.npy holds no palette: {told}"):
        read_palette(tmp_path / "colors.npy")


def test_damaged_files(palette: PaletteTokenizer, tmp_path: Path):
    """A file that is cut short, or holds something else, is named."""
    write_centers(palette, tmp_path / "cut.npy")
    (tmp_path / "cut.npy").write_bytes((tmp_path / "cut.npy").read_bytes()[:-5])
    (tmp_path / "preprocessor_config.json").write_text('{"clusters": [[0, ')
    for name in ("cut.npy", "preprocessor_config.json"):
        with pytest.raises(ValueError, match=f"{name} is truncated"):
            load_tokenizer(tmp_path / name)
    (tmp_path / "preprocessor_config.json").write_text("{}")
    with pytest.raises(ValueError, match="preprocessor_config.json holds no palette"):
        read_palette(tmp_path / "preprocessor_config.json")
    with pytest.raises(ValueError, match="0 colors for 8 pixels a side: give at least 1"):
        PaletteConfig(codes=0, size=8)
    shutil.rmtree(tmp_path)
