"""What quantizers exchange between processes, so that all of them keep one codebook.

One process is a world of one: it needs no process group, and nothing is sent.

Letters: n vectors of this rank, N vectors of all ranks, d width.
"""

import torch
import torch.distributed as distributed
from torch import Tensor


def sum_over_ranks(tensor: Tensor) -> Tensor:
    """Add up a tensor over all ranks, in place."""
    if _together():
        distributed.all_reduce(tensor)
    return tensor


def mean_over_ranks(tensor: Tensor) -> Tensor:
    """The mean of a tensor over ranks; each rank's gradient is its own, which data parallelism averages.

    So the gradient of f(mean), averaged over ranks, is that of one process with all the data.
    """
    if not _together():
        return tensor
    mean = sum_over_ranks(tensor.detach().clone()) / distributed.get_world_size()
    return mean + (tensor - tensor.detach())


def draw_rows(rows: Tensor, count: int) -> Tensor:
    """(count, d) of the rows (n, d) of all ranks, drawn by rank 0, the same on every rank and for any split.

    Without replacement where there are enough. The rows of rank 0 come first, then those of rank 1: processes
    that split a batch in this order draw what one process with the whole batch draws.
    """
    lengths = torch.zeros(_world(), dtype=torch.int64, device=rows.device)
    lengths[_rank()] = len(rows)
    sum_over_ranks(lengths)
    total, start = int(lengths.sum()), int(lengths[: _rank()].sum())
    if count <= total:
        drawn = torch.randperm(total, device=rows.device)[:count]
    else:
        drawn = torch.randint(total, (count,), device=rows.device)
    if _together():
        distributed.broadcast(drawn, src=0)
    ours = (start <= drawn) & (drawn < start + len(rows))
    found = rows.new_zeros(count, rows.shape[1])
    found[ours] = rows[drawn[ours] - start]
    return sum_over_ranks(found)


def _together() -> bool:
    return distributed.is_available() and distributed.is_initialized()


def _world() -> int:
    return distributed.get_world_size() if _together() else 1


def _rank() -> int:
    return distributed.get_rank() if _together() else 0
