"""What every quantizer keeps to, whatever its kind."""

from dataclasses import FrozenInstanceError

import pytest
import torch
from torch import Tensor

from vqtok.storage.records import decode, encode
from vqtok.tokenizers.quantizers.choice import QUANTIZERS, QuantizerConfig, build
from vqtok.tokenizers.quantizers.quantizer import Quantizer


def test_shapes_and_ranges(quantizer: Quantizer, vectors: Tensor):
    """Vectors keep their shape, ids are int64 in [0, vocab), the loss is one finite number."""
    out = quantizer(vectors)
    assert out.vectors.shape == vectors.shape and out.vectors.dtype == torch.float32
    assert out.ids.shape == (3, 5, 7, *quantizer.id_shape) and out.ids.dtype == torch.int64
    assert int(out.ids.min()) >= 0 and int(out.ids.max()) < quantizer.config.vocab
    assert out.loss.shape == () and out.loss.isfinite()
    assert all(term.shape == () and not term.requires_grad for term in out.terms.values())
    assert len(out.ids.unique()) > 4  # it does choose


def test_evaluation_is_encode_and_decode(quantizer: Quantizer, vectors: Tensor):
    """In evaluation forward gives the ids of `encode` and, to the bit, the vectors of `decode`."""
    quantizer.eval()
    out = quantizer(vectors)
    assert torch.equal(out.ids, quantizer.encode(vectors))
    assert torch.equal(out.vectors, quantizer.decode(out.ids))


def test_training_decodes_to_what_it_saw(quantizer: Quantizer, vectors: Tensor):
    """In training, too, the decoder sees what ids decode to, but for the dVAE's mixtures."""
    mixtures = not getattr(quantizer.config, "hard", True)
    out = quantizer(vectors)
    assert torch.equal(out.vectors, quantizer.decode(out.ids)) is not mixtures


def test_gradients_arrive(quantizer: Quantizer, vectors: Tensor):
    """The decoder's gradient and the loss together reach the vectors and every parameter that takes one."""
    vectors.requires_grad_()
    out = quantizer(vectors)
    (out.loss + out.vectors.square().sum()).backward()
    assert vectors.grad.abs().sum() > 0
    taught = [parameter for parameter in quantizer.parameters() if parameter.requires_grad]
    assert all(parameter.grad.abs().sum() > 0 for parameter in taught)


def test_autocast_changes_nothing(quantizer: Quantizer, vectors: Tensor):
    """Under bfloat16 autocast ids, vectors and loss are those of float32; inputs are lifted first."""
    coarse = vectors.bfloat16()
    quantizer.eval()
    plain = quantizer(coarse.float())
    with torch.autocast("cpu", dtype=torch.bfloat16):
        out, ids = quantizer(coarse), quantizer.encode(coarse)
        vectors = quantizer.decode(ids)
    assert torch.equal(out.ids, plain.ids) and torch.equal(ids, plain.ids)
    assert torch.equal(out.vectors, plain.vectors) and torch.equal(vectors, plain.vectors)
    assert torch.equal(out.loss, plain.loss) and out.loss.dtype == torch.float32


def test_half_size_weights(quantizer: Quantizer, vectors: Tensor):
    """After `.bfloat16()` ids are those of the same weights, rounded, in float32."""
    quantizer.eval().bfloat16()
    ids = quantizer.encode(vectors.bfloat16())
    assert torch.equal(quantizer.float().encode(vectors.bfloat16().float()), ids)


def test_any_memory_layout(quantizer: Quantizer, vectors: Tensor):
    """Channels last, and views with gaps, have the ids of contiguous vectors."""
    quantizer.eval()
    ids = quantizer.encode(vectors)
    assert torch.equal(quantizer.encode(vectors.to(memory_format=torch.channels_last)), ids)
    assert torch.equal(quantizer.encode(vectors.mT), ids.transpose(1, 2))
    gaps = torch.stack([vectors, -vectors], dim=-1)[..., 0]
    assert not gaps.is_contiguous() and torch.equal(quantizer.encode(gaps), ids)


def test_learning_is_harmless(quantizer: Quantizer, vectors: Tensor):
    """`learn` returns how many codes it restarted, and leaves finite weights that take no graph along."""
    out = quantizer(vectors)
    assert quantizer.learn(vectors, out.ids, restart=False) == 0
    assert quantizer.learn(vectors, out.ids) >= 0
    assert all(
        tensor.isfinite().all() and tensor.grad_fn is None for tensor in quantizer.state_dict().values()
    )


def test_config_round_trip(config: QuantizerConfig):
    """A configuration is frozen plain data that says its kind."""
    data = encode(config)
    assert data["kind"] == config.kind
    assert decode(QuantizerConfig, data, "here") == config
    with pytest.raises(FrozenInstanceError):
        config.kind = "other"


def test_every_kind_has_a_class():
    """`build` knows every arm of the union, and each has a word of its own."""
    assert set(QUANTIZERS) == set(QuantizerConfig.__args__)
    kinds = [config.__dataclass_fields__["kind"].default for config in QUANTIZERS]
    assert len(set(kinds)) == len(kinds) == 8


def test_state_round_trip(quantizer: Quantizer, config: QuantizerConfig, vectors: Tensor):
    """Its tensors alone make another one the same."""
    torch.manual_seed(7)
    other = build(config)
    other.load_state_dict(quantizer.state_dict())
    assert torch.equal(other.eval().encode(vectors), quantizer.eval().encode(vectors))


@pytest.mark.parametrize("shape", [(3, 5, 5, 7), (3, 4, 5)])
def test_vectors_of_another_width(quantizer: Quantizer, shape: tuple[int, ...]):
    """They are refused with both widths."""
    with pytest.raises(ValueError, match=r"must be \(b, 4, h, w\): bring them to the quantizer's width 4"):
        quantizer(torch.zeros(shape))
    with pytest.raises(ValueError, match="width 4"):
        quantizer.encode(torch.zeros(shape))
