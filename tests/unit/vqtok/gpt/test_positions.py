"""Positions: turns by complex numbers, tables by hand."""

import pytest
import torch

from vqtok.gpt.layers import rotate
from vqtok.gpt.positions import LearnedConfig, RoPE2DConfig, RoPEConfig, RowColumnConfig


def turned(x, angles):
    """Heads (b, p, n, k) whose pairs (i, i + k/2) turn by angles (p, k/2), as products of complex numbers."""
    pairs = torch.complex(*x.double().chunk(2, dim=-1))
    turned = pairs * torch.polar(torch.ones_like(angles), angles)[:, None]
    return torch.cat((turned.real, turned.imag), -1).float()


def test_rotation_is_by_position_times_frequency():
    """The pair (i, i + k/2) turns by position / base^(2i/k)."""
    x = torch.randn(3, 12, 2, 8)
    angles = torch.arange(12.0).double()[:, None] / 100.0 ** (torch.arange(4).double() / 4)
    table = RoPEConfig(base=100.0).table(12, 8)
    torch.testing.assert_close(rotate(x, table), turned(x, angles), atol=1e-5, rtol=0)


def test_rotation_in_a_grid_is_by_row_and_by_column():
    """Half of the pairs turn by row / base^(4i/k), half by column."""
    x = torch.randn(3, 10, 2, 8)  # after 2 places: rows of 3 cells
    cells = torch.arange(8)
    frequencies = 100.0 ** -(torch.arange(2).double() / 2)
    angles = [(part.double()[:, None] * frequencies) for part in (cells // 3, cells % 3)]
    table = RoPE2DConfig(columns=3, before=2, base=100.0).table(10, 8)
    found = rotate(x, table)
    torch.testing.assert_close(found[:, 2:], turned(x[:, 2:], torch.cat(angles, 1)), atol=1e-5, rtol=0)


@pytest.mark.parametrize(("still", "factor"), [("zeroed", 0), ("unturned", 1)])
def test_places_before_a_grid_are_zeroed_or_unturned(still, factor):
    """Queries and keys of the prefix are zero, as LlamaGen's, or stay as they are."""
    x = torch.randn(1, 5, 2, 8)
    found = rotate(x, RoPE2DConfig(columns=3, before=2, still=still).table(5, 8))
    assert torch.equal(found[:, :2], factor * x[:, :2])


def test_in_a_grid_only_distances_by_row_and_column_matter():
    """A query and a key two rows and one column apart meet alike wherever they stand."""
    config = RoPE2DConfig(columns=5)
    query, key = torch.randn(2, 8).double()
    table = config.table(25, 8).double()
    at = [table[:, place] for place in range(25)]
    turn = [lambda x, row=row: x * row[0, 0] + x.roll(4) * row[1, 0] for row in at]
    found = [float(turn[place + 11](query) @ turn[place](key)) for place in (0, 1, 3, 5, 6, 13)]
    assert found == pytest.approx([found[0]] * 6, abs=1e-5)


def test_learned_positions_are_rows_of_a_table():
    """Place p has row p."""
    module = LearnedConfig().build(6, 4)
    places = torch.tensor([[0, 5], [3, 3]])
    assert torch.equal(module(places), module.weight[places])


@pytest.mark.parametrize("before", [0, 3])
def test_row_and_column_add_up(before):
    """Cells have the sum of their row's and their column's vector, places before the grid their own."""
    module = RowColumnConfig(columns=4, before=before).build(before + 10, 5)
    assert module.row.num_embeddings == 3
    found = module(torch.arange(before + 10))
    for cell in range(10):
        expected = module.row.weight[cell // 4] + module.column.weight[cell % 4]
        assert torch.equal(found[before + cell], expected)
    assert before == 0 or torch.equal(found[:before], module.before.weight)
