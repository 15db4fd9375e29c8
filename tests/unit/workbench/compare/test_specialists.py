"""Networks that do one task: they learn it, and are asked what the LVM is asked."""

import torch

from lvm.tasks import task
from workbench.compare.specialists import TOY, Comparison, answered, trained

CPU = torch.device("cpu")


def test_a_new_network_gives_its_query():
    """So that what is learned is what changes."""
    x = torch.rand(2, 3, 16, 16)
    assert torch.equal(answered(TOY.build().eval(), x), x)


def test_learning_follows_from_the_seed():
    """Twice the same; another seed is another training."""
    one, same, other = (trained(task("invert"), TOY, 2, seed, CPU) for seed in (0, 0, 1))
    x = torch.rand(2, 3, 64, 64)
    with torch.no_grad():
        found = [answered(network, x) for network in (one, same, other)]
    assert torch.equal(found[0], found[1]) and not torch.equal(found[0], found[2])


def test_a_toy():
    """Four rows a task, the ceiling and the floor among them; overlaps of masks only."""
    told = Comparison(tasks=("invert", "shaded to mask")).run(CPU, steps=1, seeds=[0], toy=True)
    rows = [[cell.strip() for cell in line.strip("|").split("|")] for line in told.splitlines()
            if line.startswith("| ")][2:]
    assert [row[0] for row in rows[::4]] == ["invert", "shaded to mask"] and len(rows) == 8
    assert all((row[4] == "") == (number < 4) for number, row in enumerate(rows))
