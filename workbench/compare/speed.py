"""Time and memory of several ways to do the same thing, measured so that the ratios can be trusted.

All contestants of a case, the ceiling too, take turns in one process (A B C A B C ...), so that whatever
else the machine does falls on all of them. On a CPU the time is that of all threads together, which another
process's load changes far less than the clock's; on a GPU it is that between two events. Ratios are medians
of the ratios within a turn. Memory is measured in a process of its own for each, by `memory.py`.
"""

import statistics
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

import torch

from workbench.compare.machine import described, require
from workbench.compare.memory import growth_in_a_process
from workbench.compare.sections import table

Call = Callable[[], object]


@dataclass(frozen=True, kw_only=True)
class Contestant:
    """One way to do it.

    Args:
        prepare: From a case and a device to the call that is measured, with everything built that is not;
            None where it takes no part. What it needs of its package it imports itself.
        package: Distribution that it comes from.
    """

    prepare: Callable[[Any, torch.device], Call | None]
    package: str = "torch"


@dataclass(frozen=True, kw_only=True)
class Comparison:
    """Contestants and the cases they meet in.

    Args:
        about: What one call does, for the reader of the tables.
        cases: Whatever the contestants understand, by the title of its table.
        contestants: By the name of their row.
        ours: The contestant that others are compared with.
        ceiling: The contestant that does less than the task needs.
        unit: Bytes of a case that memory is compared with.
        unit_name: What has so many bytes.
        toy: From a case to the same one, tiny.
        rate: What one call handles, for a column that tells how much of it a second; None for no such column.
        rate_name: What is counted there, such as tokens/s.
    """

    about: str
    cases: Mapping[str, Any]
    contestants: Mapping[str, Contestant]
    ours: str
    ceiling: str
    unit: Callable[[Any], float]
    unit_name: str
    toy: Callable[[Any], Any]
    rate: Callable[[Any], float] | None = None
    rate_name: str = ""

    @property
    def packages(self) -> list[str]:
        """Distributions that take part, ours first."""
        return [
            "vqtok",
            *sorted({contestant.package for contestant in self.contestants.values()} - {"vqtok"}),
        ]


@dataclass(frozen=True)
class Timing:
    """Milliseconds of each turn: of all CPU threads or of the GPU, and by the clock."""

    work: list[float] = field(default_factory=list)
    wall: list[float] = field(default_factory=list)


def compare(module: str, comparison: Comparison, device: torch.device, rounds: int, toy: bool = False) -> str:
    """Measure everybody in every case, and tell it in Markdown.

    Args:
        module: Where the comparison stands, for the processes that measure memory.
        comparison: What is compared.
        device: Where.
        rounds: Turns of each contestant.
        toy: Take the tiny cases.

    Raises:
        ValueError: if a package to compare with is not installed.
    """
    require(comparison.packages)
    clock = "CPU time of all threads" if device.type == "cpu" else "GPU time"
    parts = [
        f"{described(device, comparison.packages)}. {comparison.about} {clock}, median of {rounds} "
        f"interleaved turns [quartiles]; ratios are medians over the turns; memory is the growth of the "
        f"peak in a process of its own, beside inputs and weights, in units of {comparison.unit_name}."
    ]
    for title, case in comparison.cases.items():
        case, size = (comparison.toy(case), " at toy size") if toy else (case, "")
        timings = _timings(comparison, case, device, rounds)
        where = (device, torch.get_num_threads(), toy)
        bytes_of = {name: growth_in_a_process(module, title, name, *where) for name in timings}
        parts.append(f"**{title}{size}**\n\n{_table(comparison, case, device, timings, bytes_of)}")
    return "\n\n".join(parts)


def _timings(comparison: Comparison, case: Any, device: torch.device, rounds: int) -> dict[str, Timing]:
    """Of all who take part in the case; their weights are gone when it returns."""
    prepared = {name: one.prepare(case, device) for name, one in comparison.contestants.items()}
    return time_together({name: call for name, call in prepared.items() if call}, device, rounds)


def time_together(calls: Mapping[str, Call], device: torch.device, rounds: int) -> dict[str, Timing]:
    """Milliseconds of calls that take turns, each after one that does not count."""
    for call in calls.values():
        call()
    found = {name: Timing() for name in calls}
    for _ in range(rounds):
        for name, call in calls.items():
            work, wall = (_on_gpu if device.type == "cuda" else _on_cpu)(call)
            found[name].work.append(work)
            found[name].wall.append(wall)
    return found


def _on_cpu(call: Call) -> tuple[float, float]:
    wall, work = time.perf_counter(), time.process_time()
    call()
    return (time.process_time() - work) * 1e3, (time.perf_counter() - wall) * 1e3


def _on_gpu(call: Call) -> tuple[float, float]:
    begin, end = (torch.cuda.Event(enable_timing=True) for _ in range(2))
    torch.cuda.synchronize()
    wall = time.perf_counter()
    begin.record()
    call()
    end.record()
    torch.cuda.synchronize()
    return begin.elapsed_time(end), (time.perf_counter() - wall) * 1e3


def ratio(one: list[float], other: list[float]) -> float:
    """Median over the turns of the ratio within a turn, which has met the same load."""
    return statistics.median(a / max(b, 1e-6) for a, b in zip(one, other, strict=True))


def spread(values: list[float]) -> str:
    """Median and quartiles."""
    if len(values) < 2:
        return f"{values[0]:.3g}"
    low, middle, high = statistics.quantiles(values, method="inclusive")
    return f"{middle:.3g} [{low:.3g}, {high:.3g}]"


def _table(
    comparison: Comparison,
    case: Any,
    device: torch.device,
    timings: Mapping[str, Timing],
    bytes_of: Mapping[str, int | None],
) -> str:
    work = "CPU ms" if device.type == "cpu" else "GPU ms"
    head = ["", work, "to ours", "to the ceiling", "wall ms", "MiB", f"of {comparison.unit_name}"]
    head += [comparison.rate_name] if comparison.rate else []
    ours, ceiling = timings[comparison.ours].work, timings[comparison.ceiling].work
    rows = []
    for name, timing in timings.items():
        held = bytes_of[name]
        memory = (
            ["–", "–"] if held is None else [f"{held / 2**20:.0f}", f"{held / comparison.unit(case):.2f}"]
        )
        ratios = [f"{ratio(timing.work, base):.2f}" for base in (ours, ceiling)]
        rows.append([name, spread(timing.work), *ratios, f"{statistics.median(timing.wall):.3g}", *memory])
        if comparison.rate:
            rows[-1].append(f"{comparison.rate(case) / statistics.median(timing.work) * 1e3:,.0f}")
    return table(head, rows)
