"""Contestants take turns, are compared within a turn, and peers that are missing are named."""

import re
import subprocess
import sys
from dataclasses import replace
from importlib import import_module

import pytest
import torch

from workbench.compare import speed
from workbench.compare.lookup import CASES, COMPARISON
from workbench.compare.memory import main
from workbench.compare.speed import Comparison, Contestant, Timing, ratio, spread, time_together

CPU = torch.device("cpu")


def sized(numbers: int) -> Contestant:
    """Makes so many float32 numbers."""
    return Contestant(prepare=lambda case, device: lambda: torch.ones(case * numbers, device=device))


@pytest.fixture
def comparison() -> Comparison:
    """Three contestants in two cases, one of which meets only two of them."""
    absent = Contestant(prepare=lambda case, device: None if case == 2 else lambda: None)
    return Comparison(
        about="One call makes numbers.",
        cases={"small": 1, "large": 2},
        contestants={"a": sized(1000), "b": sized(10), "c": absent},
        ours="a",
        ceiling="b",
        unit=lambda case: 4000 * case,
        unit_name="a's numbers",
        toy=lambda case: case,
    )


def test_contestants_take_turns():
    """A warm-up of each, then A B A B, in order."""
    seen = []
    calls = {name: lambda name=name: seen.append(name) for name in "ab"}
    timings = time_together(calls, CPU, rounds=3)
    assert seen == [*"ab" * 4]
    assert {name: (len(t.work), len(t.wall)) for name, t in timings.items()} == {"a": (3, 3), "b": (3, 3)}


def test_ratios_are_those_within_a_turn():
    """Load that doubles every turn's times changes no ratio; the median is told with its quartiles."""
    assert ratio([1, 2, 4, 8], [2, 4, 8, 16]) == 0.5
    assert spread([1.0, 2.0, 3.0, 4.0, 5.0]) == "3 [2, 4]"
    assert spread([7.0]) == "7"


def test_the_tables(comparison: Comparison, monkeypatch: pytest.MonkeyPatch):
    """A table for each case: a row for everybody who takes part, ratios, memory, what was measured how."""
    monkeypatch.setattr(
        speed, "time_together", lambda calls, device, rounds: {n: Timing([2.0], [3.0]) for n in calls}
    )
    bytes_of = {"a": 4000, "b": 2000, "c": None}
    monkeypatch.setattr(speed, "growth_in_a_process", lambda module, case, name, *rest: bytes_of[name])
    text = speed.compare("module", comparison, CPU, rounds=1)
    small, large = re.split(r"\*\*(?:small|large)\*\*", text)[1:]
    assert "| a | 2 | 1.00 | 1.00 | 3 | 0 | 1.00 |" in small
    assert "| c | 2 | 1.00 | 1.00 | 3 | – | – |" in small
    assert "| b | 2 | 1.00 | 1.00 | 3 | 0 | 0.25 |" in large
    assert "| c |" not in large
    assert f"torch {torch.__version__.split('+')[0]}" in text and "vqtok 0" in text
    assert "One call makes numbers. CPU time of all threads, median of 1" in text


def test_a_column_of_rates(comparison: Comparison, monkeypatch: pytest.MonkeyPatch):
    """Where a call handles so much of something, the table ends with how much of it a second."""
    calls = {name: Timing([4.0], [3.0]) for name in "ab"}
    monkeypatch.setattr(speed, "time_together", lambda *arguments: calls)
    monkeypatch.setattr(speed, "growth_in_a_process", lambda *arguments: None)
    counted = replace(comparison, rate=lambda case: 10 * case, rate_name="numbers/s")
    small, large = speed.compare("module", counted, CPU, rounds=1).split("**large**")
    assert "| numbers/s |" in small and "| – | – | 2,500 |" in small and "| – | – | 5,000 |" in large


def test_a_missing_peer_is_one_line(comparison: Comparison):
    """The package and the extra that brings it are named before anything is measured."""
    absent = replace(sized(1), package="no-such-package")
    comparison = replace(comparison, contestants={**comparison.contestants, "d": absent})
    with pytest.raises(ValueError, match=r"^no-such-package is not installed.*pip install 'vqtok\[peers\]'$"):
        speed.compare("module", comparison, CPU, rounds=1)


@pytest.mark.skipif(sys.platform != "linux", reason="only Linux tells the peak")
def test_growth_is_the_peak():
    """64 MiB that a call holds for a moment are counted, to a few pages; those held before are not.

    In a process of its own, as in the comparison: this one's peak may lie far above what it holds now.
    """
    code = """
import torch
from workbench.compare.memory import growth
held = torch.ones(2**24)
print(growth(lambda: float(torch.ones(2**24).sum()) + len(held), torch.device("cpu")))
"""
    words = [sys.executable, "-c", code]
    told = subprocess.run(words, capture_output=True, text=True, check=True).stdout
    assert 2**26 - 2**20 <= int(told) <= 2**26 + 2**22


def test_the_process_for_memory(capsys: pytest.CaptureFixture[str]):
    """What runs in a process of its own prints one whole number, or None, for a contestant of a case."""
    module, threads = "workbench.compare.lookup", str(torch.get_num_threads())
    main([module, next(iter(CASES)), "addmm, argmax", "cpu", threads, "toy"])
    assert re.fullmatch(r"(\d+|None)\n", capsys.readouterr().out)


@pytest.mark.peer
@pytest.mark.parametrize("train", [False, True])
@pytest.mark.parametrize("name", COMPARISON.contestants)
def test_every_contestant_of_lookup_runs(name: str, train: bool):
    """At toy size, in evaluation and in training, where those that only look up take no part."""
    contestant = COMPARISON.contestants[name]
    if contestant.package in ("diffusers", "vector-quantize-pytorch"):
        import_module(contestant.package.replace("-", "_"))
    case = next(COMPARISON.toy(case) for case in CASES.values() if case.train == train)
    call = contestant.prepare(case, CPU)
    alone = name in ("vqtok nearest_code alone", "cdist, argmin", "addmm, argmax")
    assert (call is None) == (train and alone)
    if call:
        call()
        call()


def test_lookups_agree():
    """The ways to look up in the table find the same codes, so what is timed is the same task."""
    case = COMPARISON.toy(next(iter(CASES.values())))
    names = ("vqtok nearest_code alone", "cdist, argmin", "addmm, argmax")
    ids = [COMPARISON.contestants[name].prepare(case, CPU)() for name in names]
    assert torch.equal(ids[0], ids[1]) and torch.equal(ids[0], ids[2])
