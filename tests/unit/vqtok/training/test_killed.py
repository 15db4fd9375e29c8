"""`kill -9` at random moments: a run always resumes, and ends as one never killed; killer.py does it."""

import json

import pytest


def killed(script, folder, kills):
    """Counts of killer.py, which fails by itself where a run does not resume or differs in a bit."""
    told = json.loads(script("killer.py", str(folder), str(kills), "0"))
    assert told["training"] + told["saving"] >= kills
    assert min(told["training"], told["saving"]) >= kills // 3
    assert told["finished"] >= 3


def test_25_kills(script, tmp_path):
    """At least 25 kills, a third in training and a third inside a save."""
    killed(script, tmp_path, 25)


@pytest.mark.slow
def test_200_kills(script, tmp_path):
    """The same, 200 times."""
    killed(script, tmp_path, 200)
