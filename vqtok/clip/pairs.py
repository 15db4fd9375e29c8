"""What a Clip learns from: pairs of a picture and its caption, in an endless order, each a little moved.

Letters: h w picture, t tokens of a caption, n pairs.
"""

from typing import Protocol

import numpy as np
import torch
import torch.nn.functional as F
from einops import rearrange
from torch import Tensor

from vqtok.clip.preparation import fitted
from vqtok.clip.towers import NONE, TowersConfig
from vqtok.data.order import shuffled
from vqtok.data.views import zoomed
from vqtok.text import TextTokenizer
from vqtok.training.batches import seed_of


class Pairs(Protocol):
    """Pictures with their captions, numbered from 0."""

    def __len__(self) -> int:
        """How many."""
        ...

    def __getitem__(self, index: int, /) -> tuple[np.ndarray, str]:
        """A picture (h, w, 3) uint8, and its caption."""
        ...


class Samples:
    """The training order: every pair once an epoch, a function of (seed, index).

    A sample is a picture (3, size, size) in [0, 1], its caption's ids (t,), a number that equal captions
    share, and whether the caption's end was cut.

    Args:
        pairs: Where from.
        tokenizer: Captions -> ids.
        config: Size of pictures, length of captions.
        crop: Smallest share of a picture's side that is shown.
        seed: Another seed is another order, and other crops.

    Raises:
        ValueError: if there are no pairs, or the share is none.
    """

    def __init__(
        self, pairs: Pairs, tokenizer: TextTokenizer, config: TowersConfig, crop: float = 1.0, seed: int = 0
    ) -> None:
        if not len(pairs):
            raise ValueError("there are no pairs to learn from: give some")
        if not 0 < crop <= 1:
            raise ValueError(f"crop {crop} is outside (0, 1]: a share of the picture's side, 1 shows all")
        self.pairs, self.tokenizer, self.config = pairs, tokenizer, config
        self.crop, self.seed = crop, seed

    def __getitem__(self, index: int) -> tuple[Tensor, Tensor, int, float]:
        """One sample."""
        pixels, caption = self.pairs[shuffled(index, len(self.pairs), self.seed)]
        ids, cut = caption_ids(self.tokenizer, caption, self.config.text.length)
        image = picture(pixels, self.config.size)
        if self.crop < 1:
            rng = np.random.default_rng((self.seed, index, 3))
            side = rng.uniform(self.crop, 1)
            image = zoomed(image, *rng.uniform(0, 1 - side, 2), side)
        return image, ids, caption_number(ids), float(cut)


def picture(pixels: np.ndarray, size: int) -> Tensor:
    """(3, size, size) in [0, 1] of (h, w, 3) uint8."""
    return fitted(torch.from_numpy(rearrange(pixels, "h w c -> 1 c h w") / np.float32(255)), size)[0]


def caption_ids(tokenizer: TextTokenizer, caption: str, length: int) -> tuple[Tensor, bool]:
    """Ids (length,) of a caption, -1 behind its end, and whether its end was cut."""
    ids = tokenizer.encode([caption]).ids[0]
    return F.pad(ids, (0, length - len(ids)), value=NONE), len(ids) > length  # a negative pad cuts


def caption_number(ids: Tensor) -> int:
    """A number that captions share if, and but for chance only if, the text tower reads the same."""
    return seed_of(*ids.tolist())


def held_out(
    pairs: Pairs, count: int, tokenizer: TextTokenizer, config: TowersConfig
) -> tuple[Tensor, list[str]]:
    """Images (n, 3, size, size) in [0, 1], up to `count` from anywhere among `pairs`, and their captions.

    The text tower reads no two of the captions as the same.

    Raises:
        ValueError: if there are fewer than two different captions, among which nothing could be mistaken.
    """
    found: dict[int, tuple[Tensor, str]] = {}
    for place in np.random.default_rng(0).permutation(len(pairs)).tolist():
        if len(found) >= count:
            break
        pixels, caption = pairs[place]
        number = caption_number(caption_ids(tokenizer, caption, config.text.length)[0])
        if number not in found:
            found[number] = (picture(pixels, config.size), caption)
    if len(found) < 2:
        raise ValueError(f"{len(found)} different captions are held out: give at least two to tell apart")
    images, captions = zip(*found.values(), strict=True)
    return torch.stack(images), list(captions)
