"""Laws of quantizers, over seeds, shapes and settings."""

import torch
import torch.nn.functional as F
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from vqtok.tokenizers.quantizers.bsq import BSQConfig
from vqtok.tokenizers.quantizers.choice import QuantizerConfig, build
from vqtok.tokenizers.quantizers.digits import from_digits, other_order, to_digits
from vqtok.tokenizers.quantizers.fsq import FSQConfig
from vqtok.tokenizers.quantizers.gradients import rotated
from vqtok.tokenizers.quantizers.gumbel import GumbelConfig
from vqtok.tokenizers.quantizers.ibq import IBQConfig
from vqtok.tokenizers.quantizers.lfq import LFQConfig
from vqtok.tokenizers.quantizers.residual import ResidualVQConfig
from vqtok.tokenizers.quantizers.simvq import SimVQConfig
from vqtok.tokenizers.quantizers.vq import VQConfig

lawful = settings(max_examples=30, deadline=None, derandomize=True)
seeds = st.integers(0, 2**31)
sizes = st.tuples(st.integers(1, 3), st.integers(1, 5), st.integers(1, 5))  # images, height, width
levels = st.lists(st.integers(3, 9), min_size=1, max_size=6).map(tuple)
tables = st.fixed_dictionaries({"codes": st.integers(2, 90), "width": st.integers(2, 9)})
stages = st.integers(1, 3)
configs: st.SearchStrategy[QuantizerConfig] = st.one_of(
    st.builds(lambda table, normalize: VQConfig(normalize=normalize, **table), tables, st.booleans()),
    tables.map(lambda table: SimVQConfig(**table)),
    tables.map(lambda table: GumbelConfig(**table)),
    tables.map(lambda table: IBQConfig(**table)),
    st.builds(lambda table, count: ResidualVQConfig(stages=count, **table), tables, stages),
    levels.map(lambda drawn: FSQConfig(levels=drawn)),
    st.integers(1, 20).map(lambda bits: LFQConfig(bits=bits)),
    st.integers(1, 40).map(lambda bits: BSQConfig(bits=bits)),
)


def gaussian(size: tuple[int, int, int], width: int, seed: int) -> Tensor:
    """(b, d, h, w) vectors, and torch's generator at a seed for what is built next."""
    torch.manual_seed(seed)
    return torch.randn(size[0], width, *size[1:])


@lawful
@given(config=configs, size=sizes, seed=seeds)
def test_one_vector_at_a_time(config: QuantizerConfig, size: tuple[int, int, int], seed: int) -> None:
    """A vector's ids are its own: alone, in any split of a batch, and with rows and columns exchanged."""
    vectors = gaussian(size, config.width, seed)
    quantizer = build(config).eval()
    ids = quantizer.encode(vectors)
    each = torch.cat([quantizer.encode(image[None]) for image in vectors])
    turned = quantizer.encode(vectors.mT).transpose(1, 2)
    # Products of another number of rows may order their sums otherwise, which decides between equal codes.
    assert (ids != each).sum() <= 1 and (ids != turned).sum() <= 1


@lawful
@given(config=configs, size=sizes, seed=seeds)
def test_autocast_changes_no_id(config: QuantizerConfig, size: tuple[int, int, int], seed: int) -> None:
    """Under bfloat16 autocast ids are those of float32, and so they are after `.bfloat16()`, once rounded."""
    vectors = gaussian(size, config.width, seed).bfloat16()
    quantizer = build(config).eval().bfloat16().float()  # weights that bfloat16 can hold
    ids = quantizer.encode(vectors.float())
    with torch.autocast("cpu", dtype=torch.bfloat16):
        assert torch.equal(quantizer.encode(vectors), ids)
    assert torch.equal(quantizer.bfloat16().encode(vectors), ids)


@lawful
@given(config=configs, size=sizes, seed=seeds)
def test_decoding_twice(config: QuantizerConfig, size: tuple[int, int, int], seed: int) -> None:
    """Ids outlive vectors: in evaluation forward, encode and decode agree to the bit."""
    vectors = gaussian(size, config.width, seed)
    quantizer = build(config).eval()
    out = quantizer(vectors)
    assert torch.equal(out.ids, quantizer.encode(vectors))
    assert torch.equal(out.vectors, quantizer.decode(out.ids))
    assert int(out.ids.min()) >= 0 and int(out.ids.max()) < config.vocab


@lawful
@given(
    config=st.one_of(
        st.builds(lambda table, normalize: VQConfig(normalize=normalize, **table), tables, st.booleans()),
        tables.map(lambda table: SimVQConfig(**table)),
    ),
    size=sizes,
    seed=seeds,
)
def test_the_nearest_code(config: VQConfig | SimVQConfig, size: tuple[int, int, int], seed: int) -> None:
    """In float64 no code is nearer than the chosen one, but for float32's rounding."""
    vectors = gaussian(size, config.width, seed)
    quantizer = build(config)
    compared = F.normalize(vectors, dim=1) if getattr(config, "normalize", False) else vectors
    codes = quantizer.codebook().detach().double()
    flat = compared.permute(0, 2, 3, 1).reshape(-1, 1, config.width).double()
    squares = (flat - codes).square().sum(2)  # (n, k)
    chosen = squares.gather(1, quantizer.encode(vectors).view(-1, 1))
    slack = 2**-20 * (flat.square().sum((1, 2)).max() + codes.square().sum(1).max())
    assert (chosen <= squares.amin(1, keepdim=True) + slack).all()


@lawful
@given(drawn=levels, size=sizes, seed=seeds)
def test_ids_survive_fsq(drawn: tuple[int, ...], size: tuple[int, int, int], seed: int) -> None:
    """ids -> vectors -> ids is the identity, in bfloat16 too, and every digit lies within its levels."""
    fsq = build(FSQConfig(levels=drawn))
    ids = torch.randint(fsq.config.vocab, size, generator=torch.Generator().manual_seed(seed))
    codes = fsq.decode(ids)
    assert torch.equal(fsq.ids_of(codes), ids) and torch.equal(fsq.ids_of(codes.bfloat16()), ids)
    assert codes.abs().max() <= 1
    vectors = 3 * gaussian(size, len(drawn), seed)
    assert torch.equal(fsq.ids_of(fsq(vectors).vectors), fsq.encode(vectors))


@lawful
@given(bits=st.integers(1, 62), sphere=st.booleans(), size=sizes, seed=seeds)
def test_ids_survive_bits(bits: int, sphere: bool, size: tuple[int, int, int], seed: int) -> None:
    """ids -> vectors -> ids is the identity for LFQ and BSQ."""
    quantizer = build(BSQConfig(bits=bits)) if sphere else build(LFQConfig(bits=bits, group=9))
    ids = torch.randint(2**bits, size, generator=torch.Generator().manual_seed(seed))
    assert torch.equal(quantizer.encode(quantizer.decode(ids)), ids)


@lawful
@given(drawn=st.lists(st.integers(2, 9), min_size=1, max_size=6).map(tuple), seed=seeds)
def test_ids_in_both_orders(drawn: tuple[int, ...], seed: int) -> None:
    """Digits and ids are one to one; the other order is another name for the same digits, and comes back."""
    vocab = int(torch.tensor(drawn).prod())
    ids = torch.randint(vocab, (20,), generator=torch.Generator().manual_seed(seed))
    digits = to_digits(ids, drawn)
    assert (digits >= 0).all() and (digits < torch.tensor(drawn)).all()
    assert torch.equal(from_digits(digits, drawn), ids)
    other = other_order(ids, drawn)
    assert torch.equal(to_digits(other, drawn[::-1]), digits.flip(-1))
    assert torch.equal(other_order(other, drawn[::-1]), ids)


@lawful
@given(width=st.integers(2, 16), scale=st.floats(1e-3, 1e3), seed=seeds)
def test_rotations(width: int, scale: float, seed: int) -> None:
    """The turned gradient g' keeps its angle, so that g'.e = g.q, and has |q| / |e| times its length."""
    vectors = gaussian((2, 3, 3), width, seed).double().requires_grad_()
    codes, gradient = scale * torch.randn_like(vectors), torch.randn_like(vectors)
    found = torch.autograd.grad(rotated(vectors, codes), vectors, gradient)[0]
    torch.testing.assert_close((found * vectors).sum(1), (gradient * codes).sum(1))
    ratio = codes.norm(dim=1) / vectors.norm(dim=1)
    torch.testing.assert_close(found.norm(dim=1), gradient.norm(dim=1) * ratio)
