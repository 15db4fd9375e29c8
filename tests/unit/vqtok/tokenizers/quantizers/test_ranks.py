"""Two processes train the quantizer that one process with the same global batch trains."""

import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file
from torch import Tensor

from vqtok.tokenizers.quantizers.ranks import draw_rows, mean_over_ranks, sum_over_ranks

HERE = Path(__file__).parent
KINDS = ["gradient", "means", "legacy", "kmeans", "residual", "simvq", "lfq", "ibq"]


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> tuple[dict[str, Tensor], ...]:
    """What rank 0, rank 1, and rank 0 without the other end with."""
    folder = tmp_path_factory.mktemp("ranks")
    environment = {**os.environ, "PYTHONPATH": str(HERE.parents[4]), "OMP_NUM_THREADS": "1"}
    both = [
        subprocess.Popen(
            [sys.executable, str(HERE / "ranks.py"), str(folder / "meet"), str(rank), str(folder / "out")],
            env=environment,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )
        for rank in (0, 1)
    ]
    told = [process.communicate(timeout=240)[0] for process in both]
    assert [process.returncode for process in both] == [0, 0], "\n".join(told)
    return tuple(load_file(folder / f"out-{who}") for who in ("0", "1", "alone"))


@pytest.mark.parametrize("kind", KINDS)
def test_ranks_agree(trained: tuple[dict[str, Tensor], ...], kind: str):
    """Both end with the same tensors, to the bit."""
    names = [name for name in trained[0] if name.startswith(f"{kind}/")]
    assert len(names) >= 3
    for name in names:
        assert torch.equal(trained[0][name], trained[1][name]), name


@pytest.mark.parametrize("kind", KINDS)
def test_two_equal_one(trained: tuple[dict[str, Tensor], ...], kind: str):
    """Codebook, counts and encoder are those of one process, but for the order in which sums are taken."""
    found, _, alone = ({k: v for k, v in one.items() if k.startswith(f"{kind}/")} for one in trained)
    torch.testing.assert_close(found, alone, atol=1e-5, rtol=1e-4)


def test_something_started_again(trained: tuple[dict[str, Tensor], ...]):
    """Or the tests above would say little about restarts."""
    assert all(trained[2][f"{kind}/restarted"].sum() > 0 for kind in ("gradient", "means", "legacy"))


def test_unequal_shares(trained: tuple[dict[str, Tensor], ...]):
    """7 vectors here and 33 there have the k-means of 40; draws beyond what there is are alike, too."""
    first, second, alone = trained
    for name in ("unequal", "more than there are"):
        assert torch.equal(first[name], second[name])
        torch.testing.assert_close(first[name], alone[name])


def test_one_process_needs_no_group():
    """Sums and means are the tensor itself, and rows are drawn without repetition where there are enough."""
    tensor = torch.randn(5, 2)
    assert torch.equal(sum_over_ranks(tensor), tensor) and mean_over_ranks(tensor) is tensor
    drawn = draw_rows(tensor, 5)
    assert torch.equal(drawn.sort(0)[0], tensor.sort(0)[0])
    assert (torch.cdist(draw_rows(tensor, 9), tensor).amin(1) == 0).all()
