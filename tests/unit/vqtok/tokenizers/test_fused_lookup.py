"""The fused kernel against float64 by distance: here by Triton's interpreter, where there is a GPU on it."""

import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file
from torch import Tensor

from vqtok.tokenizers import lookup
from vqtok.tokenizers.lookup import nearest_code

pytest.importorskip("triton", reason="torch brings Triton on Linux only")
from vqtok.tokenizers import fused_lookup  # noqa: E402
from vqtok.tokenizers.fused_lookup import CODES, VECTORS, spans_for  # noqa: E402

KINDS = ("gauss", "unit", "start")
SIZES = {  # vectors, codes, width: around the tile's edges, and one of several spans and tiles
    "one of each": (1, 1, 1),
    "whole tiles": (64, 128, 16),
    "one less": (63, 127, 15),
    "one more": (65, 129, 17),
    "narrow": (130, 700, 4),
    "wide": (20, 150, 512),
}


def draw(vectors: int, codes: int, width: int, kind: str = "gauss") -> tuple[Tensor, Tensor]:
    """Vectors (n, d) and codes (k, d): Gaussian, on the unit sphere, or codes as small as VQ-VAEs start."""
    generator = torch.Generator().manual_seed(vectors + codes + width)
    z, e = (torch.randn(count, width, generator=generator) for count in (vectors, codes))
    if kind == "unit":
        return tuple(torch.nn.functional.normalize(rows, dim=1) for rows in (z, e))
    return z, e / codes if kind == "start" else e


def excess(vectors: Tensor, codes: Tensor, bias: Tensor, ids: Tensor) -> float:
    """How far the chosen scores are below the best in float64, in units of what `fused_lookup` promises."""
    z, e, b = vectors.double(), codes.double(), bias.double()
    scores = z @ e.T + b
    short = scores.amax(1) - scores.gather(1, ids[:, None]).squeeze(1)
    rounding = (z.shape[1] + 1) * 2**-24 * (z.norm(dim=1) * e.norm(dim=1).max() + b.abs().max())
    return float((short / (2 * rounding)).max())


def half_squares(codes: Tensor) -> Tensor:
    """(k,) the bias that makes scores say which code is nearest."""
    return -codes.square().sum(1) / 2


@pytest.fixture(scope="module")
def answers(tmp_path_factory: pytest.TempPathFactory) -> tuple[dict[str, Tensor], dict[str, Tensor]]:
    """All problems of this file and the interpreter's ids, by name; one process for all of them."""
    problems = {}
    for kind in KINDS:
        for name, size in SIZES.items():
            z, e = draw(*size, kind)
            problems |= {f"{name}, {kind}/{part}": t for part, t in zip("ze", (z, e), strict=True)}
    z, e = draw(70, 100, 8)
    problems |= {"bfloat16/z": z.bfloat16(), "bfloat16/e": e, "float64/z": z.double(), "float64/e": e}
    problems |= {"ties/z": z, "ties/e": e.repeat(5, 1), "first/z": z[:1].clone(), "first/e": e}
    broken = z.clone()
    broken[0, 0], broken[1, 1], broken[2, 2] = float("nan"), float("inf"), -float("inf")
    problems |= {"broken/z": broken, "broken/e": e}
    problems |= {key[:-1] + "b": half_squares(e) for key, e in problems.items() if key.endswith("/e")}
    folder = tmp_path_factory.mktemp("interpreter")
    save_file({name: part.clone() for name, part in problems.items()}, folder / "problems")
    subprocess.run(
        [sys.executable, Path(__file__).with_name("interpreted.py"), folder / "problems", folder / "ids"],
        env=os.environ | {"TRITON_INTERPRET": "1", "PYTHONPATH": os.pathsep.join(sys.path)},
        check=True,
    )
    return problems, load_file(folder / "ids")


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("name", SIZES)
def test_equals_brute_force(name: str, kind: str, answers):
    """No other code is nearer by more than the promised rounding, whatever ends inside a tile."""
    problems, ids = answers
    parts = [problems[f"{name}, {kind}/{part}"] for part in "zeb"]
    assert ids[f"{name}, {kind}"].shape == (len(parts[0]),)
    assert excess(*parts, ids[f"{name}, {kind}"]) <= 1


def test_equals_the_chunks(answers):
    """On generic data the ids are those of the path without the kernel."""
    problems, ids = answers
    for name in ("one more, gauss", "wide, unit", "bfloat16", "float64"):
        expected = nearest_code(problems[f"{name}/z"], problems[f"{name}/e"])
        assert torch.equal(ids[name], expected), name


def test_ties_go_to_the_lower_index(answers):
    """Codes repeated five times, over tiles and spans, are only used where they first stand."""
    _, ids = answers
    assert ids["ties"].max() < 100
    assert torch.equal(ids["ties"], ids["float64"])


def test_other_vectors_change_nothing(answers):
    """A vector alone, for which codes are split into more spans, has the id it has among others."""
    _, ids = answers
    assert torch.equal(ids["first"], ids["float64"][:1])


def test_what_is_no_number_gets_an_id(answers):
    """NaN and infinite vectors get ids in range and leave the others alone."""
    _, ids = answers
    assert ids["broken"].min() >= 0 and ids["broken"].max() < 100
    assert torch.equal(ids["broken"][3:], ids["float64"][3:])


@pytest.mark.parametrize("vectors", [1, 64, 16384, 2**20])
@pytest.mark.parametrize("codes", [1, 128, 129, 1000, 8192, 2**18])
def test_spans_cover_all_codes(vectors: int, codes: int):
    """As the kernel cuts them, no span is empty; many vectors get one, so no scores are kept twice."""
    spans = spans_for(vectors, codes)
    span = CODES.value * -(-codes // CODES.value // spans)
    assert (spans - 1) * span < codes <= spans * span
    assert spans == 1 or spans * -(-vectors // VECTORS.value) <= 2 * fused_lookup.PROGRAMS


def test_compiles_for_a_gpu(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    """For an A100, without one at hand: in float32 multiply-adds, without tensor cores, nothing spilled."""
    from triton.backends.compiler import GPUTarget
    from triton.compiler import ASTSource, compile

    monkeypatch.setenv("TRITON_CACHE_DIR", str(tmp_path))
    pointers = {"vectors": "*fp32", "codes": "*fp32", "bias": "*fp32", "scores": "*fp32", "ids": "*i32"}
    source = ASTSource(fused_lookup._best_of_span, pointers | dict.fromkeys("nkd", "i32"), {})
    ptx = compile(source, target=GPUTarget("cuda", 80, 32), options={"enable_fp_fusion": True}).asm["ptx"]
    assert "fma.rn.f32" in ptx and "mma.sync" not in ptx and ".local" not in ptx


def test_a_kernel_that_fails_is_told_once(monkeypatch: pytest.MonkeyPatch):
    """Where Triton cannot compile, lookups go by chunks and say why, once."""

    def fail(*arguments: Tensor) -> Tensor:
        raise RuntimeError("no C compiler")

    monkeypatch.setattr(lookup, "best_codes", fail)
    monkeypatch.setattr(torch.cuda, "get_device_capability", lambda device: (8, 0))
    fuses = lookup._fuses_on.__wrapped__
    with pytest.warns(UserWarning, match="slower way on cpu, as Triton fails: no C compiler"):
        assert not fuses(torch.device("cpu"))
    monkeypatch.setattr(lookup, "best_codes", None)
    assert not fuses(torch.device("cpu"))


@pytest.mark.gpu
@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("size", [(16384, 8192, 64), (16384, 16384, 8), (1000, 5000, 300), (1, 16384, 8)])
def test_on_a_gpu(size: tuple[int, int, int], kind: str):
    """At real sizes too no other code is nearer by more than the promised rounding; TF32 is not used."""
    vectors, codes = (rows.cuda() for rows in draw(*size, kind))
    assert lookup._fuses_on(vectors.device)
    torch.backends.cuda.matmul.fp32_precision = "tf32"
    try:
        ids = nearest_code(vectors, codes)
        assert torch.equal(nearest_code(vectors[:300], codes), ids[:300])
    finally:
        torch.backends.cuda.matmul.fp32_precision = "ieee"
    for part in range(0, len(ids), 1024):
        rows = slice(part, part + 1024)
        assert excess(vectors[rows], codes, half_squares(codes), ids[rows]) <= 1


@pytest.mark.gpu
def test_a_million_vectors_fit_a_gpu():
    """2^20 vectors of width 256 and 16,384 codes need 64 MiB beside them, not the matrix's 64 GiB."""
    generator = torch.Generator("cuda").manual_seed(0)
    vectors = torch.randn(2**20, 256, device="cuda", generator=generator)
    codes = torch.randn(16384, 256, device="cuda", generator=generator)
    nearest_code(vectors[:1], codes)
    torch.cuda.reset_peak_memory_stats()
    before = torch.cuda.memory_allocated()
    ids = nearest_code(vectors, codes)
    assert torch.cuda.max_memory_allocated() - before <= 2**26
    chosen = torch.arange(0, 2**20, 1031, device="cuda")
    assert excess(vectors[chosen], codes, half_squares(codes), ids[chosen]) <= 1
