"""The DiT: patches, positions, blocks that begin as nothing."""

import pytest
import torch

from diffusion.networks import ClassesConfig, DiTConfig, TimeConfig
from diffusion.networks.dit import Block, grid_positions

T = torch.tensor([3, 500])
SMALL = DiTConfig(size=8, patch=2, width=32, depth=1, heads=2)


def test_the_papers_size():
    """DiT-S/2 on 32 x 32 x 4 latents, 1000 classes, learned variance: the paper's 33 M parameters."""
    with torch.device("meta"):
        dit = DiTConfig(in_channels=4, out_channels=8, classes=ClassesConfig(count=1000)).build()
    assert round(sum(weight.numel() for weight in dit.parameters()) / 1e6) == 33


def test_a_new_block_is_nothing():
    """adaLN-Zero: with its gates at zero, a block gives its input, whatever it is told."""
    dit = SMALL.build()
    x = torch.randn(2, 16, 32)
    assert isinstance(dit.blocks[0], Block) and torch.equal(dit.blocks[0](x, torch.randn(2, 1, 32)), x)


def test_positions_are_all_different():
    """No two places of a grid have the same vector, and rows do not take the place of columns."""
    table = grid_positions(7, 32, TimeConfig())
    distances = torch.cdist(table, table) + torch.eye(49) * 9
    assert table.shape == (49, 32) and distances.min() > 0.1


def test_patches_come_back_where_they_were():
    """With tokens that are their patch, the way out undoes the way in."""
    dit = DiTConfig(size=8, patch=2, width=12, depth=1, heads=2).build()
    x = torch.randn(2, 3, 8, 8)
    with torch.no_grad():
        for layer in (dit.patches, dit.out):
            layer.weight.copy_(torch.eye(12))
        dit.positions.zero_()
    pixels = dit(x, T).unfold(2, 2, 2).unfold(3, 2, 2)  # (b, c, i, j, p, q)
    patches = x.unfold(2, 2, 2).unfold(3, 2, 2)
    mean = patches.mean((1, 4, 5), keepdim=True)  # the last norm's, over a patch
    spread = patches.std((1, 4, 5), keepdim=True, unbiased=False)
    torch.testing.assert_close(pixels, (patches - mean) / spread, atol=1e-4, rtol=1e-4)


def test_other_sizes_are_refused():
    """Positions are those of one size."""
    with pytest.raises(ValueError, match="16 x 16 pixels, this DiT of size 8"):
        SMALL.build()(torch.randn(2, 3, 16, 16), T)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"patch": 3}, "size 32 does not divide by patch 3"),
        ({"heads": 5}, "width 384 does not divide by heads 5"),
        ({"width": 30}, "width 30 does not hold sines and cosines"),
        ({"depth": 0}, "depth is 0"),
    ],
    ids=str,
)
def test_bad_settings(settings, message):
    """Settings that cannot be built are refused when they are written."""
    with pytest.raises(ValueError, match=message):
        DiTConfig(**settings)
