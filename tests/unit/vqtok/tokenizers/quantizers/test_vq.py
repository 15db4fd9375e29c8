"""The quantizer: gradients of the paper, restarts that revive and agree between ranks."""

import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch
import torch.nn.functional as F
from einops import rearrange
from safetensors.torch import load_file
from torch import Tensor

from vqtok.tokenizers.lookup import nearest_code
from vqtok.tokenizers.quantizers.vq import VectorQuantizer, VQConfig

HERE = Path(__file__).parent


def quantizer(codes: int = 16, width: int = 4, **options: object) -> VectorQuantizer:
    """With a codebook of seed 0."""
    torch.manual_seed(0)
    return VectorQuantizer(VQConfig(codes=codes, width=width, **options))


def grids(images: int = 3, width: int = 4, seed: int = 1) -> Tensor:
    """(b, d, 5, 7) Gaussian vectors."""
    return torch.randn(images, width, 5, 7, generator=torch.Generator().manual_seed(seed))


def rows(vectors: Tensor) -> Tensor:
    """(n, d) of (b, d, h, w)."""
    return rearrange(vectors, "b d h w -> (b h w) d")


@pytest.mark.parametrize("normalize", [False, True])
def test_forward(normalize: bool):
    """Ids are the nearest codes' and the same as `encode`'s; vectors are what the ids decode to."""
    vq, vectors = quantizer(normalize=normalize), grids()
    out = vq(vectors)
    assert out.ids.shape == (3, 5, 7) and out.ids.dtype == torch.int64
    flat = F.normalize(rows(vectors), dim=1) if normalize else rows(vectors)
    assert torch.equal(out.ids.flatten(), nearest_code(flat, vq.codebook()))
    assert torch.equal(vq.encode(vectors), out.ids)
    assert torch.equal(out.vectors, vq.decode(out.ids))


def test_normalized_codes_lie_on_the_sphere():
    """Only directions count: scaling vectors or codes changes nothing."""
    vq, vectors = quantizer(normalize=True), grids()
    torch.testing.assert_close(vq.codebook().norm(dim=1), torch.ones(16))
    ids = vq.encode(vectors)
    vq.embedding.weight.data *= torch.rand(16, 1) + 0.5
    assert torch.equal(vq.encode(7 * vectors), ids)


@pytest.mark.parametrize("normalize", [False, True])
def test_straight_through(normalize: bool):
    """The gradient at the codes arrives at the vectors unchanged, but for the normalization's own."""
    vq = quantizer(normalize=normalize)
    gradient = grids(seed=2)
    vectors = grids().requires_grad_()
    found = torch.autograd.grad((vq(vectors).vectors * gradient).sum(), vectors)[0]
    plain = F.normalize(vectors, dim=1) if normalize else vectors
    expected = torch.autograd.grad((plain * gradient).sum(), vectors)[0]
    torch.testing.assert_close(found, expected)


@pytest.mark.parametrize("beta", [0.25, 1.0])
def test_gradients_of_the_loss(beta: float):
    """Codes go to their vectors with weight 1, vectors to their codes with weight beta (equation 3)."""
    vq = quantizer(normalize=False, beta=beta)
    vectors = grids().requires_grad_()
    out = vq(vectors)
    out.loss.backward()
    z, e = rows(vectors.detach()), vq.codebook().detach()
    ids = out.ids.flatten()
    towards_codes = 2 * beta * (z - e[ids]) / z.numel()
    torch.testing.assert_close(rows(vectors.grad), towards_codes)
    towards_vectors = torch.zeros_like(e).index_add(0, ids, 2 * (e[ids] - z) / z.numel())
    torch.testing.assert_close(vq.embedding.weight.grad, towards_vectors)
    torch.testing.assert_close(out.loss, (1 + beta) * (z - e[ids]).square().mean())


def test_means_learn_without_gradient():
    """Codes that are means take none, and the loss is the commitment alone."""
    vq, vectors = quantizer(normalize=False, means=True, beta=0.5), grids().requires_grad_()
    out = vq(vectors)
    z, e = rows(vectors), vq.codebook()[out.ids.flatten()]
    torch.testing.assert_close(out.loss, 0.5 * (z - e).square().mean())
    assert not vq.embedding.weight.requires_grad and not e.requires_grad
    assert VectorQuantizer(VQConfig(codes=4, width=2)).embedding.weight.requires_grad


@pytest.mark.parametrize("normalize", [False, True])
def test_means_are_those_of_the_paper(normalize: bool):
    """Appendix A.1 with its sums m and counts N kept apart; codes that nobody chose stay."""
    vq, memory = quantizer(normalize=normalize, means=True, memory=0.8), 0.8
    counts, sums = torch.zeros(16), torch.zeros(16, 4)
    for seed in range(5):
        vectors = grids(seed=seed)
        ids = vq.encode(vectors)
        before = vq.embedding.weight.clone()
        assert vq.learn(vectors, ids, restart=False) == 0
        flat = F.normalize(rows(vectors), dim=1) if normalize else rows(vectors)
        one_hot = F.one_hot(ids.flatten(), 16).float()
        counts = memory * counts + (1 - memory) * one_hot.sum(0)
        sums = memory * sums + (1 - memory) * one_hot.T @ flat
        chosen = one_hot.any(0)
        torch.testing.assert_close(vq.embedding.weight[chosen], (sums / counts[:, None])[chosen])
        assert torch.equal(vq.embedding.weight[~chosen], before[~chosen])
        torch.testing.assert_close(vq.usage, counts * 16 / len(flat))


def test_the_decoders_gradient_does_not_reach_the_codebook():
    """Codes learn from the quantizer's loss alone (the paper's stop-gradient)."""
    vq = quantizer()
    loss = vq(grids().requires_grad_()).vectors.square().sum()
    assert torch.autograd.grad(loss, vq.embedding.weight, allow_unused=True) == (None,)


def test_autocast_changes_nothing():
    """Under bfloat16 autocast codes, vectors and loss are those of float32; inputs are lifted first."""
    vq, vectors = quantizer(codes=512, width=8), grids(width=8).bfloat16()
    plain = vq(vectors.float())
    with torch.autocast("cpu", dtype=torch.bfloat16):
        out, ids = vq(vectors), vq.encode(vectors)
    assert torch.equal(out.ids, plain.ids) and torch.equal(ids, plain.ids)
    assert torch.equal(out.vectors, plain.vectors) and torch.equal(out.loss, plain.loss)
    assert out.loss.dtype == torch.float32


def test_usage_is_state_but_no_parameter():
    """The running count is kept by checkpoints and moves to other devices, and nothing trains it."""
    vq = quantizer()
    assert torch.equal(vq.usage, torch.zeros(16)) and "usage" in vq.state_dict()
    assert [name for name, _ in vq.named_parameters()] == ["embedding.weight"]


def test_usage_counts_choices():
    """It is the running mean of choices in units of the mean, and looking up or decoding leaves it alone."""
    vq = quantizer(codes=4, restart_below=0.0, memory=0.9)
    ids = torch.tensor([0, 0, 0, 1, 1, 2, 2, 2]).view(1, 2, 4)
    vectors = grids(1)[..., :2, :4]
    vq(vectors), vq.encode(vectors), vq.decode(ids)
    assert not vq.usage.any()
    assert vq.learn(vectors, ids) == 0
    once = torch.tensor([3.0, 2.0, 3.0, 0.0]) / 2
    torch.testing.assert_close(vq.usage, 0.1 * once)
    vq.learn(vectors, ids)
    torch.testing.assert_close(vq.usage, 0.19 * once)


@pytest.mark.parametrize("normalize", [False, True])
def test_restart_revives(normalize: bool):
    """Codes out of use become vectors of the step and are used at once; codes in use stay as they are."""
    vq, vectors = quantizer(codes=64, normalize=normalize), grids(8)
    vectors = F.normalize(vectors, dim=1)
    with torch.no_grad():
        vq.embedding.weight[32:] = (
            100 + vq.embedding.weight[32:] if not normalize else vq.embedding.weight[:32]
        )
    ids = vq.encode(vectors)
    dead = torch.bincount(ids.flatten(), minlength=64) == 0
    assert dead[32:].all()
    vq.usage.copy_(~dead)  # the others have been in use for long
    before = vq.embedding.weight.detach().clone()
    assert vq.learn(vectors, ids) == int(dead.sum())
    after = vq.embedding.weight.detach()
    assert torch.equal(after[~dead], before[~dead])
    assert (torch.cdist(after[dead], rows(vectors)).amin(1) < 1e-3).all()  # each is one of them
    assert (vq.usage[dead] == 1).all()
    used = vq.encode(vectors).unique()
    fresh = after[dead].unique(dim=0)  # the same vector may be drawn twice, and then the first code has it
    assert torch.isin(dead.nonzero().flatten(), used).sum() == len(fresh)


def test_restarted_codes_get_time():
    """A code that nobody chooses after its restart stays for about one memory before it moves again."""
    vq = quantizer(codes=4, memory=0.9, restart_below=0.03)
    vectors, ids = grids(1), torch.zeros(1, 5, 7, dtype=torch.int64)
    restarted = [vq.learn(vectors, ids) for _ in range(40)]
    assert restarted[0] == 3
    waits = [step for step, count in enumerate(restarted) if count]
    assert waits[1] == 34  # 0.9^34 < 0.03


def test_ranks_restart_alike(tmp_path: Path):
    """Two processes with different vectors keep one codebook: counts are summed, rank 0 gives new codes."""
    places = [tmp_path / f"{rank}.safetensors" for rank in (0, 1)]
    environment = {**os.environ, "PYTHONPATH": str(HERE.parents[4]), "OMP_NUM_THREADS": "1"}
    both = [
        subprocess.Popen(
            [sys.executable, str(HERE / "restarts.py"), str(tmp_path / "meet"), str(rank), str(place)],
            env=environment,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )
        for rank, place in enumerate(places)
    ]
    told = [process.communicate(timeout=120)[0] for process in both]
    assert [process.returncode for process in both] == [0, 0], "\n".join(told)
    first, second = map(load_file, places)
    assert int(first.pop("world")) == int(second.pop("world")) == 2
    assert not torch.equal(first["vectors-1"], second["vectors-1"])
    # Codes in use are the means of what both ranks gave them.
    rank_vectors = [F.normalize(rows(found["vectors-1"]), dim=1) for found in (first, second)]
    ids = torch.cat([found["ids-1"].flatten() for found in (first, second)])
    means = [torch.cat(rank_vectors)[ids == code].mean(0) for code in ids.unique().tolist()]
    in_use = torch.isin(torch.arange(64), ids) & (first["usage-1"] != 1)
    expected = torch.zeros(64, 4).index_copy(0, ids.unique(), torch.stack(means))
    torch.testing.assert_close(first["embedding-1"][in_use], expected[in_use])
    shared = {name for name in first if name.startswith(("embedding", "usage", "restarted"))}
    assert len(shared) == 9
    for name in shared:
        assert torch.equal(first[name], second[name]), name
    assert first["restarted-1"] > 0

    counts = sum(torch.bincount(found["ids-1"].flatten(), minlength=64) for found in (first, second)).float()
    expected = 0.02 * counts / counts.mean()
    kept = first["usage-1"] != 1
    assert kept.any()
    torch.testing.assert_close(first["usage-1"][kept], expected[kept])
    torch.testing.assert_close(kept, expected >= 0.03)


@pytest.mark.parametrize("options", [{"codes": 1}, {"width": 0}, {"memory": 1.0}, {"restart_below": 1.0}])
def test_mistakes_are_named(options: dict):
    """A codebook of no use is refused with the value."""
    with pytest.raises(ValueError, match=str([*options.values()][0])):
        VQConfig(**{"codes": 16, "width": 4, **options})


def test_means_learn_in_bfloat16():
    """Sums are taken in float32: codes of bfloat16 become the rounded means."""
    vq, vectors = quantizer(means=True, normalize=False, memory=0.0).bfloat16(), grids()
    ids = vq.encode(vectors)
    vq.learn(vectors, ids, restart=False)
    flat = rows(vectors)
    for code in ids.unique():
        mean = flat[ids.flatten() == code].mean(0)
        torch.testing.assert_close(vq.embedding.weight[code], mean.bfloat16())


def test_legacy_weights():
    """The codebook has weight beta and the commitment 1, as in taming's default."""
    vq, vectors = quantizer(normalize=False, beta=0.25, legacy=True), grids().requires_grad_()
    out = vq(vectors)
    out.loss.backward()
    z, e, ids = rows(vectors.detach()), vq.codebook().detach(), out.ids.flatten()
    torch.testing.assert_close(rows(vectors.grad), 2 * (z - e[ids]) / z.numel())
    towards_vectors = torch.zeros_like(e).index_add(0, ids, 0.25 * 2 * (e[ids] - z) / z.numel())
    torch.testing.assert_close(vq.embedding.weight.grad, towards_vectors)


def test_means_have_no_legacy():
    """Where there is no codebook term, beta cannot stand on it."""
    with pytest.raises(ValueError, match="drop one of them"):
        VQConfig(codes=4, width=2, means=True, legacy=True)


def test_rotation_is_a_choice():
    """It changes the encoder's gradient and nothing else."""
    found = []
    for rotate in (False, True):
        vq, vectors = quantizer(rotate=rotate), grids().requires_grad_()
        out = vq(vectors)
        found.append((out, torch.autograd.grad(out.vectors.square().sum(), vectors)[0]))
    (plain, straight), (turned, rotated) = found
    assert torch.equal(plain.vectors, turned.vectors) and torch.equal(plain.loss, turned.loss)
    assert not torch.allclose(straight, rotated)
