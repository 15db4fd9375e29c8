"""The display tells step, loss, rate and time left, on a terminal and elsewhere."""

import sys
import time

import pytest

from vqtok.training import progress
from vqtok.training.progress import Meter


@pytest.fixture
def clock(monkeypatch):
    """A clock that the test moves."""
    now = [100.0]
    monkeypatch.setattr(time, "monotonic", lambda: now[0])
    return now


def test_plain_lines_are_ten_seconds_apart(clock, capsys):
    """One line when it is time, and one at the end; rate and time left count from where the run resumed."""
    meter = Meter(start=50, steps=100, batch=8, shown=True)
    for step in range(51, 101):
        clock[0] += 0.5
        meter.show(step, {"loss": 1.23456, "lr": 3e-4})
    meter.stop()
    lines = capsys.readouterr().out.splitlines()
    assert lines[0] == "step 70/100  loss 1.235  lr 0.0003  16 samples/s  0:00:15 left"
    assert [line.split()[1] for line in lines] == ["70/100", "90/100", "100/100"]


def test_other_units(clock, capsys):
    """A step may be called something else, and a meter ends with its block, also by an error."""
    with pytest.raises(KeyError), Meter(start=0, steps=9, batch=1, shown=True, unit="image") as meter:
        clock[0] += 3
        meter.show(9, {})
        raise KeyError
    assert capsys.readouterr().out == "image 9/9  3 samples/s  0:00:00 left\n"
    assert meter.bar is None


def test_silent_meters_print_nothing(clock, capsys):
    """Processes other than the main one measure but keep silent."""
    meter = Meter(start=0, steps=2, batch=3, shown=False)
    clock[0] += 20
    meter.show(2, {"loss": 1.0})
    meter.stop()
    assert meter.rate(2) == pytest.approx(0.3)
    assert capsys.readouterr().out == ""


def test_terminal_shows_a_bar(monkeypatch, capsys):
    """On a terminal a bar holds the same facts, and `stop` ends it."""
    monkeypatch.setattr(sys.stdout, "isatty", lambda: True, raising=False)
    meter = Meter(start=0, steps=4, batch=8, shown=True)
    meter.show(2, {"loss": 1.5})
    facts = meter.bar.tasks[0].fields["facts"]
    meter.stop()
    meter.stop()
    assert facts.startswith("loss 1.5  ")
    assert facts.endswith(" left")
    assert progress.PLAIN_SECONDS == 10
