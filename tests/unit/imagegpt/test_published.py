"""OpenAI's variables: turned as ours lie, computed as its code computes, refused when one is left over."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor

from imagegpt.model import ImageGPT
from imagegpt.published import import_imagegpt, is_imagegpt, load_published
from vqtok.tokenizers.palette import PaletteTokenizer
from vqtok.tokenizers.published.palettes import write_centers

HEADS, WIDTH, DEPTH, CODES, TOKENS = 2, 8, 2, 6, 16


def variables(bert: bool = False, classes: int = 0) -> dict[str, np.ndarray]:
    """Random ones, with the names and shapes that OpenAI's code gives them."""
    rng = np.random.default_rng(0)
    shapes = {"wte": (CODES, WIDTH), "wpe": (TOKENS, WIDTH), "wtet": (CODES, WIDTH), "ln_f/g": (WIDTH,)}
    shapes |= {} if bert else {"sos": (WIDTH,)}
    shapes |= {"clf/wclf": (classes, WIDTH)} if classes else {}
    for layer in range(DEPTH):
        shapes |= {f"h{layer}/attn/{part}_proj": (HEADS, WIDTH // HEADS, WIDTH) for part in "qkvc"}
        shapes |= {f"h{layer}/ln_{number}/g": (WIDTH,) for number in (1, 2)}
        shapes |= {f"h{layer}/mlp/c_fc/w": (WIDTH, 4 * WIDTH), f"h{layer}/mlp/c_proj/w": (4 * WIDTH, WIDTH)}
    return {f"model/{name}": rng.normal(size=shape).astype(np.float32) for name, shape in shapes.items()}


def by_hand(v: dict[str, np.ndarray], ids: Tensor, bert: bool = False) -> Tensor:
    """Logits (b, t, v) by the formulas of OpenAI's model, written out."""
    w = {name.removeprefix("model/"): torch.from_numpy(array) for name, array in v.items()}

    def norm(x: Tensor, name: str) -> Tensor:
        return x * torch.rsqrt(x.square().mean(-1, keepdim=True) + 1e-5) * w[f"{name}/g"]

    h = w["wte"][ids]
    if not bert:
        h = torch.cat([w["sos"].expand(len(ids), 1, -1), h[:, :-1]], dim=1)
    h = h + w["wpe"]
    late = torch.ones(TOKENS, TOKENS, dtype=torch.bool).triu(1)
    for layer in range(DEPTH):
        x = norm(h, f"h{layer}/ln_1")
        q, k, u = (torch.einsum("bsf,hef->bhse", x, w[f"h{layer}/attn/{part}_proj"]) for part in "qkv")
        scores = q @ k.mT / (WIDTH // HEADS) ** 0.5
        weights = (scores if bert else scores.masked_fill(late, -torch.inf)).softmax(-1)
        h = h + torch.einsum("bhse,hef->bsf", weights @ u, w[f"h{layer}/attn/c_proj"])
        inner = norm(h, f"h{layer}/ln_2") @ w[f"h{layer}/mlp/c_fc/w"]
        h = h + (inner * torch.sigmoid(1.702 * inner)) @ w[f"h{layer}/mlp/c_proj/w"]
    return norm(h, "ln_f") @ w["wtet"].T


@pytest.fixture
def save(palette: PaletteTokenizer, tmp_path: Path) -> Callable[[dict], Path]:
    """Write an .npz with the palette beside it."""

    def save(arrays: dict[str, np.ndarray]) -> Path:
        write_centers(palette, tmp_path / "kmeans_centers.npy")
        np.savez(tmp_path / "igpt.npz", **arrays)
        return tmp_path / "igpt.npz"

    return save


@pytest.mark.parametrize("bert", [False, True])
def test_variables_compute_what_openais_code_computes(bert: bool, save: Callable, ids: Tensor):
    """Logits are those of its formulas; without a start token the model sees both sides."""
    arrays = variables(bert)
    model = load_published(save(arrays | {"global_step": np.array(7), "model/wte/Adam": np.zeros(3)}))
    assert model.config.gpt.causal != bert and not model.gpt.training
    found = model.gpt(ids) if bert else model.network(ids)[0]
    # float32 sums of a few dozen terms in another order
    torch.testing.assert_close(found, by_hand(arrays, ids, bert), atol=1e-4, rtol=1e-4)


def test_a_classifier(save: Callable, ids: Tensor):
    """Its matrix is read; classes are numbers."""
    arrays = variables(classes=3)
    model = load_published(save(arrays))
    assert model.config.classes == ("0", "1", "2")
    assert torch.equal(model.classifier.weight, torch.from_numpy(arrays["model/clf/wclf"]))


def test_imported(save: Callable, palette: PaletteTokenizer, tmp_path: Path):
    """A folder of ours with the palette, and a line about it."""
    source = save(variables())
    assert is_imagegpt(source) and not is_imagegpt(tmp_path / "kmeans_centers.npy")
    told = import_imagegpt(source, tmp_path / "ours")
    assert told.startswith("ImageGPT that sees the past: 2 layers of width 8, 16 tokens of 6 colors, ")
    model = ImageGPT.from_pretrained(tmp_path / "ours")
    assert torch.equal(model.tokenizer.colors, palette.colors)
    elsewhere = tmp_path / "there" / "colors.npy"
    write_centers(palette, elsewhere)
    (tmp_path / "kmeans_centers.npy").unlink()
    assert load_published(source, elsewhere).tokenizer.vocab == 6
    with pytest.raises(ValueError, match="holds no palette: give preprocessor_config.json or kmeans"):
        load_published(source)


@pytest.mark.parametrize(
    ("change", "told"),
    [
        ({"model/h1/mlp/c_fc/w": None}, "missing blocks.1.mlp.up.weight"),
        ({"model/h0/attn/k_proj": None}, "missing blocks.0.attention.qkv.weight"),
        ({"model/wpe2": np.zeros(3)}, "extra wpe2"),
        ({"model/wtet": np.zeros((7, 8))}, r"mis-shaped head.weight \(7, 8\) instead of \(6, 8\)"),
        ({"model/wte": None}, "the .npz is no ImageGPT: model/'wte' is missing"),
    ],
)
def test_strict(change: dict, told: str, save: Callable):
    """A variable that is missing, extra or mis-shaped is named."""
    arrays = {name: array for name, array in (variables() | change).items() if array is not None}
    with pytest.raises(ValueError, match=told):
        load_published(save(arrays))


def test_a_damaged_file(save: Callable):
    """It is named."""
    path = save(variables())
    path.write_bytes(path.read_bytes()[:400])
    with pytest.raises(ValueError, match="igpt.npz is truncated or no .npz of numbers"):
        load_published(path)
