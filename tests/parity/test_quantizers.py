"""Quantizers against vector-quantize-pytorch and transformers: the same codebook and vectors, the same codes.

Tolerances are those of float32 sums in another order. Where a peer's choice differs, the test says how.
"""

from importlib import import_module
from types import SimpleNamespace

import pytest
import torch
import torch.nn.functional as F
from einops import rearrange
from torch import Tensor

from vqtok.tokenizers.quantizers.bsq import BSQ, BSQConfig
from vqtok.tokenizers.quantizers.digits import other_order
from vqtok.tokenizers.quantizers.fsq import FSQ, FSQConfig
from vqtok.tokenizers.quantizers.gumbel import GumbelConfig, GumbelQuantizer
from vqtok.tokenizers.quantizers.lfq import LFQ, LFQConfig
from vqtok.tokenizers.quantizers.quantizer import Quantizer
from vqtok.tokenizers.quantizers.residual import ResidualVQ, ResidualVQConfig
from vqtok.tokenizers.quantizers.simvq import SimVQ, SimVQConfig
from vqtok.tokenizers.quantizers.vq import VectorQuantizer, VQConfig

pytestmark = pytest.mark.peer
CODES, WIDTH = 50, 6


@pytest.fixture
def lucidrains():
    """The package vector-quantize-pytorch."""
    return import_module("vector_quantize_pytorch")


@pytest.fixture
def vectors() -> Tensor:
    """(2, 6, 5, 7) Gaussian vectors that take a gradient."""
    return torch.randn(2, WIDTH, 5, 7, generator=torch.Generator().manual_seed(1), requires_grad=True)


def agree(ours: Quantizer, vectors: Tensor, theirs: tuple[Tensor, Tensor]) -> None:
    """Vectors, ids, and the gradient of a random sum of the vectors; theirs (b, d, h, w) and (b, h, w)."""
    out = ours(vectors)
    assert torch.equal(out.ids, theirs[1].long())
    torch.testing.assert_close(out.vectors, theirs[0])
    torch.testing.assert_close(ours.decode(out.ids), theirs[0])
    gradient = torch.randn(vectors.shape, generator=torch.Generator().manual_seed(2))
    found, expected = (
        torch.autograd.grad(v, vectors, gradient, retain_graph=True)[0] for v in (out.vectors, theirs[0])
    )
    torch.testing.assert_close(found, expected, atol=1e-5, rtol=1e-4)


@pytest.mark.parametrize("rotate", [False, True])
@pytest.mark.parametrize("normalize", [False, True])
def test_vq(lucidrains, vectors: Tensor, normalize: bool, rotate: bool):
    """Codes, commitment and gradients, straight through and rotated, Euclidean and cosine."""
    ours = VectorQuantizer(VQConfig(codes=CODES, width=WIDTH, normalize=normalize, rotate=rotate, means=True))
    theirs = lucidrains.VectorQuantize(
        WIDTH,
        CODES,
        use_cosine_sim=normalize,
        rotation_trick=rotate,
        commitment_weight=0.25,
        accept_image_fmap=True,
    )
    theirs._codebook.embed.copy_(ours.codebook()[None])
    unit = F.normalize(vectors, dim=1) if normalize else vectors
    quantized, ids, loss = theirs(unit, freeze_codebook=True)
    agree(ours, vectors, (quantized, ids))
    torch.testing.assert_close(ours(vectors).loss, loss.squeeze())


def test_running_means(lucidrains, vectors: Tensor):
    """Two steps of means from the same counts; theirs smooth counts by 1e-5, which is the tolerance."""
    ours = VectorQuantizer(VQConfig(codes=CODES, width=WIDTH, normalize=False, means=True, memory=0.8))
    ours.usage.uniform_(0.5, 1.5)
    theirs = lucidrains.VectorQuantize(WIDTH, CODES, decay=0.8, accept_image_fmap=True)
    book, chosen = theirs._codebook, 70 / CODES  # choices of the average code
    book.embed.copy_(ours.embedding.weight[None])
    book.cluster_size.copy_(ours.usage[None] * chosen)
    book.embed_avg.copy_(book.embed * book.cluster_size[..., None])
    for step in (1, 2):
        seen = step * vectors.detach()
        ids = ours.encode(seen)
        assert torch.equal(theirs(seen)[1], ids)
        ours.learn(seen, ids, restart=False)
        torch.testing.assert_close(book.embed[0], ours.embedding.weight, atol=1e-4, rtol=1e-4)
        torch.testing.assert_close(book.cluster_size[0], ours.usage * chosen)


@pytest.mark.parametrize("rotate", [False, True])
def test_simvq(lucidrains, vectors: Tensor, rotate: bool):
    """Codes, loss and gradients behind the same map; theirs has no bias."""
    ours = SimVQ(SimVQConfig(codes=CODES, width=WIDTH, rotate=rotate))
    theirs = lucidrains.SimVQ(WIDTH, CODES, channel_first=True, rotation_trick=rotate)
    theirs.frozen_codebook.copy_(ours.embedding.weight)
    with torch.no_grad():
        theirs.code_transform.weight.copy_(ours.embedding_proj.weight)
        ours.embedding_proj.bias.zero_()
    quantized, ids, loss = theirs(vectors)
    agree(ours, vectors, (quantized, ids))
    torch.testing.assert_close(theirs.indices_to_codes(ids), ours.decode(ids))
    out = ours(vectors)
    torch.testing.assert_close(out.loss, loss)
    found, expected = (
        torch.autograd.grad(value, weight)[0]
        for value, weight in ((out.loss, ours.embedding_proj.weight), (loss, theirs.code_transform.weight))
    )
    torch.testing.assert_close(found, expected)


@pytest.mark.parametrize("levels", [(8, 6, 5), (8, 5, 5, 5), (7, 5, 5, 5, 5), (8, 8, 8, 6, 5), (3, 4)])
def test_fsq(lucidrains, levels: tuple[int, ...]):
    """Codes and gradients, and the ids in the same order."""
    vectors = (2 * torch.randn(2, len(levels), 5, 7)).requires_grad_()
    ours, theirs = FSQ(FSQConfig(levels=levels)), lucidrains.FSQ(list(levels))
    quantized, ids = theirs(vectors)
    agree(ours, vectors, (quantized, ids))
    assert torch.equal(ours.ids_of(quantized), ids.long())


@pytest.mark.parametrize("sphere", [False, True])
def test_lfq_and_bsq(lucidrains, vectors: Tensor, sphere: bool):
    """Codes, gradients, entropies and commitment; their ids count ones at the last channel.

    Theirs takes no logarithm of probabilities below 1e-5, so the temperature is one at which there are few.
    """
    weights = {"entropy": 0.1, "diversity": 0.7, "beta": 0.25, "temperature": 2.0}
    ours = BSQ(BSQConfig(bits=WIDTH, **weights)) if sphere else LFQ(LFQConfig(bits=WIDTH, **weights))
    theirs = lucidrains.LFQ(
        dim=WIDTH, entropy_loss_weight=0.1, diversity_gamma=0.7, commitment_loss_weight=0.25, spherical=sphere
    )
    quantized, ids, loss = theirs(vectors, inv_temperature=0.5)
    agree(ours, vectors, (quantized, other_order(ids.long(), [2] * WIDTH)))
    torch.testing.assert_close(ours(vectors).loss, loss, atol=1e-4, rtol=1e-4)


def test_residual_vq(lucidrains, vectors: Tensor):
    """Codes of all stages, and their sum; theirs is for sequences."""
    ours = ResidualVQ(ResidualVQConfig(stages=3, codes=CODES, width=WIDTH))
    theirs = lucidrains.ResidualVQ(
        dim=WIDTH, codebook_size=CODES, num_quantizers=3, quantize_dropout=True
    ).eval()
    for stage, layer in zip(ours.stages, theirs.layers, strict=True):
        layer._codebook.embed.copy_(stage.embedding.weight[None])
    quantized, ids, _ = theirs(rearrange(vectors, "b d h w -> b (h w) d"))
    ids = rearrange(ids, "b (h w) q -> b h w q", h=5)
    assert torch.equal(ours.encode(vectors), ids)
    torch.testing.assert_close(ours(vectors).vectors, rearrange(quantized, "b (h w) d -> b d h w", h=5))
    coarse = theirs.get_output_from_indices(ids[..., :2])
    torch.testing.assert_close(ours.decode(ids[..., :2]), rearrange(coarse, "b h w d -> b d h w"))


@pytest.mark.parametrize("family", ["chameleon", "janus"])
def test_vq_of_transformers(vectors: Tensor, family: str):
    """Codes, and loss and gradients with taming's weights, for vectors and codes."""
    models = import_module("transformers.models")
    name = family.capitalize()
    module = getattr(getattr(models, family), f"modeling_{family}")
    shape = SimpleNamespace(num_embeddings=CODES, embed_dim=WIDTH, beta=0.25, num_patches=4)
    theirs = getattr(module, f"{name}VQVAEVectorQuantizer")(shape)
    ours = VectorQuantizer(VQConfig(codes=CODES, width=WIDTH, normalize=False, legacy=True))
    ours.embedding.load_state_dict(theirs.embedding.state_dict())
    quantized, loss, ids = theirs(vectors)
    agree(ours, vectors, (quantized, ids.view(2, 5, 7)))
    out = ours(vectors)
    torch.testing.assert_close(out.loss, loss)
    for value, book in ((out.loss, ours), (loss, theirs)):
        book.gradients = torch.autograd.grad(value, [vectors, book.embedding.weight])
    torch.testing.assert_close(ours.gradients, theirs.gradients)


def test_normalized_codes_of_transformers():
    """Janus decodes ids to codes of length one."""
    janus = import_module("transformers.models.janus.modeling_janus")
    theirs = janus.JanusVQVAEVectorQuantizer(
        SimpleNamespace(num_embeddings=CODES, embed_dim=WIDTH, num_patches=4)
    )
    ours = VectorQuantizer(VQConfig(codes=CODES, width=WIDTH))
    ours.embedding.load_state_dict(theirs.embedding.state_dict())
    ids = torch.randint(CODES, (2, 4, 4))
    torch.testing.assert_close(ours.decode(ids), theirs.get_codebook_entry(ids.flatten(1)))


def test_fsq_of_transformers():
    """X-Codec 2's, which is for sequences."""
    xcodec2 = import_module("transformers.models.xcodec2.modeling_xcodec2")
    levels = (4, 4, 4, 4, 4, 4, 4, 4)
    theirs = xcodec2.Xcodec2FiniteScalarQuantization(SimpleNamespace(quantization_levels=levels))
    vectors = (2 * torch.randn(2, 8, 1, 35)).requires_grad_()
    codes, ids = theirs(rearrange(vectors, "b d 1 t -> b t d"))
    agree(FSQ(FSQConfig(levels=levels)), vectors, (rearrange(codes, "b t d -> b d 1 t"), ids[:, None]))


def test_residual_vq_of_transformers(vectors: Tensor):
    """EnCodec's, which is for sequences and counts stages first."""
    encodec = import_module("transformers.models.encodec.modeling_encodec")
    transformers = import_module("transformers")
    shape = transformers.EncodecConfig(codebook_size=CODES, codebook_dim=WIDTH, target_bandwidths=[24.0])
    theirs = encodec.EncodecResidualVectorQuantizer(shape)
    ours = ResidualVQ(ResidualVQConfig(stages=4, codes=CODES, width=WIDTH))
    for stage, layer in zip(ours.stages, theirs.layers, strict=False):
        layer.codebook.embed.copy_(stage.embedding.weight)
    theirs.num_quantizers, theirs.layers = 4, theirs.layers[:4]
    with torch.no_grad():
        ids = theirs.encode(rearrange(vectors, "b d h w -> b d (h w)"))
        quantized = theirs.decode(ids)
    ids = rearrange(ids, "q b (h w) -> b h w q", h=5)
    assert torch.equal(ours.encode(vectors), ids)
    torch.testing.assert_close(ours.decode(ids), rearrange(quantized, "b d (h w) -> b d h w", h=5))


def test_gumbel_of_transformers(vectors: Tensor):
    """wav2vec 2.0's with one group, in evaluation; training draws other noise."""
    wav2vec2 = import_module("transformers.models.wav2vec2.modeling_wav2vec2")
    transformers = import_module("transformers")
    shape = transformers.Wav2Vec2Config(
        num_codevector_groups=1,
        num_codevectors_per_group=CODES,
        codevector_dim=WIDTH,
        conv_dim=(8,) * 6 + (WIDTH,),
    )
    theirs = wav2vec2.Wav2Vec2GumbelVectorQuantizer(shape).eval()
    torch.nn.init.normal_(theirs.weight_proj.weight)
    torch.nn.init.normal_(theirs.codevectors)
    ours = GumbelQuantizer(GumbelConfig(codes=CODES, width=WIDTH)).eval()
    with torch.no_grad():
        ours.proj.weight.copy_(theirs.weight_proj.weight[..., None, None])
        ours.proj.bias.copy_(theirs.weight_proj.bias)
        ours.embed.weight.copy_(theirs.codevectors[0])
        quantized = theirs(rearrange(vectors, "b d h w -> b (h w) d"))[0]
    expected = rearrange(quantized, "b (h w) d -> b d h w", h=5)
    torch.testing.assert_close(ours.decode(ours.encode(vectors)), expected)
