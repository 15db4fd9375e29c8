"""What stands before the first id and is given, not predicted: a start token, a class, or features of a text.

Letters: b batch, p places of the prefix, d width, f channels of features.

Sources: Chen et al. 2020 (ImageGPT's start token); Sun et al. 2024 (LlamaGen's classes and captions); Ho &
Salimans 2022 (leaving the condition out now and then, for guidance).
"""

from dataclasses import dataclass
from typing import Literal

import torch
import torch.nn.functional as F
from torch import Tensor, nn


@dataclass(frozen=True, kw_only=True)
class SOSConfig:
    """One learned vector that starts every sequence.

    Args:
        kind: Names this prefix in recipes.
    """

    kind: Literal["sos"] = "sos"

    @property
    def places(self) -> int:
        """Of the stream that the prefix takes."""
        return 1

    def parameters(self, width: int) -> int:
        """Learned numbers."""
        return width

    def build(self, width: int) -> "StartToken":
        """The module."""
        return StartToken(width)


@dataclass(frozen=True, kw_only=True)
class ClassesConfig:
    """One vector for every class, and one for no class.

    Args:
        kind: Names this prefix in recipes.
        classes: Class ids run from 0 to classes - 1; `classes` itself is no class.
        drop: Share of classes left out while training, so that guidance has something to compare with.
    """

    kind: Literal["classes"] = "classes"
    classes: int
    drop: float = 0.1

    def __post_init__(self) -> None:
        if self.classes < 1:
            raise ValueError(f"prefix.classes {self.classes} is below 1: count the classes of the data")
        _check_drop(self.drop)

    @property
    def places(self) -> int:
        """Of the stream that the prefix takes."""
        return 1

    def parameters(self, width: int) -> int:
        """Learned numbers."""
        return (self.classes + 1) * width

    def build(self, width: int) -> "ClassEmbedding":
        """The module."""
        return ClassEmbedding(self, width)


@dataclass(frozen=True, kw_only=True)
class FeaturesConfig:
    """Features of a text, or of anything else, projected to the stream's width.

    Args:
        kind: Names this prefix in recipes.
        tokens: Vectors of features, all of them given always.
        channels: Of one vector.
        drop: Share of sequences whose features are left out while training.
    """

    kind: Literal["features"] = "features"
    tokens: int
    channels: int
    drop: float = 0.1

    def __post_init__(self) -> None:
        if self.tokens < 1 or self.channels < 1:
            raise ValueError(
                f"a prefix of {self.tokens} features of {self.channels} channels: give 1 or more of both"
            )
        _check_drop(self.drop)

    @property
    def places(self) -> int:
        """Of the stream that the prefix takes."""
        return self.tokens

    def parameters(self, width: int) -> int:
        """Learned numbers."""
        return (self.tokens + width) * self.channels + width * width

    def build(self, width: int) -> "FeatureProjection":
        """The module."""
        return FeatureProjection(self, width)


PrefixConfig = SOSConfig | ClassesConfig | FeaturesConfig


class StartToken(nn.Module):
    """The same vector before every sequence."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.vector = nn.Parameter(torch.zeros(1, width))

    def forward(self, given: None, batch: int) -> Tensor:
        """(b, 1, d).

        Raises:
            ValueError: if a prefix is given.
        """
        if given is not None:
            raise ValueError("this model begins with its own start token: leave prefix out")
        return self.vector.expand(batch, 1, -1)


class ClassEmbedding(nn.Module):
    """The vector of a class, now and then that of no class while training."""

    def __init__(self, config: ClassesConfig, width: int) -> None:
        super().__init__()
        self.config = config
        self.table = nn.Embedding(config.classes + 1, width)

    def forward(self, given: Tensor | None, batch: int) -> Tensor:
        """(b, 1, d) of class ids (b,) in [0, classes].

        Raises:
            ValueError: if they are missing, of another shape or type, or outside (looked at on the CPU only).
        """
        self._check(given, batch)
        if self.training and self.config.drop:
            left_out = torch.rand(batch, device=given.device) < self.config.drop
            given = torch.where(left_out, self.config.classes, given)
        return self.table(given)[:, None]

    def absent(self, given: Tensor) -> Tensor:
        """The prefix that tells no class, as large as `given`."""
        return torch.full_like(given, self.config.classes)

    def _check(self, given: Tensor | None, batch: int) -> None:
        classes = self.config.classes
        way = f"give prefix=({batch},) int64 class ids below {classes}, or {classes} for no class"
        if given is None:
            raise ValueError(f"this model begins with a class: {way}")
        if given.shape != (batch,) or given.dtype not in (torch.int64, torch.int32):
            raise ValueError(f"prefix is {given.dtype} of shape {tuple(given.shape)}: {way}")
        if given.device.type == "cpu" and not torch.compiler.is_compiling():
            low, high = given.aminmax()
            if low < 0 or high > classes:
                raise ValueError(f"class {int(low if low < 0 else high)} is outside [0, {classes}]: {way}")


class FeatureProjection(nn.Module):
    """Two matrices with a GELU between them, for features or, now and then while training, learned ones."""

    def __init__(self, config: FeaturesConfig, width: int) -> None:
        super().__init__()
        self.config = config
        self.up = nn.Linear(config.channels, width, bias=False)
        self.out = nn.Linear(width, width, bias=False)
        self.nothing = nn.Parameter(torch.zeros(config.tokens, config.channels))

    def forward(self, given: Tensor | None, batch: int) -> Tensor:
        """(b, p, d) of features (b, p, f).

        Raises:
            ValueError: if they are missing or of another shape.
        """
        shape = (batch, self.config.tokens, self.config.channels)
        if given is None or given.shape != shape:
            found = "missing" if given is None else f"of shape {tuple(given.shape)}"
            raise ValueError(f"this model begins with features, and they are {found}: give prefix={shape}")
        given = given.to(self.nothing.dtype)
        if self.training and self.config.drop:
            left_out = torch.rand(batch, 1, 1, device=given.device) < self.config.drop
            given = torch.where(left_out, self.nothing, given)
        return self.out(F.gelu(self.up(given), approximate="tanh"))

    def absent(self, given: Tensor) -> Tensor:
        """The prefix that tells nothing, as large as `given`."""
        return self.nothing.expand_as(given)


def _check_drop(drop: float) -> None:
    if not 0 <= drop < 1:
        raise ValueError(f"prefix.drop {drop} is outside [0, 1): 0 leaves nothing out, 0.1 is usual")
