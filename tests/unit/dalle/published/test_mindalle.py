"""minDALL-E's files: against a plain forward pass, the published size by name and shape, there and back."""

import math
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from torch import Tensor
from torch.nn.functional import gelu, layer_norm

from dalle.published.mindalle import load_mindalle, read, shapes_of, write
from vqtok.gpt.cache import KVCache
from vqtok.gpt.config import AttentionConfig, HeadConfig
from vqtok.gpt.mlps import QuickGELUConfig
from vqtok.gpt.model import GPT

TEXT_IDS, IMAGE_IDS, TEXT, IMAGE, HEADS = 13, 11, 5, 16, 4  # of the small one
Shapes = dict[str, tuple[int, ...]]


def layout(layers: int, width: int, text_ids: int, image_ids: int, text: int, image: int) -> Shapes:
    """Names and shapes of the tensors in stage2_last.ckpt, written down from its code."""
    shapes: Shapes = {
        "tok_emb_img.weight": (image_ids, width),
        "tok_emb_txt.weight": (text_ids, width),
        "pos_emb_img.weight": (image, width),
        "pos_emb_txt.weight": (text, width),
    }
    for layer in range(layers):
        inside = f"blocks.{layer}."
        matrices = {f"attn.{name}": (width, width) for name in ("key", "query", "value", "proj")}
        matrices |= {"mlp.0": (4 * width, width), "mlp.2": (width, 4 * width)}
        for name, shape in matrices.items():
            shapes |= {f"{inside}{name}.weight": shape, f"{inside}{name}.bias": shape[:1]}
        for name in ("ln1", "ln2"):
            shapes |= {f"{inside}{name}.weight": (width,), f"{inside}{name}.bias": (width,)}
    shapes |= {"ln_f.weight": (width,), "ln_f.bias": (width,)}
    return shapes | {"head_img.weight": (image_ids, width), "head_txt.weight": (text_ids, width)}


FULL = layout(42, 1536, 16384, 16384, 64, 256)


@pytest.fixture
def tensors() -> dict[str, Tensor]:
    """Two random layers of width 32, attention far from uniform, nothing zero."""
    shapes = layout(2, 32, TEXT_IDS, IMAGE_IDS, TEXT, IMAGE)
    made = {name: torch.randn(shape) for name, shape in shapes.items()}
    for name, tensor in made.items():
        if tensor.ndim == 2 and "emb" not in name:
            tensor *= tensor.shape[1] ** -0.5
        elif tensor.ndim == 1:
            tensor *= 0.3
        if name.startswith(("blocks", "ln_f")) and "ln" in name and name.endswith("weight"):
            tensor += 1
    return made


def attended(x: Tensor, held: dict[str, Tensor], inside: str) -> Tensor:
    """(b, t, d) what attention adds to the stream."""
    queries, keys, values = (
        (x @ held[f"{inside}attn.{name}.weight"].T + held[f"{inside}attn.{name}.bias"])
        .unflatten(-1, (HEADS, -1))
        for name in ("query", "key", "value")
    )  # fmt: skip
    met = torch.einsum("btnk,bsnk->bnts", queries, keys) / math.sqrt(queries.shape[-1])
    late = torch.ones(met.shape[-2:], dtype=torch.bool).triu(1)
    mixed = torch.einsum("bnts,bsnk->btnk", met.masked_fill(late, -torch.inf).softmax(-1), values)
    return mixed.flatten(2) @ held[f"{inside}attn.proj.weight"].T + held[f"{inside}attn.proj.bias"]


def scores(tensors: dict[str, Tensor], text: Tensor, image: Tensor) -> tuple[Tensor, Tensor]:
    """Of text ids (b, 4, v) from the second on, and of image ids (b, 16, w), in float64.

    Each side has its embeddings, places from 0, and head; text stands first, and a place scores the next.
    """
    held = {name: tensor.double() for name, tensor in tensors.items()}
    sides = [
        held[f"tok_emb_{side}.weight"][ids] + held[f"pos_emb_{side}.weight"][: ids.shape[1]]
        for side, ids in (("txt", text), ("img", image))
    ]
    x = torch.cat(sides, 1)
    for layer in range(2):
        inside = f"blocks.{layer}."
        weight, bias = held[f"{inside}ln1.weight"], held[f"{inside}ln1.bias"]
        x = x + attended(layer_norm(x, x.shape[-1:], weight, bias), held, inside)
        weight, bias = held[f"{inside}ln2.weight"], held[f"{inside}ln2.bias"]
        y = layer_norm(x, x.shape[-1:], weight, bias)
        y = gelu(y @ held[f"{inside}mlp.0.weight"].T + held[f"{inside}mlp.0.bias"])
        x = x + y @ held[f"{inside}mlp.2.weight"].T + held[f"{inside}mlp.2.bias"]
    x = layer_norm(x, x.shape[-1:], held["ln_f.weight"], held["ln_f.bias"])
    words = x[:, : TEXT - 1] @ held["head_txt.weight"].T
    return words.float(), (x[:, TEXT - 1 : -1] @ held["head_img.weight"].T).float()


@pytest.fixture
def streams() -> tuple[Tensor, Tensor]:
    """Text ids (3, 5) and image ids (3, 16)."""
    return torch.randint(TEXT_IDS, (3, TEXT)), torch.randint(IMAGE_IDS, (3, IMAGE))


@torch.no_grad()
def test_scores(tensors: dict[str, Tensor], streams: tuple[Tensor, Tensor]):
    """Of text and of images they are those of the plain pass, and no id of the one is likely as the other."""
    text, image = streams
    words, picture = scores(tensors, text, image)
    assert words.std() > 0.5 and picture.std() > 0.5
    gpt = load_mindalle(tensors, HEADS)
    found = gpt(torch.cat((text, image + TEXT_IDS), 1)[:, :-1])
    # Both have the same operations, in float32 and in float64.
    torch.testing.assert_close(found[:, : TEXT - 1, :TEXT_IDS], words, atol=1e-4, rtol=0)
    torch.testing.assert_close(found[:, TEXT - 1 :, TEXT_IDS:], picture, atol=1e-4, rtol=0)
    assert (found[:, : TEXT - 1, TEXT_IDS:] == -torch.inf).all()
    assert (found[:, TEXT - 1 :, :TEXT_IDS] == -torch.inf).all()


@torch.no_grad()
def test_cached_scores(tensors: dict[str, Tensor], streams: tuple[Tensor, Tensor]):
    """Text at once and then an image id at a time, as its sampler goes."""
    text, image = streams
    _, picture = scores(tensors, text, image)
    gpt = load_mindalle(tensors, HEADS)
    cache = KVCache(gpt.config, batch=3)
    rows = [gpt(text, cache)[:, -1:]] + [gpt(ids + TEXT_IDS, cache) for ids in image[:, :-1].split(1, dim=1)]
    torch.testing.assert_close(torch.cat(rows, 1)[..., TEXT_IDS:], picture, atol=1e-4, rtol=0)


def test_the_published_size():
    """680 tensors by name and shape, 1,291,081,728 numbers, as its own code builds; none missing or over."""
    state = {name: torch.empty(shape, device="meta") for name, shape in FULL.items()}
    config, ours = read(state)
    with torch.device("meta"):
        wanted = {name: tensor.shape for name, tensor in GPT(config).state_dict().items()}
    assert {name: tensor.shape for name, tensor in ours.items()} == wanted
    assert {name: tuple(tensor.shape) for name, tensor in shapes_of(config).items()} == FULL
    assert (config.vocab, config.length, config.heads) == (2 * 16384, 64 + 256, 24)
    assert len(FULL) == 680
    assert sum(math.prod(shape) for shape in FULL.values()) == config.parameters == 1_291_081_728


def test_there_and_back(tensors: dict[str, Tensor]):
    """What is read and written again is the same, bit for bit."""
    config, ours = read(tensors, HEADS)
    again = write(config, ours)
    assert again.keys() == tensors.keys()
    assert all(torch.equal(again[name], tensors[name]) for name in tensors)


def test_ours_written_is_read(tensors: dict[str, Tensor], tmp_path: Path):
    """A model of ours, trained with dropout, becomes a file that gives the same scores."""
    config = replace(read(tensors, HEADS)[0], dropout=0.1, hidden=128)
    gpt = GPT(config).eval()
    torch.save({"state_dict": write(config, gpt.state_dict()), "epoch": 3}, tmp_path / "stage2_last.ckpt")
    again = load_mindalle(tmp_path / "stage2_last.ckpt", HEADS)
    ids = torch.randint(TEXT_IDS, (2, TEXT))
    assert torch.equal(again(ids), gpt(ids))


@pytest.mark.parametrize(
    ("name", "shape", "told"),
    [
        ("blocks.1.mlp.2.bias", None, "missing blocks.1.mlp.2.bias$"),
        ("blocks.1.attn.mask", (3,), "extra blocks.1.attn.mask$"),
        ("head_txt.weight", (12, 32), r"mis-shaped head_txt.weight \(12, 32\) instead of \(13, 32\)$"),
        ("pos_emb_img.weight", None, "is no minDALL-E: missing pos_emb_img.weight, a matrix"),
        ("blocks.2.ln1.bias", (32,), "missing blocks.2.ln1.weight, blocks.2.attn"),
        ("sos", (1, 1, 32), "went on to learn images alone: take the one it began from"),
    ],
)
def test_what_is_wrong_is_named(
    tensors: dict[str, Tensor], name: str, shape: tuple[int, ...] | None, told: str
):
    """A tensor that is missing, extra or mis-shaped, and its models without text."""
    tensors.pop(name, None)
    tensors |= {} if shape is None else {name: torch.ones(shape)}
    with pytest.raises(ValueError, match=told):
        read(tensors, HEADS)


def test_heads_are_asked_for(tensors: dict[str, Tensor]):
    """No tensor tells them, but for the published size."""
    with pytest.raises(ValueError, match="has 2 layers of width 32, which is no published size: give heads="):
        read(tensors)


def test_other_families_are_told():
    """A LLaMA's name is enough."""
    with pytest.raises(ValueError, match="looks like a LLaMA: use load_llama"):
        load_mindalle({"model.layers.0.self_attn.q_proj.weight": torch.ones(2, 2)})


@pytest.mark.parametrize(
    ("change", "told"),
    [
        ({"mlp": QuickGELUConfig(), "period": 4}, "this model's period, mlp are not minDALL-E's"),
        ({"attention": AttentionConfig()}, "this model's attention are not"),
        ({"hidden": 64}, "this model's hidden are not"),
        ({"head": HeadConfig()}, "give one for text and one for images"),
    ],
)
def test_other_models_are_not_written(tensors: dict[str, Tensor], change: dict[str, object], told: str):
    """Parts that minDALL-E has no place for are named."""
    config = replace(read(tensors, HEADS)[0], **change)
    with pytest.raises(ValueError, match=told):
        write(config, GPT(config).state_dict())
