"""Laws of tokenizers, over seeds and shapes."""

import torch
import torch.nn.functional as F
from hypothesis import given, settings
from hypothesis import strategies as st

from vqtok.tokenizers.autoencoder import AutoencoderConfig
from vqtok.tokenizers.lookup import chunk_rows, nearest_code
from vqtok.tokenizers.quantizers.vq import VectorQuantizer, VQConfig
from vqtok.tokenizers.tokenizer import TokenizerConfig, VQTokenizer

lawful = settings(max_examples=40, deadline=None, derandomize=True)
seeds = st.integers(0, 2**31)


@lawful
@given(n=st.integers(0, 200), k=st.integers(1, 300), d=st.integers(1, 20), seed=seeds)
def test_nearest_is_nearest(n: int, k: int, d: int, seed: int) -> None:
    """In float64 no code is nearer than the chosen one, but for ties within float32's rounding."""
    generator = torch.Generator().manual_seed(seed)
    vectors = torch.randn(n, d, generator=generator).double()
    codebook = torch.randn(k, d, generator=generator).double()
    squares = (vectors[:, None] - codebook).square().sum(2)  # (n, k)
    chosen = squares.gather(1, nearest_code(vectors, codebook)[:, None])
    slack = 2**-20 * (vectors.square().sum(1, keepdim=True) + codebook.square().sum(1).max())
    assert (chosen <= squares.amin(1, keepdim=True) + slack).all()


@lawful
@given(k=st.integers(1, 300), d=st.integers(2, 16), scale=st.floats(1e-3, 1e3), seed=seeds)
def test_a_code_is_nearest_to_itself(k: int, d: int, scale: float, seed: int) -> None:
    """Every code finds its own id, or that of an equal one."""
    codebook = scale * torch.randn(k, d, generator=torch.Generator().manual_seed(seed))
    assert torch.equal(codebook[nearest_code(codebook, codebook)], codebook)


@lawful
@given(n=st.integers(1, 2**24), k=st.integers(1, 2**20), cuda=st.booleans())
def test_chunks_exist_and_are_bounded(n: int, k: int, cuda: bool) -> None:
    """A chunk has at least one row, and no more scores than the cache or the device is meant to hold."""
    rows = chunk_rows(n, k, cuda)
    assert rows >= 1
    assert rows * k <= (2**26 if cuda else max(2**20, 16 * k))


@lawful
@given(
    codes=st.integers(2, 200),
    width=st.integers(4, 16),
    normalize=st.booleans(),
    size=st.tuples(st.integers(1, 3), st.integers(1, 5), st.integers(1, 5)),
    seed=seeds,
)
def test_ids_survive_the_quantizer(
    codes: int, width: int, normalize: bool, size: tuple[int, int, int], seed: int
) -> None:
    """encode(decode(ids)) == ids, for every codebook of random codes and every grid."""
    torch.manual_seed(seed)
    quantizer = VectorQuantizer(VQConfig(codes=codes, width=width, normalize=normalize))
    ids = torch.randint(codes, size)
    assert torch.equal(quantizer.encode(quantizer.decode(ids)), ids)
    out = quantizer(quantizer.decode(ids))
    assert torch.equal(out.ids, ids) and out.loss < 1e-10


@lawful
@given(
    codes=st.integers(2, 64),
    width=st.integers(1, 8),
    steps=st.integers(1, 8),
    means=st.booleans(),
    seed=seeds,
)
def test_restarts_keep_the_codebook_whole(codes: int, width: int, steps: int, means: bool, seed: int) -> None:
    """After any number of restarts codes and counts are finite, and no code is judged out of use."""
    torch.manual_seed(seed)
    quantizer = VectorQuantizer(VQConfig(codes=codes, width=width, means=means))
    for _ in range(steps):
        vectors = torch.randn(1, width, 3, 3)
        restarted = quantizer.learn(vectors, quantizer.encode(vectors))
        assert 0 <= restarted <= codes
        assert quantizer.embedding.weight.isfinite().all()
        assert (quantizer.usage >= quantizer.config.restart_below).all()
    norms = F.normalize(quantizer.embedding.weight, dim=1).norm(dim=1)
    assert torch.allclose(norms, torch.ones(codes))


@settings(lawful, max_examples=15)
@given(
    levels=st.integers(1, 3),
    patch=st.sampled_from([1, 2, 4]),
    grid=st.tuples(st.integers(1, 3), st.integers(1, 3)),
    low=st.sampled_from([-1.0, 0.0]),
    seed=seeds,
)
def test_any_shape_round_trips(levels: int, patch: int, grid: tuple[int, int], low: float, seed: int) -> None:
    """Images of whole codes become a grid of codes and come back in their size and range."""
    torch.manual_seed(seed)
    shape = AutoencoderConfig(
        channels=4, multipliers=(1,) * levels, blocks=1, latent=4, groups=2, patch=patch
    )
    config = TokenizerConfig(
        autoencoder=shape, quantizer=VQConfig(codes=9, width=3), size=shape.factor, low=low
    )
    tokenizer = VQTokenizer(config).eval()
    images = torch.rand(2, 3, *(side * shape.factor for side in grid))
    ids = tokenizer.encode(images)
    assert ids.shape == (2, *grid) and 0 <= int(ids.min()) <= int(ids.max()) < 9
    decoded = tokenizer.decode(ids)
    assert decoded.shape == images.shape and 0 <= float(decoded.min()) <= float(decoded.max()) <= 1
