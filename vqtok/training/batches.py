"""Which sample a process reads when: a pure function of the step, the same for any number of processes.

The global batch of step s is the samples s * batch to (s + 1) * batch - 1 of an endless order. It is cut into
equal slices; micro-batch m of process r among n takes slice m * n + r.
"""

import hashlib
from collections.abc import Iterator
from typing import Any, Protocol

import torch
from torch.utils.data import DataLoader


class Source(Protocol):
    """An endless, deterministic training order: sample number k of the run is `source[k]`."""

    def __getitem__(self, index: int, /) -> Any:
        """A tensor, or a tuple or dict of tensors, of one shape for all samples."""


class Slices:
    """The lists of sample numbers that one process reads, micro-batch by micro-batch.

    Args:
        batch: Samples a step, over all processes and micro-batches.
        rank: This process.
        processes: Processes in all.
        micro_batches: Micro-batches a step.

    Raises:
        ValueError: if the batch does not divide into processes times micro-batches.
    """

    def __init__(self, batch: int, rank: int, processes: int, micro_batches: int) -> None:
        parts = processes * micro_batches
        if batch < 1 or batch % parts:
            raise ValueError(
                f"batch {batch} does not divide into {processes} processes x {micro_batches} micro-batches: "
                f"make it a multiple of {parts}"
            )
        self.batch, self.rank, self.processes, self.micro_batches = batch, rank, processes, micro_batches
        self.size = batch // parts

    def __call__(self, step: int, micro: int) -> list[int]:
        """Sample numbers of micro-batch `micro` of step `step`."""
        start = step * self.batch + (micro * self.processes + self.rank) * self.size
        return list(range(start, start + self.size))


def load(source: Source, slices: Slices, steps: range, workers: int, pin: bool) -> Iterator[Any]:
    """Collated micro-batches of `steps`, one by one, read by `workers` processes (0: by this one)."""
    order = [(step, micro) for step in steps for micro in range(slices.micro_batches)]
    return iter(
        DataLoader(
            source,
            batch_sampler=_Lists(slices, order),
            num_workers=workers,
            pin_memory=pin,
            generator=torch.Generator(),  # its seed must not be drawn from the model's random numbers
        )
    )


def seed_of(*facts: int) -> int:
    """A seed in [0, 2^63) that depends on every one of `facts`."""
    return int.from_bytes(hashlib.blake2b(repr(facts).encode(), digest_size=8).digest()) >> 1


def seeds(seed: int, count: int) -> list[int]:
    """One for each sample, so that sample number k of a seed is the same in any batch."""
    return [seed_of(seed, number) for number in range(count)]


class _Lists:
    def __init__(self, slices: Slices, order: list[tuple[int, int]]) -> None:
        self.slices, self.order = slices, order

    def __iter__(self) -> Iterator[list[int]]:
        return (self.slices(step, micro) for step, micro in self.order)

    def __len__(self) -> int:
        return len(self.order)
