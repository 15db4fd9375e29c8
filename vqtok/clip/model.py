"""Clip: a text tokenizer and two towers that put images and captions where their likes are.

Radford et al. 2021. Used to choose among drawn images, to measure how well they fit their captions, and as
the space between text and image of unCLIP (Ramesh et al. 2022).

Letters: b images, n captions, d width of the shared space.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field

import torch
from torch import Tensor, nn

from vqtok.clip.preparation import fitted
from vqtok.clip.towers import Towers, TowersConfig
from vqtok.storage.pretrained import Pretrained
from vqtok.text import TextConfig, TextTokenizer

BATCH = 256  # images or captions that go through a tower at once


@dataclass(frozen=True, kw_only=True)
class ClipConfig:
    """The parts of a Clip.

    Args:
        text: Captions <-> ids.
        towers: The networks.
    """

    text: TextConfig
    towers: TowersConfig = field(default_factory=TowersConfig)


class Clip(nn.Module, Pretrained):
    """Images (b, 3, h, w) in [0, 1] and captions -> vectors of length 1, near where they fit; a `Scorer`."""

    def __init__(self, config: ClipConfig) -> None:
        super().__init__()
        self.config = config
        self.text = TextTokenizer(config.text)
        self.towers = Towers(config.towers, config.text.vocab)

    @property
    def device(self) -> torch.device:
        """Where it computes."""
        return self.towers.log_scale.device

    @torch.no_grad()
    def embed_images(self, images: Tensor) -> Tensor:
        """(b, d) of length 1; images of other sizes are scaled, and cut if they are not square.

        Raises:
            ValueError: if they are not float (b, 3, h, w).
        """
        size = self.config.towers.size
        parts = (fitted(part.to(self.device), size) for part in images.split(BATCH))
        return torch.cat([self.towers.images(part) for part in parts])

    @torch.no_grad()
    def embed_texts(self, captions: Sequence[str]) -> Tensor:
        """(n, d) of length 1; of captions that are too long the ends are not read, with one warning.

        Raises:
            ValueError: if a caption is empty, or there are none.
        """
        if not len(captions):
            raise ValueError("there are no captions: give at least one")
        ids = self.text.encode(captions).ids
        if ids.shape[1] > self.config.towers.text.length:
            ids = self.text.encode(captions, self.config.towers.text.length).ids  # which counts and warns
        return torch.cat([self.towers.texts(part.to(self.device)) for part in ids.split(BATCH)])

    def similarity(self, images: Tensor, captions: Sequence[str]) -> Tensor:
        """Cosine (b, n) in [-1, 1] of every image to every caption."""
        return self.embed_images(images) @ self.embed_texts(captions).T

    def forward(self, images: Tensor, captions: Sequence[str]) -> Tensor:
        """`similarity`: what any `Scorer` gives."""
        return self.similarity(images, captions)
