"""Which process reads which sample: a pure function of the step, whatever the number of processes."""

from hypothesis import given
from hypothesis import strategies as some

from vqtok.training.batches import Slices, seed_of

parts = some.integers(1, 6)


@given(processes=parts, micro_batches=parts, size=some.integers(1, 5), step=some.integers(0, 10**6))
def test_every_sample_of_a_step_is_read_once(processes, micro_batches, size, step):
    """All processes and micro-batches together read the step's samples, each once."""
    batch = processes * micro_batches * size
    read = [
        number
        for rank in range(processes)
        for micro in range(micro_batches)
        for number in Slices(batch, rank, processes, micro_batches)(step, micro)
    ]
    assert sorted(read) == list(range(step * batch, (step + 1) * batch))


@given(processes=parts, micro_batches=parts, size=some.integers(1, 5))
def test_micro_batches_keep_the_order_in_time(processes, micro_batches, size):
    """Micro-batch m of all processes together is the m-th part of the batch."""
    batch = processes * micro_batches * size
    for micro in range(micro_batches):
        read = [
            n for rank in range(processes) for n in Slices(batch, rank, processes, micro_batches)(0, micro)
        ]
        assert read == list(range(micro * processes * size, (micro + 1) * processes * size))


@given(some.tuples(*[some.integers(0, 2**31)] * 4), some.tuples(*[some.integers(0, 2**31)] * 4))
def test_seeds_differ_where_facts_differ(one, other):
    """(seed, step, micro-batch, process) share a seed only if all are the same."""
    assert (seed_of(*one) == seed_of(*other)) == (one == other)
    assert 0 <= seed_of(*one) < 2**63
