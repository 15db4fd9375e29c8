"""How training uses the codebook: choices learned from step by step, and counted over a number of steps.

The perplexity of one batch grows with the batch, and a process knows its own share only; so choices are
counted over windows of steps and added up, and the number of ids stands beside what follows from them.

Letters: b images, d width; i j grid of codes.
"""

import math
from collections import deque

import torch
from torch import Tensor, nn

from vqtok.tokenizers.quantizers.quantizer import Quantizer
from vqtok.tokenizers.quantizers.ranks import sum_over_ranks

LARGEST = 2**22  # codes; larger codebooks are not counted: no window would fill them


class CodebookUse(nn.Module):
    """Counts of the codes chosen in one window, alike on all processes: part of a run's checkpoints.

    Args:
        vocab: Ids run from 0 to vocab - 1.
    """

    def __init__(self, vocab: int) -> None:
        super().__init__()
        self.register_buffer("counts", torch.zeros(vocab if vocab <= LARGEST else 0, dtype=torch.int64))

    @torch.no_grad()
    def add(self, ids: Tensor) -> None:
        """Count ids of any shape, those of all processes."""
        if len(self.counts):
            self.counts += sum_over_ranks(torch.bincount(ids.flatten(), minlength=len(self.counts)))

    @torch.no_grad()
    def take(self) -> dict[str, float]:
        """Share of codes in use, entropy (bits), perplexity and number of ids; then the next window begins.

        Empty if nothing was counted.
        """
        total = int(self.counts.sum())
        if not total:
            return {}
        entropy = torch.special.entr(self.counts.double() / total).sum().item() / math.log(2)
        used = (self.counts > 0).sum().item() / len(self.counts)
        self.counts.zero_()
        found = {"usage": used, "entropy": entropy, "perplexity": 2**entropy, "ids": total}
        return {f"codebook/{name}": value for name, value in found.items()}


class Choices:
    """What one step has chosen, over its micro-batches: n of them teach as one n times as large does.

    Args:
        quantizer: What chooses.
        micro_batches: Micro-batches a step; the last so many are kept.
    """

    def __init__(self, quantizer: Quantizer, micro_batches: int) -> None:
        self.quantizer = quantizer
        self._ids: deque[Tensor] = deque(maxlen=micro_batches)
        self._vectors: deque[Tensor] = deque(maxlen=micro_batches)

    def see(self, vectors: Tensor, ids: Tensor) -> None:
        """Keep the ids (b, i, j) of a micro-batch, and its vectors (b, d, i, j) if they are learned from."""
        self._ids.append(ids)
        if self.quantizer.learns:
            self._vectors.append(vectors.detach())

    @property
    def ids(self) -> Tensor:
        """(b, i, j) of all micro-batches of the step."""
        return torch.cat([*self._ids])

    def learn(self, restart: bool) -> dict[str, float]:
        """After an optimizer step, let the quantizer learn; how many codes started again, by name."""
        if not self.quantizer.learns:
            return {}
        restarted = self.quantizer.learn(torch.cat([*self._vectors]), self.ids, restart=restart)
        return {"codebook/restarted": restarted}
