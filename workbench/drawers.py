"""What draws pictures for the command line, whatever family its weights are of.

A folder's config.json says which: a DDPM has a process, a DALL-E places of text, an ImageGPT a transformer
alone. Each takes options of its own, and refuses the others'.

Letters: b pictures, c channels, h w pixels.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Protocol

import torch
from einops import rearrange
from torch import Tensor

from dalle import Dalle
from diffusion import DDPM
from diffusion.drawing import DDIM, SAMPLERS
from diffusion.inpainting import RePaint
from imagegpt import ImageGPT
from vqtok.gpt import Sampling
from vqtok.gpt.guidance import Constant
from vqtok.storage.pretrained import read_settings


@dataclass(frozen=True, kw_only=True)
class Choices:
    """How pictures are drawn; what is None was not asked for.

    Args:
        seed: Of the draws.
        guidance: How far to push away from what is drawn without a class.
        temperature: Of tokens.
        top_k: Of tokens.
        top_p: Of tokens.
        sampler: Of noise, by name.
        steps: From noise to picture.
        caption: What pictures show, one or more.
    """

    seed: int = 0
    guidance: float | None = None
    temperature: float | None = None
    top_k: int | None = None
    top_p: float | None = None
    sampler: str | None = None
    steps: int | None = None
    caption: Sequence[str] | None = None

    def refuse(self, names: Sequence[str], family: str) -> None:
        """Raise a ValueError if one of these was asked for."""
        asked = [f"--{name.replace('_', '-')}" for name in names if getattr(self, name) is not None]
        if asked:
            raise ValueError(f"{', '.join(asked)}: {family} takes no such thing; leave it out")


class Drawer(Protocol):
    """Draws pictures, and what is missing of some."""

    size: int

    def sample(self, count: int, classes: Sequence[str]) -> Tensor:
        """(count, c, h, w) in [0, 1], classes in turn."""

    def hidden(self, rows: int | None, hole: Sequence[int] | None) -> Tensor:
        """(h, w) bool, the pixels that will be drawn."""

    def complete(self, images: Tensor, hidden: Tensor, candidates: int) -> Tensor:
        """(b candidates, c, h, w): images with these pixels drawn, those of one side by side."""


def drawer(model: str, choices: Choices) -> Drawer:
    """What a folder or hub id holds, on a GPU if there is one.

    Raises:
        ValueError: if it is no model that draws, or an option is another family's.
    """
    settings = read_settings(model)
    device = "cuda" if torch.cuda.is_available() else "cpu"
    if "process" in settings:
        return NoiseDrawer(DDPM.from_pretrained(model).to(device), choices)
    if "text_length" in settings:
        return CaptionDrawer(Dalle.from_pretrained(model).to(device), choices)
    return TokenDrawer(ImageGPT.from_pretrained(model).to(device), choices)


class TokenDrawer:
    """An ImageGPT: after the top rows if it sees the past, into a hole if it sees both sides.

    Args:
        model: What draws.
        choices: How.
    """

    def __init__(self, model: ImageGPT, choices: Choices) -> None:
        choices.refuse(("sampler", "steps", "caption"), "an ImageGPT")
        self.model, self.seed, self.size = model, choices.seed, model.tokenizer.config.size
        scale = choices.guidance
        guidance = None if scale in (None, 1) else Constant(scale=scale)
        self.sampling = replace(_sampling(choices), guidance=guidance)

    def sample(self, count: int, classes: Sequence[str]) -> Tensor:
        """(count, c, h, w) in [0, 1], classes in turn."""
        return self.model.sample(count, self.sampling, self.seed, classes)

    def hidden(self, rows: int | None, hole: Sequence[int] | None) -> Tensor:
        """(h, w) bool; rows are of codes. Half of them, or the middle, where nothing is said."""
        causal = self.model.config.gpt.causal
        if (hole if causal else rows) is not None:
            told = "rows: it completes what is above" if causal else "a hole: it sees both sides"
            raise ValueError(f"this model takes {told}; leave the other one out")
        if not causal:
            return opened(self.size, hole)
        rows = self.model.layout.shape[0] // 2 if rows is None else rows
        return below(self.size, rows * self.model.tokenizer.factor)

    def complete(self, images: Tensor, hidden: Tensor, candidates: int) -> Tensor:
        """(b candidates, c, h, w)."""
        if self.model.config.gpt.causal:
            rows = int((~hidden[:, 0]).sum()) // self.model.tokenizer.factor
            return self.model.complete(images, rows, self.sampling, self.seed, candidates=candidates)
        repeated = images.repeat_interleave(candidates, dim=0)
        return self.model.fill(repeated, hidden, sampling=self.sampling, seed=self.seed)


class CaptionDrawer:
    """A DALL-E: captions stand in the place of classes.

    Args:
        model: What draws.
        choices: How; guidance is 3 unless said.
    """

    def __init__(self, model: Dalle, choices: Choices) -> None:
        choices.refuse(("sampler", "steps"), "a DALL-E")
        self.captions = list(choices.caption or ())
        if not self.captions:
            raise ValueError("a DALL-E draws what a caption says: give --caption")
        self.model, self.sampling, self.size = model, _sampling(choices), model.config.tokenizer.size
        scale = 3.0 if choices.guidance is None else choices.guidance
        self.chance = {"seed": choices.seed, "guidance": scale, "sampling": self.sampling}

    def sample(self, count: int, classes: Sequence[str]) -> Tensor:
        """(count, c, h, w) in [0, 1], captions in turn."""
        if list(classes) != self.captions:
            raise ValueError("a DALL-E knows captions and no classes: leave --class out")
        images = self.model.generate(self.captions, count // len(self.captions), **self.chance)
        return rearrange(images, "(b n) c h w -> (n b) c h w", b=len(self.captions))

    def hidden(self, rows: int | None, hole: Sequence[int] | None) -> Tensor:
        """(h, w) bool; rows are of codes. The lower half, where nothing is said."""
        if hole is not None:
            raise ValueError("this model takes rows: it completes what is above; leave the hole out")
        rows = self.model.layout.shape[0] // 2 if rows is None else rows
        return below(self.size, rows * self.model.tokenizer.factor)

    def complete(self, images: Tensor, hidden: Tensor, candidates: int) -> Tensor:
        """(b candidates, c, h, w), by one caption for all, or one for each."""
        rows = int((~hidden[:, 0]).sum()) // self.model.tokenizer.factor
        captions = self.captions * len(images) if len(self.captions) == 1 else self.captions
        return self.model.complete(images, captions, rows, candidates, **self.chance)


class NoiseDrawer:
    """A DDPM.

    Args:
        model: What draws.
        choices: How.
    """

    def __init__(self, model: DDPM, choices: Choices) -> None:
        choices.refuse(("temperature", "top_k", "top_p", "caption"), "a DDPM")
        self.model, self.choices, self.size = model, choices, model.config.size
        kind = SAMPLERS[choices.sampler or DDIM.kind]
        self.sampler = kind() if choices.steps is None else kind(steps=choices.steps)

    def sample(self, count: int, classes: Sequence[str]) -> Tensor:
        """(count, c, h, w) in [0, 1], classes in turn."""
        seed, guidance = self.choices.seed, self.choices.guidance
        return self.model.sample(count, self.sampler, seed, classes, guidance, progress=True)

    def hidden(self, rows: int | None, hole: Sequence[int] | None) -> Tensor:
        """(h, w) bool; rows are of pixels. The lower half, where nothing is said."""
        if hole is not None:
            if rows is not None:
                raise ValueError("rows or a hole: give one of them")
            return opened(self.size, hole)
        return below(self.size, self.size // 2 if rows is None else rows)

    def complete(self, images: Tensor, hidden: Tensor, candidates: int) -> Tensor:
        """(b candidates, c, h, w)."""
        repaint = RePaint() if self.choices.steps is None else RePaint(steps=self.choices.steps)
        gray = self.model.config.network.in_channels == 1
        images = images.mean(1, keepdim=True) if gray else images
        repeated = images.repeat_interleave(candidates, dim=0)
        seed = self.choices.seed
        return self.model.complete(repeated, known=~hidden, repaint=repaint, seed=seed, progress=True)


def _sampling(choices: Choices) -> Sampling:
    """How tokens are drawn, guidance apart."""
    heat = 1.0 if choices.temperature is None else choices.temperature
    return Sampling(temperature=heat, top_k=choices.top_k, top_p=choices.top_p)


def below(size: int, rows: int) -> Tensor:
    """(h, w) bool: all but so many rows from the top."""
    if not 0 <= rows < size:
        raise ValueError(f"{rows} rows of pixels cannot be kept of {size}: keep 0 to {size - 1}")
    return torch.arange(size).ge(rows)[:, None].expand(size, size)


def opened(size: int, hole: Sequence[int] | None) -> Tensor:
    """(h, w) bool: from top, left to bottom, right, or the middle.

    Raises:
        ValueError: if that does not lie inside.
    """
    top, left, bottom, right = hole or [size // 4, size // 4, size - size // 4, size - size // 4]
    if not (0 <= top < bottom <= size and 0 <= left < right <= size):
        raise ValueError(f"hole {top} {left} {bottom} {right} does not lie in {size}x{size} pixels")
    hidden = torch.zeros(size, size, dtype=torch.bool)
    hidden[top:bottom, left:right] = True
    return hidden
