"""Classifier-free guidance: how far scores are pushed away from the unconditional ones, token by token.

    scores = conditional + (scale - 1) (conditional - unconditional)

Scale 1 is no guidance. What the scale is at which token is a schedule, and each is a type of its own.

Letters: x place of the token among those drawn, 0 for the first and 1 for the last.

Sources: Ho & Salimans 2022 (guidance); Tian et al. 2024, VAR (linear); Gao et al. 2023, MDT, and Yu et al.
2024, RAR (power-cosine).
"""

import math
from dataclasses import dataclass


@dataclass(frozen=True, kw_only=True)
class Constant:
    """The same scale at every token.

    Args:
        scale: 1 is no guidance, and costs none.
    """

    scale: float

    def __post_init__(self) -> None:
        _check_scale(self.scale)

    def at(self, x: float) -> float:
        """The scale at place x."""
        return self.scale


@dataclass(frozen=True, kw_only=True)
class CutOff:
    """The same scale for the first tokens, then no guidance, and no unconditional pass either.

    Args:
        scale: Of the first tokens.
        share: Of the tokens, in [0, 1], that are guided.
    """

    scale: float
    share: float

    def __post_init__(self) -> None:
        _check_scale(self.scale)
        if not 0 <= self.share <= 1:
            raise ValueError(f"share {self.share} is outside [0, 1]: 0.5 guides the first half of the tokens")

    def at(self, x: float) -> float:
        """The scale at place x."""
        return self.scale if x < self.share or self.share == 1 else 1.0


@dataclass(frozen=True, kw_only=True)
class Linear:
    """From no guidance at the first token in a straight line to the scale at the last.

    Args:
        scale: Of the last token.
    """

    scale: float

    def __post_init__(self) -> None:
        _check_scale(self.scale)

    def at(self, x: float) -> float:
        """The scale at place x."""
        return 1 + (self.scale - 1) * x


@dataclass(frozen=True, kw_only=True)
class PowerCosine:
    """From no guidance to the scale along half a cosine wave of x ** power.

    Args:
        scale: Of the last token.
        power: Above 1 the rise comes late.
    """

    scale: float
    power: float = 1.0

    def __post_init__(self) -> None:
        _check_scale(self.scale)
        if not 0 < self.power < math.inf:
            raise ValueError(f"power {self.power} is outside (0, inf): 1 is half a cosine wave")

    def at(self, x: float) -> float:
        """The scale at place x."""
        return 1 + (self.scale - 1) * (1 - math.cos(math.pi * x**self.power)) / 2


Guidance = Constant | CutOff | Linear | PowerCosine


def scales(guidance: Guidance | None, count: int) -> list[float]:
    """The scale at each of `count` tokens; empty from the token on after which all are 1.

    So many tokens need an unconditional pass: none without guidance, none at a constant scale of 1.
    """
    if guidance is None:
        return []
    found = [guidance.at(place / max(count - 1, 1)) for place in range(count)]
    return found[: max((place + 1 for place, scale in enumerate(found) if scale != 1), default=0)]


def _check_scale(scale: float) -> None:
    if not 0 <= scale < math.inf:
        raise ValueError(f"scale {scale} is outside [0, inf): 1 is no guidance, 1.5 to 8 are usual")
