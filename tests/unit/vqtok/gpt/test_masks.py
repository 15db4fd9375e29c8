"""Masks against their definitions, cell by cell, and places of packed documents."""

from collections import Counter

import pytest
import torch

from vqtok.gpt.block_masks import block_attention, block_mask, masks_of
from vqtok.gpt.config import AttentionConfig, GPTConfig
from vqtok.gpt.layers import masked_attention
from vqtok.gpt.masks import CausalConfig, FullConfig, GridConfig, Places

CELLS, BEFORE = 30, 3


def near(pattern, query, key, columns, reach):
    """Whether a cell sees another that is not after it, by counting cells and rows."""
    back = query - key
    if pattern == "row":
        return back <= columns
    if pattern == "column":
        return query % columns == key % columns
    square = [rows * columns + aside for rows in range(reach + 1) for aside in range(-reach, reach + 1)]
    return back in square


@pytest.mark.parametrize("kernel", [1, 3, 5, 11])
@pytest.mark.parametrize("columns", [1, 4, 7])
@pytest.mark.parametrize("pattern", ["row", "column", "convolution"])
def test_grids_cell_by_cell(pattern, columns, kernel):
    """Every place sees what is before the grid; cells see those that the layer's kind says; none ahead."""
    mask = GridConfig(columns=columns, before=BEFORE, kernel=kernel)
    found = Places.between(0, BEFORE + CELLS, torch.device("cpu")).dense(mask, pattern)
    for query in range(BEFORE + CELLS):
        for key in range(BEFORE + CELLS):
            expected = key <= query and (
                key < BEFORE or near(pattern, query - BEFORE, key - BEFORE, columns, kernel // 2)
            )
            assert found[query, key] == expected, (query, key)


def test_a_row_reaches_into_the_row_above():
    """DALL-E's row layer sees as many cells back as the grid is wide, and itself: figure 11 of the paper."""
    found = Places.between(0, 16, torch.device("cpu")).dense(GridConfig(columns=4), "row")
    assert found[10].nonzero().flatten().tolist() == [6, 7, 8, 9, 10]


def test_layers_of_dalle():
    """Of 64 layers, 47 see rows, 16 columns (the second, the sixth, ...), and the last a square."""
    mask = GridConfig(columns=32, before=256)
    patterns = [mask.pattern(layer, 64) for layer in range(64)]
    assert Counter(patterns) == {"row": 47, "column": 16, "convolution": 1}
    assert patterns[:6] == ["row", "column", "row", "row", "row", "column"]
    assert patterns[-1] == "convolution"


@pytest.mark.parametrize("mask", [CausalConfig(), FullConfig(), GridConfig(columns=4, before=2, kernel=3)])
def test_new_tokens_have_the_last_rows_of_the_whole_mask(mask):
    """What 5 tokens after 7 see is what they see when all 12 pass at once."""
    for pattern in {mask.pattern(layer, 9) for layer in range(9)}:
        whole = Places.between(0, 12, torch.device("cpu")).dense(mask, pattern)
        assert torch.equal(Places.between(7, 12, torch.device("cpu")).dense(mask, pattern), whole[7:])


def test_places_of_packed_documents():
    """They begin anew where the number changes, also where it comes back."""
    places = Places.packed(torch.tensor([[5, 5, 5, 2, 2, 5], [0, 1, 1, 1, 1, 1]]))
    assert places.new.tolist() == [[0, 1, 2, 0, 1, 0], [0, 0, 1, 2, 3, 4]]
    assert places.documents.tolist() == [[1, 1, 1, 2, 2, 3], [1, 2, 2, 2, 2, 2]]


def test_documents_do_not_see_one_another():
    """Within its document a token sees what the mask says of their places, and nothing outside."""
    places = Places.packed(torch.tensor([[0, 0, 0, 1, 1, 1, 1]]))
    mask = GridConfig(columns=2, before=1, kernel=1)
    found = places.dense(mask, "row")[0, 0]
    alone = [Places.between(0, size, torch.device("cpu")).dense(mask, "row") for size in (3, 4)]
    assert torch.equal(found, torch.block_diag(*alone).bool())


def test_causal_and_full_attention_need_no_mask():
    """Only grids, documents and room that is not filled yet do."""
    shape = {"vocab": 5, "length": 12, "width": 16, "depth": 3, "heads": 2}
    whole = Places.between(0, 12, torch.device("cpu"))
    for mask in (CausalConfig(), FullConfig()):
        assert masks_of(GPTConfig(**shape, attention=AttentionConfig(mask=mask)), whole) == {}
    padded = Places(torch.tensor([4]), 12, padded=True)
    assert masks_of(GPTConfig(**shape), padded)[None].tolist() == [[True] * 5 + [False] * 7]
    grid = AttentionConfig(mask=GridConfig(columns=3))
    assert set(masks_of(GPTConfig(**shape, attention=grid), whole)) == {"row", "column", "convolution"}


DOCUMENTS = torch.tensor([[0] * 50 + [1] * 90 + [2] * 60, [0] * 200])
CASES = {
    "row": (GridConfig(columns=16, before=5), "row", None),
    "column": (GridConfig(columns=16, before=5), "column", None),
    "convolution": (GridConfig(columns=16, before=5), "convolution", None),
    "documents": (CausalConfig(), None, DOCUMENTS),
    "documents both ways": (FullConfig(), None, DOCUMENTS),
}


@pytest.mark.parametrize(("mask", "pattern", "documents"), CASES.values(), ids=CASES)
@pytest.mark.filterwarnings("ignore:flex_attention called without torch.compile")
@pytest.mark.parametrize("device", ["cpu", pytest.param("cuda", marks=pytest.mark.gpu)])
def test_blocks_give_what_dense_masks_give(mask, pattern, documents, device):
    """FlexAttention, in its plain form on a CPU, agrees with SDPA for every mask, with shared key heads."""
    places = Places.between(0, 200, torch.device(device))
    if documents is not None:
        places = Places.packed(documents.to(device))
    queries = torch.randn(2, 4, 200, 16, device=device)
    keys, values = torch.randn(2, 2, 2, 200, 16, device=device)
    expected = masked_attention(queries, keys, values, places.dense(mask, pattern))
    found = block_attention(queries, keys, values, block_mask(mask, pattern, places))
    # On a GPU both multiply in TF32 where that is allowed; on a CPU only sums are reordered.
    torch.testing.assert_close(found, expected, atol=1e-5 if device == "cpu" else 1e-2, rtol=0)


def test_blocks_skip_most_of_a_grid():
    """Of 1280 tokens in rows of 32, a row layer's blocks are mostly empty, more than causal attention's."""
    places = Places.between(0, 1280, torch.device("cpu"))
    skipped = {
        pattern: block_mask(GridConfig(columns=32, before=256), pattern, places).sparsity()
        for pattern in ("row", "convolution")
    }
    causal = block_mask(CausalConfig(), None, places).sparsity()
    assert skipped["row"] > skipped["convolution"] > causal > 40
