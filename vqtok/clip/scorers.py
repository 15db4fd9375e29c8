"""Anybody's CLIP behind one interface: ours, those of open_clip, those of transformers.

Letters: b images, n captions, d width of a model's shared space.
"""

from collections.abc import Sequence
from pathlib import Path
from typing import Any, Protocol

import torch
import torch.nn.functional as F
from torch import Tensor

from vqtok.clip.model import BATCH, Clip
from vqtok.clip.preparation import fitted


class Scorer(Protocol):
    """Says how well captions fit images."""

    def __call__(self, images: Tensor, captions: Sequence[str], /) -> Tensor:
        """Similarity (b, n) float in [-1, 1] of images (b, 3, h, w) in [0, 1] to captions."""
        ...


def load_scorer(name: str | Path, device: torch.device | str = "cpu") -> Scorer:
    """The scorer of a name.

    Args:
        name: `open_clip:ARCHITECTURE:WEIGHTS`, such as `open_clip:ViT-B-32:laion2b_s34b_b79k`, where weights
            are a tag that open_clip knows or a file; `hf:NAME`, a CLIP of transformers, such as
            `hf:openai/clip-vit-base-patch32` or a folder; else a Clip of ours, a folder or hub id.
        device: Where it computes.

    Raises:
        ValueError: if there is no such model, or its package is missing.
    """
    kind, _, rest = str(name).partition(":")
    if kind == "open_clip":
        architecture, _, weights = rest.partition(":")
        if not architecture or not weights:
            raise ValueError(f"{name} names no weights: write open_clip:ARCHITECTURE:TAG_OR_FILE")
        return OpenClip(architecture, weights, torch.device(device))
    if kind == "hf":
        if not rest:
            raise ValueError(f"{name} names no model: write hf:NAME, such as hf:openai/clip-vit-base-patch32")
        return TransformersClip(rest, torch.device(device))
    return Clip.from_pretrained(name).to(device)


class OpenClip:
    """A model of open_clip (Ilharco et al. 2021) as a `Scorer`."""

    def __init__(self, architecture: str, weights: str, device: torch.device) -> None:
        try:
            import open_clip  # of the extra `clip`
        except ImportError as error:
            raise ValueError(_missing("open_clip_torch", error)) from error
        if architecture not in open_clip.list_models():
            raise ValueError(f"open_clip has no {architecture!r}: choose one of open_clip.list_models()")
        try:
            self.model = open_clip.create_model(architecture, weights, device=device).eval()
            self.tokenizer = open_clip.get_tokenizer(architecture)
        except (RuntimeError, OSError) as error:
            raise ValueError(f"open_clip cannot load {weights!r} as {architecture}: {error}") from error
        visual = self.model.visual
        self.size = visual.image_size[0] if isinstance(visual.image_size, tuple) else visual.image_size
        self.mean, self.std = (_color(color, device) for color in (visual.image_mean, visual.image_std))

    @torch.no_grad()
    def __call__(self, images: Tensor, captions: Sequence[str]) -> Tensor:
        """Similarity (b, n)."""
        parts = [(fitted(part.to(self.mean.device), self.size) - self.mean) / self.std
                 for part in images.split(BATCH)]  # fmt: skip
        seen = torch.cat([self.model.encode_image(part, normalize=True) for part in parts])
        ids = self.tokenizer(list(captions)).to(self.mean.device)
        read = torch.cat([self.model.encode_text(part, normalize=True) for part in ids.split(BATCH)])
        return seen.float() @ read.float().T


class TransformersClip:
    """A CLIP of transformers as a `Scorer`; captions that are too long lose their ends, as is usual there."""

    def __init__(self, name: str, device: torch.device) -> None:
        try:
            from transformers import AutoTokenizer, CLIPImageProcessor, CLIPModel  # of the extra `clip`
        except ImportError as error:
            raise ValueError(_missing("transformers", error)) from error
        try:
            self.model = CLIPModel.from_pretrained(name).to(device).eval()
            self.tokenizer = AutoTokenizer.from_pretrained(name)
            prepared = CLIPImageProcessor.from_pretrained(name)
        except (OSError, ValueError, KeyError) as error:
            raise ValueError(f"transformers cannot load {name} as a CLIP: {error}") from error
        self.size = self.model.config.vision_config.image_size
        self.length = self.model.config.text_config.max_position_embeddings
        self.mean, self.std = (_color(color, device) for color in (prepared.image_mean, prepared.image_std))

    @torch.no_grad()
    def __call__(self, images: Tensor, captions: Sequence[str]) -> Tensor:
        """Similarity (b, n)."""
        return self._images(images) @ self._texts(captions).T

    def _images(self, images: Tensor) -> Tensor:
        """(b, d) of length 1."""
        model, found = self.model, []
        for part in images.split(BATCH):
            pixels = (fitted(part.to(self.mean.device), self.size) - self.mean) / self.std
            found.append(model.visual_projection(model.vision_model(pixels).pooler_output))
        return F.normalize(torch.cat(found).float(), dim=-1)

    def _texts(self, captions: Sequence[str]) -> Tensor:
        """(n, d) of length 1."""
        model, found = self.model, []
        for start in range(0, len(captions), BATCH):
            part: Any = self.tokenizer(
                list(captions[start : start + BATCH]),
                padding=True,
                truncation=True,
                max_length=self.length,
                return_tensors="pt",
            ).to(self.mean.device)
            read = model.text_model(part["input_ids"], attention_mask=part["attention_mask"])
            found.append(model.text_projection(read.pooler_output))
        return F.normalize(torch.cat(found).float(), dim=-1)


def _color(values: Sequence[float], device: torch.device) -> Tensor:
    """(3, 1, 1) of a number for each color."""
    return torch.tensor(values, device=device).view(3, 1, 1)


def _missing(package: str, error: ImportError) -> str:
    return f"{package} is needed and cannot be imported ({error}): pip install 'vqtok[clip]'"
