"""InfoNCE against its definition, over one process and over two."""

import math
import os
import socket
import subprocess
import sys
from pathlib import Path

import pytest
import torch
import torch.nn.functional as F
from safetensors.torch import load_file

from vqtok.clip.loss import contrastive_loss, gathered

SCRIPT = Path(__file__).parent / "halves.py"


def vectors(count: int = 6, width: int = 4, seed: int = 0) -> tuple[torch.Tensor, torch.Tensor]:
    """Images and texts (n, d) of length 1."""
    drawn = torch.randn(2, count, width, generator=torch.Generator().manual_seed(seed))
    return tuple(F.normalize(drawn, dim=-1))


def test_by_hand():
    """The mean over both directions of -log of the share that the right answer has of all."""
    images, texts = vectors()
    captions, scale = torch.tensor([7, 3, 3, 5, 1, 3]), 4.0
    table = (scale * images @ texts.T).exp()
    total = 0.0
    for row in range(6):
        right = [place for place in range(6) if captions[place] == captions[row]]
        for shares in (table[row] / table[row].sum(), table[:, row] / table[:, row].sum()):
            total -= sum(math.log(shares[place]) for place in right) / len(right)
    found = contrastive_loss(images, texts, scale, captions)
    assert found.item() == pytest.approx(total / 12, rel=1e-5)


def test_guessing():
    """Vectors that are all alike cost log n nats."""
    same = F.normalize(torch.ones(8, 3), dim=-1)
    assert contrastive_loss(same, same, 100.0, torch.arange(8)).item() == pytest.approx(math.log(8), rel=1e-5)


def test_equal_vectors_of_equal_captions():
    """Then the loss is that of the paper's figure, where only the diagonal is right; so is the gradient."""
    images, texts = vectors()
    which = torch.tensor([0, 1, 2, 1, 4, 1])
    found = []
    for captions in (which, torch.arange(6)):
        image, text = images.clone().requires_grad_(), texts.clone().requires_grad_()
        loss = contrastive_loss(image, text[which], 10.0, captions)
        found.append((loss, *torch.autograd.grad(loss, (image, text))))
    for ours, theirs in zip(*found, strict=True):
        torch.testing.assert_close(ours, theirs, atol=1e-6, rtol=1e-5)


def test_different_vectors_of_equal_captions():
    """Differences that dropout makes between equal captions are not learned: a step brings them nearer."""
    pair = F.normalize(torch.tensor([[1.0, 0.1, 0.0], [1.0, -0.1, 0.0]]), dim=-1)
    change = []
    for captions in (torch.tensor([0, 0]), torch.tensor([0, 1])):
        texts = pair.clone().requires_grad_()
        contrastive_loss(pair, texts, 10.0, captions).backward()
        moved = F.normalize(pair - 0.01 * texts.grad, dim=-1)
        change.append((moved[0] - moved[1]).norm() - (pair[0] - pair[1]).norm())
    assert change[0] < 0 < change[1]


def test_wrong_shapes():
    """Vectors that are no pairs are refused with their shapes."""
    images, texts = vectors()
    with pytest.raises(ValueError, match=r"\(6, 4\), \(5, 4\), \(6,\)"):
        contrastive_loss(images, texts[:5], 1.0, torch.arange(6))


def test_alone():
    """One process has gathered all when it begins."""
    images, _ = vectors()
    assert gathered(images) is images


def test_two_halves_make_the_whole(tmp_path):
    """Two processes with half of the pairs each: the loss and every gradient of one with all of them."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = str(free.getsockname()[1])
    world = {"WORLD_SIZE": "2", "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": port, "OMP_NUM_THREADS": "1"}
    root = SCRIPT.parents[4]
    paths = {"PYTHONPATH": os.pathsep.join([str(root), os.environ.get("PYTHONPATH", "")])}
    runs = {
        processes: [
            subprocess.Popen(
                [sys.executable, str(SCRIPT), str(tmp_path), str(processes)],
                env=os.environ | world | paths | {"RANK": str(rank), "WORLD_SIZE": str(processes)},
                stdout=subprocess.PIPE,
                stderr=subprocess.STDOUT,
                text=True,
            )
            for rank in range(processes)
        ]
        for processes in (2, 1)
    }
    for processes in runs.values():
        told = [process.communicate(timeout=300)[0] for process in processes]
        assert not any(process.returncode for process in processes), "\n".join(told)
    two, one = (load_file(tmp_path / f"{count}.safetensors") for count in (2, 1))
    assert two.keys() == one.keys() and len(one) > 30
    for name, tensor in one.items():
        # Sums of a batch in another order, float32.
        torch.testing.assert_close(two[name], tensor, atol=1e-6, rtol=1e-4, msg=lambda m, name=name: name + m)
