"""The lookup is exact in float32, whatever the autocast, the dtype, the chunks and the layout, and lean."""

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor
from torch.profiler import ProfilerActivity, profile

from vqtok.tokenizers import lookup
from vqtok.tokenizers.lookup import chunk_rows, nearest_code

SIZES = ((1024, 8), (8192, 64), (16384, 8))  # codes and their width
VECTORS = 512


def draw(codes: int, width: int, kind: str = "gauss", vectors: int = VECTORS) -> tuple[Tensor, Tensor]:
    """Vectors (n, d) and codebook (k, d): Gaussian, on the unit sphere, or as VQ-VAEs usually start."""
    generator = torch.Generator().manual_seed(codes + width)
    z, e = torch.randn(vectors, width, generator=generator), torch.randn(codes, width, generator=generator)
    if kind == "unit":
        return F.normalize(z, dim=1), F.normalize(e, dim=1)
    if kind == "start":
        return z, (torch.rand(codes, width, generator=generator) * 2 - 1) / codes
    return z, e


def excess(vectors: Tensor, codebook: Tensor, ids: Tensor) -> float:
    """Largest of: how much farther the chosen code is than the nearest, in roundings of float32.

    Squared distances in float64, by brute force. A rounding is 2^-24 of the largest term that a sum of d
    products and half a square can have.
    """
    z, e = vectors.double(), codebook.double()
    worst = 0.0
    for rows, chosen in zip(z.split(256), ids.split(256), strict=True):
        squares = (rows.square().sum(1, keepdim=True) - 2 * rows @ e.T) + e.square().sum(1)
        farther = squares.gather(1, chosen[:, None]).squeeze(1) - squares.amin(1)
        scale = rows.norm(dim=1) * e.norm(dim=1).max() + e.square().sum(1).max() / 2
        # Squares twice as large as scores; and float64 itself rounds where |z| dwarfs the codes.
        noise = 2**-50 * rows.square().sum(1)
        worst = max(worst, float(((farther - noise) / (2 * scale * 2**-24)).amax()))
    return worst


@pytest.mark.parametrize("kind", ["gauss", "unit", "start"])
@pytest.mark.parametrize(("codes", "width"), SIZES)
def test_equals_brute_force(codes: int, width: int, kind: str):
    """No other code is nearer in float64, but for ties within 8 roundings; at most one id differs."""
    vectors, codebook = draw(codes, width, kind)
    ids = nearest_code(vectors, codebook)
    assert excess(vectors, codebook, ids) <= 8
    brute = torch.cdist(vectors.double(), codebook.double(), compute_mode="donot_use_mm_for_euclid_dist")
    assert (ids != brute.argmin(1)).sum() <= 1


@pytest.mark.parametrize(("codes", "width"), SIZES)
def test_autocast_and_dtypes_change_nothing(codes: int, width: int):
    """Under bfloat16 autocast ids are the same; bfloat16 and float64 inputs are compared in float32."""
    vectors, codebook = draw(codes, width, "unit")
    ids = nearest_code(vectors, codebook)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        assert torch.equal(nearest_code(vectors, codebook), ids)
    assert torch.equal(nearest_code(vectors.double(), codebook.double()), ids)
    coarse, coarse_codes = vectors.bfloat16(), codebook.bfloat16()
    with torch.autocast("cpu", dtype=torch.bfloat16):
        ids = nearest_code(coarse, coarse_codes)
    assert torch.equal(ids, nearest_code(coarse.float(), coarse_codes.float()))
    assert excess(coarse, coarse_codes, ids) <= 8


def test_the_check_would_notice_bfloat16():
    """The product that autocast rounds gives codes that `excess` refuses: the bar above means something."""
    vectors, codebook = draw(1024, 8, "unit")
    with torch.autocast("cpu", dtype=torch.bfloat16):
        ids = (vectors @ codebook.T).argmax(1)
    assert excess(vectors, codebook, ids) > 1000


@pytest.mark.parametrize("rows", [1, 7, 100, VECTORS, 10 * VECTORS])
def test_chunks_change_nothing(rows: int, monkeypatch: pytest.MonkeyPatch):
    """However many vectors go at once, ids are the nearest, the last chunk's too."""
    vectors, codebook = draw(1000, 8)
    monkeypatch.setattr(lookup, "chunk_rows", lambda *_: rows)
    ids = nearest_code(vectors, codebook)
    assert excess(vectors, codebook, ids) <= 8
    assert torch.equal(ids, nearest_code(vectors, codebook))


@pytest.mark.parametrize("layout", ["transposed", "every other", "expanded"])
def test_layout_changes_nothing(layout: str):
    """Vectors and codebooks may be views of other tensors."""
    vectors, codebook = draw(1024, 8)
    views = {
        "transposed": (vectors.t().contiguous().t(), codebook.t().contiguous().t()),
        "every other": (vectors.repeat_interleave(2, 0)[::2], codebook.repeat_interleave(2, 1)[:, ::2]),
        "expanded": (vectors[:1].expand(VECTORS, -1), codebook),
    }
    seen, codes = views[layout]
    assert not seen.is_contiguous()
    assert torch.equal(nearest_code(seen, codes), nearest_code(seen.contiguous(), codebook))


@pytest.mark.parametrize("codes", [1, 2, 63, 64, 65, 129])
def test_any_number_of_codes(codes: int):
    """Codebooks need not fill whole blocks; ids stay below their size, also for infinite vectors."""
    vectors, codebook = draw(codes, 3)
    ids = nearest_code(vectors, codebook)
    assert excess(vectors, codebook, ids) <= 8
    vectors[0, 0], vectors[1, 1], vectors[2, 2] = float("nan"), float("inf"), -float("inf")
    assert (
        0 <= int(nearest_code(vectors, codebook).min()) <= int(nearest_code(vectors, codebook).max()) < codes
    )


def test_ties_go_to_the_lower_index():
    """A codebook repeated three times is only used where it first stands."""
    vectors, codebook = draw(100, 8)
    assert nearest_code(vectors, codebook.repeat(3, 1)).max() < 100


@pytest.mark.parametrize(("codes", "width"), SIZES)
def test_cosine(codes: int, width: int):
    """By cosine no other code is more similar in float64 than by 8 roundings, whatever the lengths."""
    vectors, codebook = draw(codes, width)
    codebook *= torch.linspace(0.1, 10, codes)[:, None]
    ids = nearest_code(vectors, codebook, cosine=True)
    similarity = F.normalize(vectors.double(), dim=1) @ F.normalize(codebook.double(), dim=1).T
    missing = similarity.amax(1) - similarity.gather(1, ids[:, None]).squeeze(1)
    assert missing.max() <= 8 * 2**-24
    assert torch.equal(nearest_code(3 * vectors, codebook, cosine=True), ids)
    assert (nearest_code(vectors, codebook) != ids).any()


def test_no_vectors():
    """Nothing in, nothing out."""
    assert nearest_code(torch.empty(0, 8), torch.ones(4, 8)).shape == (0,)


def test_no_gradient():
    """Inputs that are being trained give ids without a graph."""
    vectors, codebook = draw(64, 8)
    ids = nearest_code(vectors.requires_grad_(), codebook.requires_grad_())
    assert ids.dtype == torch.int64 and not ids.requires_grad


@pytest.mark.parametrize("wanted", ["bf16", "ieee"])
def test_products_are_whole_float32(wanted: str, monkeypatch: pytest.MonkeyPatch):
    """Where the process allows rounded products, the lookup forbids them, and then puts the setting back."""
    settings, seen, addmm = torch.backends.mkldnn.matmul, [], torch.addmm

    def spy(*arguments: Tensor, **options: Tensor) -> Tensor:
        seen.append(settings.fp32_precision)
        return addmm(*arguments, **options)

    monkeypatch.setattr(torch, "addmm", spy)
    before = settings.fp32_precision
    try:
        settings.fp32_precision = wanted
        nearest_code(*draw(64, 8))
        assert (settings.fp32_precision, {*seen}) == (wanted, {"ieee"})
    finally:
        settings.fp32_precision = before


def peak(vectors: Tensor, codebook: Tensor, call=nearest_code) -> int:
    """Most bytes that `call` holds at once, by torch's own book of allocations."""
    call(vectors, codebook)
    with profile(activities=[ProfilerActivity.CPU], profile_memory=True) as record:
        call(vectors, codebook)
    events = [event for event in record.profiler.kineto_results.events() if event.name() == "[memory]"]
    held = torch.tensor([event.nbytes() for event in sorted(events, key=lambda event: event.start_ns())])
    return int(held.cumsum(0).max())


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize(("codes", "width"), SIZES)
def test_memory(codes: int, width: int, dtype: torch.dtype):
    """For 16,384 vectors the peak is at most a tenth of n x k float32 numbers."""
    vectors, codebook = draw(codes, width, vectors=16384)
    assert peak(vectors.to(dtype), codebook.to(dtype)) <= 0.1 * 16384 * codes * 4


def test_the_memory_is_really_counted():
    """The plain product, by the same book, holds n x k float32 numbers and more."""
    vectors, codebook = draw(1024, 8, vectors=4096)
    assert peak(vectors, codebook, lambda z, e: (z @ e.T).argmax(1)) >= 4096 * 1024 * 4


@pytest.mark.parametrize("cuda", [False, True])
@pytest.mark.parametrize("vectors", [16384, 2**20])
@pytest.mark.parametrize("codes", [1024, 4096, 8192, 16384, 2**18])
def test_chunks_are_small(codes: int, vectors: int, cuda: bool):
    """Chunks are at most a sixteenth of the vectors, on a GPU too, and never none."""
    assert 1 <= chunk_rows(vectors, codes, cuda) <= vectors // 16
    assert chunk_rows(1, codes, cuda) >= 1


@pytest.mark.parametrize(
    ("vectors", "codebook"), [((4, 3), (5, 2)), ((4, 3, 1), (5, 3)), ((4, 3), (0, 3)), ((3,), (5, 3))]
)
def test_mistakes_are_named(vectors: tuple[int, ...], codebook: tuple[int, ...]):
    """Widths that differ, wrong shapes and an empty codebook are refused with both shapes."""
    with pytest.raises(ValueError, match=r"must be \(n, d\) and \(k, d\) with k > 0"):
        nearest_code(torch.zeros(vectors), torch.zeros(codebook))
