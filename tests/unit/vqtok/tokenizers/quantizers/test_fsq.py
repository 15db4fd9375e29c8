"""FSQ: rounding to a grid."""

import pytest
import torch
from torch import Tensor

from vqtok.tokenizers.quantizers.fsq import FSQ, FSQConfig

LEVELS = (8, 5, 3, 4)


@pytest.fixture
def fsq() -> FSQ:
    """480 codes."""
    return FSQ(FSQConfig(levels=LEVELS))


def test_the_grid(fsq: FSQ):
    """Codes of channel l are the whole numbers around 0 over l // 2, each as often as the others."""
    codes = fsq.decode(torch.arange(480).view(1, 1, 480))[0, :, 0]
    values = [sorted(channel.unique().tolist()) for channel in codes]
    assert values[0] == [-1, -0.75, -0.5, -0.25, 0, 0.25, 0.5, 0.75]
    assert values[1] == [-1, -0.5, 0, 0.5, 1] and values[2] == [-1, 0, 1] and values[3] == [-1, -0.5, 0, 0.5]
    assert len(codes.unique(dim=1).T) == 480


def test_ids_of_codes(fsq: FSQ):
    """Every id comes back from its code, and the first channel counts ones."""
    ids = torch.arange(480).view(1, 1, 480)
    codes = fsq.decode(ids)
    assert torch.equal(fsq.ids_of(codes), ids)
    assert torch.equal(fsq.ids_of(codes.bfloat16()), ids)
    assert codes[0, :, 0, 0].tolist() == [-1, -1, -1, -1] and codes[0, :, 0, 1].tolist() == [
        -0.75,
        -1,
        -1,
        -1,
    ]


def test_the_bound(fsq: FSQ):
    """Zero is the middle, the outermost levels are reached and never passed."""
    zero = fsq(torch.zeros(1, 4, 1, 1))
    assert not zero.vectors.any()
    for sign, outermost in ((-1, [-1, -1, -1, -1]), (1, [0.75, 1, 1, 0.5])):
        for size in (20.0, torch.inf):
            found = fsq.decode(fsq.encode(torch.full((1, 4, 1, 1), sign * size)))
            assert found.flatten().tolist() == outermost


def test_gradient_of_the_bound(fsq: FSQ, vectors: Tensor):
    """The gradient is that of the bound, which is what is rounded, in units of l // 2 levels."""
    vectors.requires_grad_()
    found = torch.autograd.grad(fsq(vectors).vectors.sum(), vectors)[0]
    plain = vectors.detach().double().requires_grad_()
    half = (torch.tensor(LEVELS) - 1).double()[:, None, None] * 1.001 / 2
    offset = torch.tensor([0.5, 0, 0, 0.5]).double()[:, None, None]
    bounded = (
        half * torch.tanh(plain + torch.atanh(offset / half)) / torch.tensor([4, 2, 1, 2])[:, None, None]
    )
    torch.testing.assert_close(found, torch.autograd.grad(bounded.sum(), plain)[0].float())


def test_nothing_to_learn(fsq: FSQ, vectors: Tensor):
    """No parameters, no state, no loss."""
    assert not fsq.state_dict() and not [*fsq.parameters()]
    assert fsq(vectors).loss == 0


@pytest.mark.parametrize(
    ("levels", "told"),
    [((8, 2), r"levels \(8, 2\).* take lfq"), ((), r"levels \(\)"), ((8,) * 30, "too many")],
)
def test_grids_of_no_use(levels: tuple[int, ...], told: str):
    """Two levels have hardly a gradient, none have no codes, too many no ids."""
    with pytest.raises(ValueError, match=told):
        FSQConfig(levels=levels)
