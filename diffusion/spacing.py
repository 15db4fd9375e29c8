"""Which times a sampler visits: pairs (t, s), computed once, that lead from T or near it to 0.

With T = 1000 and 4 steps the times t are

    trailing     1000  750  500  250    from T down, T / steps apart
    linspace     1000  667  334    1    both ends, evenly between
    leading       751  501  251    1    from 1 up, floor(T / steps) apart: does not start at T
    quadratic    1000  460  125    1    square roots evenly spaced: denser where there is little noise

and each pair's s is the t of the next, the last one's 0. No step is found by subtracting a stride.

Letters: T steps of the process, t, s times with s < t.

Sources: Nichol & Dhariwal 2021 (linspace); Song et al. 2021, DDIM (leading, quadratic); Lin et al. 2023,
table 2 (all names, and why trailing).
"""

import math
from collections.abc import Iterable
from typing import Literal, get_args

Spacing = Literal["trailing", "linspace", "leading", "quadratic"]
Pairs = list[tuple[int, int]]  # (t, s), from noise to picture


def spaced(total: int, steps: int, spacing: Spacing = "trailing") -> Pairs:
    """Pairs (t, s) of `steps` steps, from noise to picture; the last s, and only that, is 0.

    Args:
        total: T.
        steps: At most T; T visits all times, whatever the spacing.
        spacing: How times lie, see above.

    Raises:
        ValueError: if steps are none or more than T, or the spacing is unknown.
    """
    if steps != int(steps) or not 1 <= steps <= total:
        raise ValueError(f"steps {steps} is outside [1, {total}]: there are {total} times to visit")
    if spacing == "trailing":
        times = [round(total - place * total / steps) for place in range(steps)]
    elif spacing == "leading":
        times = [1 + place * (total // steps) for place in range(steps)][::-1]
    elif spacing == "linspace":
        times = _linspace(total, steps)
    elif spacing == "quadratic":
        times = _quadratic(total, steps)
    else:
        raise ValueError(f"spacing {spacing!r} is none of {', '.join(get_args(Spacing))}")
    return pairs(times)


def pairs(times: Iterable[int]) -> Pairs:
    """Pairs (t, s) through these times of a sampler, from noise to picture, and on to 0.

    Raises:
        ValueError: if the times do not fall, or reach below 1.
    """
    chain = [*times, 0]
    if len(chain) < 2 or any(s >= t for t, s in zip(chain, chain[1:], strict=False)):
        raise ValueError(f"times {chain[:-1]} do not fall from one to the next and end at 1 or above")
    return list(zip(chain, chain[1:], strict=False))


def _linspace(total: int, steps: int) -> list[int]:
    """Falling, from T to 1; a single step starts at T. Rounded from 0-based times, as published code does."""
    if steps == 1:
        return [total]
    return [1 + round(place * (total - 1) / (steps - 1)) for place in reversed(range(steps))]


def _quadratic(total: int, steps: int) -> list[int]:
    """Falling; where rounding would visit a time twice, the next is taken."""
    times: list[int] = []
    for place in range(steps):
        root = 1 + (math.sqrt(total) - 1) * (place / (steps - 1) if steps > 1 else 1)
        times.append(max(round(root**2), times[-1] + 1 if times else 1))
    return times[::-1]
