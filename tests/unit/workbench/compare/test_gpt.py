"""Everybody trains on and draws as many tokens, and takes part where that means something."""

import pytest
import torch

from workbench.compare.gpt import COMPARISON, Case, Continuing, Drawing, Training, Uncached

CPU = torch.device("cpu")
CASES = [COMPARISON.toy(case) for case in COMPARISON.cases.values()]
UNSHARED = {"vqtok, prompt written out", "vqtok, one after the other"}
DROPOUT = "transformers ImageGPT, its dropout of 0.1"
ABSENT = {  # the rows that the table of such a case does not have
    Training: {*UNSHARED, "vqtok, int8 weights", "vqtok, no cache"},
    Drawing: {*UNSHARED, "vqtok, no cache", DROPOUT},
    Uncached: {*UNSHARED, DROPOUT},
    Continuing: {"vqtok, no cache", DROPOUT},
}


@pytest.mark.peer
@pytest.mark.parametrize("case", CASES, ids=lambda case: f"{type(case).__name__}-{case.batch}")
@pytest.mark.parametrize("name", COMPARISON.contestants)
def test_every_contestant_runs(name: str, case: Case):
    """At toy size, twice, and draws as many tokens of as many sequences as all others."""
    contestant = COMPARISON.contestants[name]
    if contestant.package == "transformers":
        pytest.importorskip("transformers")
    call = contestant.prepare(case, CPU)
    assert (call is None) == (name in ABSENT[type(case)])
    if call is None:
        return
    call()
    drawn = call()
    if isinstance(case, Training) or name == COMPARISON.ceiling:
        return
    drawn = torch.cat(drawn) if isinstance(drawn, list) else drawn
    assert len(drawn) == case.batch and drawn.shape[1] in (case.count, case.prompt + case.count)


def test_operations_are_those_of_the_matrices():
    """6 for each weight of a matrix and token; attention's causal half adds 6 d t^2 a layer and sequence."""
    case = Training(batch=4)
    weights = 8 * (4 * 256**2 + 3 * 256 * 704) + 513 * 256
    assert case.operations == 6 * weights * 4096 + 6 * 8 * 4 * 1024**2 * 256


def test_ids_begin_an_image():
    """The first is the last of the vocabulary, no other is; continuations have one prompt."""
    ids = Drawing(batch=3, count=4).ids(50)
    assert (ids[:, 0] == 512).all() and ids[:, 1:].max() < 512 and len(ids.unique(dim=0)) == 3
    assert len(Continuing(batch=3, count=4).ids(50).unique(dim=0)) == 1
