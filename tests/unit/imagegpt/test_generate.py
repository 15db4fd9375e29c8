"""Filling holes: as many tokens a pass as the schedule says, the surest first, chance that fades."""

import math
from collections.abc import Callable

import torch
from torch import Tensor

from imagegpt.generate import filled
from imagegpt.model import ImageGPT
from imagegpt.network import Network
from vqtok.gpt.sampling import Sampling
from vqtok.training.batches import seeds


class Watched:
    """A network that notes what is hidden from it."""

    def __init__(self, network: Network) -> None:
        self.network, self.hidden = network, []

    def __call__(self, ids: Tensor, hidden: Tensor) -> tuple[Tensor, Tensor | None]:
        """As the network."""
        self.hidden.append(hidden.clone())
        return self.network(ids, hidden=hidden)


def test_the_schedule(build: Callable[..., ImageGPT], ids: Tensor):
    """After pass s of S, floor(n cos(pi s / 2 S)) of a picture's n hidden tokens are; none comes back."""
    watched = Watched(build("both").network)
    hidden = torch.zeros_like(ids, dtype=torch.bool)
    hidden[:, 3:] = True
    hidden[0, 9:] = False
    drawn = filled(watched, ids, hidden, 5, Sampling(), seeds(0, 5))
    for number, left in enumerate(watched.hidden):
        share = math.cos(math.pi / 2 * number / 5)
        assert left.sum(1).tolist() == [math.floor(n * share) for n in hidden.sum(1).tolist()]
        assert not (left & ~hidden).any() and (number == 0 or not (left & ~watched.hidden[number - 1]).any())
    assert torch.equal(drawn[~hidden], ids[~hidden])


def test_the_surest_first(build: Callable[..., ImageGPT], ids: Tensor):
    """Without chance, a pass keeps the tokens of highest probability, each the likeliest one."""
    network = build("both").network
    hidden = torch.ones_like(ids, dtype=torch.bool)
    watched = Watched(network)
    drawn = filled(watched, ids, hidden, 4, Sampling(temperature=0.0), seeds(0, 5))
    best, choice = network(ids, hidden=hidden)[0].log_softmax(-1).view(5, 16, 6).max(-1)
    kept = ~watched.hidden[1]
    assert torch.equal(drawn[kept], choice[kept])
    for row in range(5):
        assert best[row][kept[row]].min() >= best[row][~kept[row]].max()


def test_one_pass(build: Callable[..., ImageGPT], ids: Tensor):
    """It fills all at once, as the model scores them."""
    network = build("both").network
    hidden = ids < 3
    drawn = filled(network, ids, hidden, 1, Sampling(temperature=0.0), seeds(0, 5))
    assert torch.equal(drawn[hidden], network(ids, hidden=hidden)[0].argmax(-1))


def test_nothing_hidden(build: Callable[..., ImageGPT], ids: Tensor):
    """A picture without a hole stays, beside one that is all hole."""
    hidden = torch.zeros_like(ids, dtype=torch.bool)
    hidden[2] = True
    drawn = filled(build("both").network, ids, hidden, 3, Sampling(), seeds(0, 5))
    assert torch.equal(drawn[[0, 1, 3, 4]], ids[[0, 1, 3, 4]])
