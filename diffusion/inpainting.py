"""RePaint: fill in what is unknown of pictures, with a network that was trained on whole ones.

A step backwards draws all pixels; then the known ones are replaced by the given picture with the noise of
time s. What is drawn and what is given are joined so late that they fit badly, so the chain goes some steps
forward again, which mixes both, and back once more, several times.

Letters: b batch, c h w picture; t, s times.

Source: Lugmayr et al. 2022, RePaint, algorithm 1 and its jumps of several steps.
"""

from dataclasses import dataclass

import torch
from torch import Tensor

from diffusion.conditioning import Network, conditioned
from diffusion.noise import Noise
from diffusion.pixels import signed, unsigned
from diffusion.process import Process
from diffusion.samplers import PLAIN, Options, check_pairs, step_back
from diffusion.spacing import Pairs, spaced


@dataclass(frozen=True, kw_only=True)
class RePaint:
    """How long is walked.

    Args:
        steps: From noise to picture.
        length: Steps of a stretch that is walked again.
        visits: How often each stretch is walked, so that what is drawn fits what is kept; the paper's is 10.
    """

    steps: int = 50
    length: int = 10
    visits: int = 5

    def moves(self, process: Process) -> tuple[Pairs, Pairs]:
        """Steps (t, s), and the moves that are made of them; raises ValueError if there are too many."""
        pairs = spaced(process.steps, self.steps)
        return pairs, jumps(pairs, min(self.length, self.steps), self.visits)


def jumps(pairs: Pairs, length: int = 10, visits: int = 10) -> Pairs:
    """The moves (from, to) of RePaint: those of `pairs`, and jumps back to noise between them.

    Args:
        pairs: Steps (t, s), of `diffusion.spacing`.
        length: Steps that a jump goes back up, one move each.
        visits: How often each stretch of so many steps is walked down; 1 jumps nowhere.

    Returns:
        Moves that follow one another; the last, and only that, goes to 0.

    Raises:
        ValueError: if length or visits are below 1.
    """
    if min(length, visits) < 1:
        raise ValueError(f"length {length} and visits {visits} must be at least 1: the paper has 10 of both")
    chain = [0, *(t for t, _ in reversed(pairs))]  # times, from the picture up
    left = {place: visits - 1 for place in range(1, len(pairs) - length + 1, length)}
    moves: Pairs = []
    place = len(pairs)
    while place:
        moves.append((chain[place], chain[place - 1]))
        place -= 1
        if left.get(place, 0):
            left[place] -= 1
            moves += [(chain[up], chain[up + 1]) for up in range(place, place + length)]
            place += length
    return moves


@torch.no_grad()
def inpaint(
    process: Process,
    network: Network,
    images: Tensor,
    known: Tensor,
    noise: Noise,
    pairs: Pairs,
    moves: Pairs | None = None,
    options: Options = PLAIN,
) -> Tensor:
    """Pictures whose known pixels are the given ones, and whose others are drawn to fit.

    Args:
        process: Schedule, target and variance.
        network: (x_t, t, labels) -> output.
        images: (b, c, h, w) in [0, 1]; pixels that are not known are not read, but must be in range.
        known: bool, true where a pixel is kept; (b, c, h, w), or 1 in the place of b or c.
        noise: Of the images' shape.
        pairs: Steps (t, s).
        moves: What `jumps` made of the pairs; None takes its defaults.
        options: As of any sampler.

    Returns:
        (b, c, h, w) float32 in [0, 1].

    Raises:
        ValueError: if images, mask, noise or pairs do not go together.
    """
    x_0 = signed(images)
    check_pairs(process, pairs)
    moves = jumps(pairs) if moves is None else moves
    sizes = [(1, b) for b in images.shape[:2]] + [(side,) for side in images.shape[2:]]
    fits = known.ndim == 4 and all(side in allowed for side, allowed in zip(known.shape, sizes, strict=True))
    if known.dtype != torch.bool or not fits:
        raise ValueError(
            f"known is {known.dtype} of shape {tuple(known.shape)}: give bool of shape "
            f"{tuple(images.shape)}, or with 1 in the place of the batch or the channels"
        )
    if noise.shape != images.shape:
        raise ValueError(f"noise is of shape {noise.shape}, images are {tuple(images.shape)}")
    ask = conditioned(network, options.labels, options.guidance, len(images))
    x_0 = x_0.to(noise.device, noise.dtype)
    known = known.to(noise.device)
    x = noise.draw()
    for t, s in options.progress(moves):
        if s > t:
            x = process.diffuse(x, s, noise.draw(), t)
            continue
        drawn = step_back(process.split(ask(x, t), x, t, s, options.correction), s, noise)
        given = process.diffuse(x_0, s, noise.draw()) if s else x_0
        x = given.where(known, drawn)
    return images.float().where(known.to(images.device), unsigned(x).to(images.device))
