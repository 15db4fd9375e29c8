"""Residual quantization."""

import pytest
import torch
from torch import Tensor

from vqtok.tokenizers.quantizers.residual import ResidualVQ, ResidualVQConfig


def quantizer(stages: int = 3, **options: object) -> ResidualVQ:
    """With 16 codes a stage, of seed 0."""
    torch.manual_seed(0)
    return ResidualVQ(ResidualVQConfig(stages=stages, codes=16, width=4, **options))


def test_stages_quantize_what_is_left(vectors: Tensor):
    """Each id is its stage's choice for the vector less the codes before it; the sum is what comes out."""
    made = quantizer()
    left, total = vectors, torch.zeros_like(vectors)
    ids = made.encode(vectors)
    for stage, part in zip(made.stages, ids.unbind(-1), strict=True):
        assert torch.equal(stage.encode(left), part)
        left, total = left - stage.decode(part), total + stage.decode(part)
    torch.testing.assert_close(made.decode(ids), total)


def test_the_first_stages_decode_alone(vectors: Tensor):
    """Ids cut short give the coarser vectors of a quantizer with fewer stages, and the errors fall."""
    made = quantizer(kmeans=5)
    made.learn(vectors, made.encode(vectors))
    ids = made.encode(vectors)
    assert torch.equal(made.decode(ids[..., :1]), made.stages[0].decode(ids[..., 0]))
    coarse = [made.decode(ids[..., :count]).detach() for count in (1, 2, 3)]
    errors = [float((decoded - vectors).square().mean()) for decoded in coarse]
    assert errors[0] > 2 * errors[1] > 4 * errors[2]
    torch.testing.assert_close(torch.stack([*made(vectors).terms.values()]), torch.tensor(errors))


def test_gradients(vectors: Tensor):
    """The loss is the mean over stages: a vector is pulled to each partial sum, with weight beta."""
    made = quantizer(beta=0.5)
    out = made(vectors.requires_grad_())
    partial = [made.decode(out.ids[..., :count]) for count in (1, 2, 3)]
    expected = sum(0.5 * 2 * (vectors - total) / vectors.numel() for total in partial) / 3
    torch.testing.assert_close(torch.autograd.grad(out.loss, vectors)[0], expected.detach())


@pytest.mark.parametrize("means", [False, True])
def test_stages_learn_from_what_was_left(vectors: Tensor, means: bool):
    """`learn` counts each stage's ids, and moves each stage's means to what that stage saw."""
    made = quantizer(means=means, memory=0.0)
    out, left = made(vectors), vectors
    expected = []
    for stage, part in zip(made.stages, out.ids.unbind(-1), strict=True):
        flat = left.permute(0, 2, 3, 1).reshape(-1, 4)
        expected.append(
            torch.stack([flat[part.flatten() == code].mean(0) for code in part.unique().tolist()])
        )
        left = left - stage.decode(part).detach()
    assert made.learn(vectors, out.ids, restart=False) == 0
    for stage, part, wanted in zip(made.stages, out.ids.unbind(-1), expected, strict=True):
        counts = torch.bincount(part.flatten(), minlength=16)
        torch.testing.assert_close(stage.usage, counts * 16 / 105)
        if means:
            torch.testing.assert_close(stage.embedding.weight[part.unique()], wanted)


def test_restarts_are_counted(vectors: Tensor):
    """The sum over stages."""
    made = quantizer(restart_below=0.5, memory=0.0)
    ids = made.encode(vectors)
    few = sum(
        int((torch.bincount(part.flatten(), minlength=16) * 16 / 105 < 0.5).sum()) for part in ids.unbind(-1)
    )
    assert made.learn(vectors, ids) == few > 0


def test_settings_of_no_use():
    """A quantizer needs a stage, and its stages codes."""
    with pytest.raises(ValueError, match="stages 0 must be at least 1"):
        ResidualVQConfig(stages=0, codes=4, width=2)
    with pytest.raises(ValueError, match="a codebook of 1 codes"):
        ResidualVQConfig(stages=2, codes=1, width=2)
