"""Published palettes: OpenAI's kmeans_centers.npy, and `clusters` in transformers' preprocessor_config.json.

Both hold colors in [-1, 1]. They belong to ImageGPT (Chen et al. 2020).

Letters: k colors.
"""

import io
import json
from pathlib import Path
from typing import Any

import numpy as np
import torch

from vqtok.storage.folders import write_file
from vqtok.storage.hub import OutOfReach, from_hub
from vqtok.storage.records import read_json
from vqtok.tokenizers.palette import PaletteTokenizer
from vqtok.tokenizers.published.files import config_of, names_file

CENTERS, PREPROCESSOR = "kmeans_centers.npy", "preprocessor_config.json"
MODEL = "imagegpt"  # the `model_type` of folders that hold a palette beside a transformer
SIZE = 32  # pixels a side where the files do not tell


def find_palette(source: str | Path) -> Path | None:
    """The file of a palette that `source` is or holds; None if it is or holds something else.

    Args:
        source: A file, a folder, or `owner/name` on the hub.

    Raises:
        ValueError: if a file is damaged, or the hub refuses.
    """
    place = Path(source)
    if place.is_file():
        return place if place.suffix == ".npy" or place.name == PREPROCESSOR else None
    found = [place / name for name in (CENTERS, PREPROCESSOR) if (place / name).is_file()]
    if not place.exists() and not names_file(source):
        found = _on_hub(str(source))
    return next((path for path in found if path.name == CENTERS or "clusters" in read_json(path)), None)


def read_palette(path: str | Path, size: int | None = None) -> PaletteTokenizer:
    """The palette in a file, in evaluation mode.

    Args:
        path: kmeans_centers.npy or preprocessor_config.json.
        size: Pixels a side of the images it is for; None takes what the file tells, else 32.

    Raises:
        ValueError: if the file is damaged, or holds no colors (k, 3) in [-1, 1].
    """
    path, told = Path(path), None
    if path.suffix == ".npy":
        colors = _array(path)
    else:
        settings = read_json(path)
        colors, told = settings.get("clusters"), _side(settings.get("size"))
    try:
        return PaletteTokenizer.of(torch.tensor(np.asarray(colors, np.float32)), size or told or SIZE)
    except (ValueError, TypeError) as error:
        raise ValueError(f"{path} holds no palette: {error}") from error


def write_centers(palette: PaletteTokenizer, path: str | Path) -> None:
    """Write colors (k, 3) in [-1, 1] as OpenAI's kmeans_centers.npy."""
    data = io.BytesIO()
    np.save(data, palette.colors.cpu().float().numpy(), allow_pickle=False)
    write_file(path, data.getvalue())


def write_preprocessor(palette: PaletteTokenizer, folder: str | Path) -> None:
    """Write preprocessor_config.json, from which transformers makes an `ImageGPTImageProcessor`."""
    side = palette.config.size
    settings = {
        "image_processor_type": "ImageGPTImageProcessor",
        "clusters": palette.colors.cpu().float().tolist(),
        "do_color_quantize": True,
        "do_normalize": True,
        "do_resize": True,
        "resample": 2,  # bilinear
        "size": {"height": side, "width": side},
    }
    write_file(Path(folder) / PREPROCESSOR, (json.dumps(settings, indent=1) + "\n").encode())


def _on_hub(source: str) -> list[Path]:
    """The settings of a model of this family on the hub; nothing of others, or where there is no network."""
    try:
        family = config_of(source).get("model_type")
        path = from_hub(source, PREPROCESSOR) if family == MODEL else None
    except OutOfReach:
        return []
    return [path] if path else []


def _array(path: Path) -> np.ndarray:
    try:
        return np.load(path, allow_pickle=False)
    except (ValueError, OSError, EOFError) as error:
        raise ValueError(f"{path} is truncated or no array of numbers ({error}): copy it again") from error


def _side(size: Any) -> int | None:
    """Pixels a side; older files give one number, newer ones height and width."""
    if isinstance(size, dict):
        size = size.get("height")
    return size if isinstance(size, int) else None
