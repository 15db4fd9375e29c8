"""LlamaGen's files: against a plain forward pass with neighboring pairs, and the published sizes by name."""

import argparse
import math
from pathlib import Path

import pytest
import torch
from torch import Tensor

from vqtok.gpt.cache import KVCache
from vqtok.gpt.model import GPT
from vqtok.gpt.published import llamagen_config, load_llama, load_llamagen
from vqtok.gpt.published.files import Published
from vqtok.gpt.published.llamagen import NAMES
from vqtok.gpt.published.names import stacks_of

SIZES = {  # layers, heads, width, inner width, millions of parameters
    "B": (12, 12, 768, 2048, 111),
    "L": (24, 16, 1024, 2816, 343),
    "XL": (36, 20, 1280, 3584, 775),
    "XXL": (48, 24, 1536, 4096, 1411),
    "3B": (24, 32, 3200, 8704, 3100),
}


def layout(
    layers: int, width: int, inner: int, vocab: int, classes: int, stacked: int | None = None
) -> dict[str, tuple[int, ...]]:
    """Names and shapes of LlamaGen's tensors, written down from its code."""
    shapes = {
        "cls_embedding.embedding_table.weight": (classes + 1, width),
        "tok_embeddings.weight": (vocab, width),
        "norm.weight": (width,),
        "output.weight": (vocab, width),
    }
    for layer in range(layers):
        shapes |= {
            f"layers.{layer}.attention.wqkv.weight": (stacked or 3 * width, width),
            f"layers.{layer}.attention.wo.weight": (width, width),
            f"layers.{layer}.feed_forward.w1.weight": (inner, width),
            f"layers.{layer}.feed_forward.w3.weight": (inner, width),
            f"layers.{layer}.feed_forward.w2.weight": (width, inner),
            f"layers.{layer}.attention_norm.weight": (width,),
            f"layers.{layer}.ffn_norm.weight": (width,),
        }
    return shapes


def normed(x: Tensor, gain: Tensor) -> Tensor:
    """RMSNorm with LlamaGen's epsilon."""
    return x / (x.square().mean(-1, keepdim=True) + 1e-5).sqrt() * gain


def turns(side: int, width: int, total: int) -> Tensor:
    """(t, 1, k / 2) complex factors of neighboring channels: 0 for the class, then by row and by column."""
    frequencies = 10_000.0 ** -(torch.arange(0, width // 2, 2).double() / (width // 2))
    rows, columns = torch.arange(side**2) // side, torch.arange(side**2) % side
    angles = torch.cat((rows[:, None] * frequencies, columns[:, None] * frequencies), 1)
    grid = torch.polar(torch.ones_like(angles), angles)
    return torch.cat((torch.zeros_like(grid[:1]), grid))[:total, None]


def attended(x: Tensor, part: dict[str, Tensor], heads: int, side: int) -> Tensor:
    """(b, t, d) what attention adds to the stream."""
    width = x.shape[-1] // heads
    stacked = x @ part["attention.wqkv.weight"].T
    shared = heads // ((stacked.shape[-1] // width - heads) // 2)
    split = stacked.unflatten(-1, (-1, width)).split([heads, heads // shared, heads // shared], 2)
    factors = turns(side, width, x.shape[1])
    pairs = [torch.view_as_complex(y.unflatten(-1, (-1, 2)).contiguous()) * factors for y in split[:2]]
    keys, values = (y.repeat_interleave(shared, 2) for y in (pairs[1], split[2]))
    met = torch.einsum("btnk,bsnk->bnts", pairs[0], keys.conj()).real / math.sqrt(width)
    late = torch.ones(met.shape[-2:], dtype=torch.bool).triu(1)
    weights = met.masked_fill(late, -torch.inf).softmax(-1)
    return torch.einsum("bnts,bsnk->btnk", weights, values).flatten(2) @ part["attention.wo.weight"].T


def scores(tensors: dict[str, Tensor], classes: Tensor, ids: Tensor, heads: int, side: int) -> Tensor:
    """(b, 1 + t, v): the model as its paper and its code describe it, in float64."""
    held = {name: tensor.double() for name, tensor in tensors.items()}
    first = held["cls_embedding.embedding_table.weight"][classes]
    x = torch.cat((first[:, None], held["tok_embeddings.weight"][ids]), 1)
    for layer in range(2):
        inside = f"layers.{layer}."
        part = {name.removeprefix(inside): held[name] for name in held if name.startswith(inside)}
        x = x + attended(normed(x, part["attention_norm.weight"]), part, heads, side)
        y = normed(x, part["ffn_norm.weight"])
        gate = torch.nn.functional.silu(y @ part["feed_forward.w1.weight"].T)
        x = x + (gate * (y @ part["feed_forward.w3.weight"].T)) @ part["feed_forward.w2.weight"].T
    return (normed(x, held["norm.weight"]) @ held["output.weight"].T).float()


@pytest.fixture(params=[96, 64], ids=["as many key heads", "shared key heads"])
def tensors(request) -> dict[str, Tensor]:
    """Two random layers of width 32, attention far from uniform; 4 heads of width 8."""
    shapes = layout(2, width=32, inner=48, vocab=19, classes=5, stacked=request.param)
    made = {name: torch.randn(shape) for name, shape in shapes.items()}
    inside = [name for name in made if name.startswith("layers.") and made[name].ndim == 2]
    for name in [*inside, "output.weight"]:
        made[name] *= made[name].shape[1] ** -0.5
    return made


@torch.no_grad()
def test_scores(tensors):
    """Every row, the class's own first, is within 1e-4 of the plain pass; cached or not."""
    gpt = load_llamagen(tensors, tokens=16, heads=4)
    classes, ids = torch.tensor([3, 5]), torch.randint(19, (2, 15))
    expected = scores(tensors, classes, ids, heads=4, side=4)
    assert expected.std() > 0.5
    torch.testing.assert_close(gpt(ids, prefix=classes), expected, atol=1e-4, rtol=0)
    cache = KVCache(gpt.config, batch=2)
    pieces = [gpt(ids[:, :3], cache, prefix=classes), gpt(ids[:, 3:4], cache), gpt(ids[:, 4:], cache)]
    torch.testing.assert_close(torch.cat(pieces, 1), expected, atol=1e-4, rtol=0)


@pytest.mark.parametrize("size", SIZES)
def test_published_sizes(size):
    """Names, shapes and numbers of parameters of B, L, XL, XXL and 3B; nothing is missing or over."""
    layers, heads, width, inner, millions = SIZES[size]
    shapes = layout(layers, width, inner, vocab=16384, classes=1000)
    with torch.device("meta"):
        tensors = {name: torch.empty(shape) for name, shape in shapes.items()}
        config = llamagen_config(Published(size, tensors), tokens=576)
        gpt = GPT(config)
    assert (config.heads, config.length, config.positions.columns) == (heads, 577, 24)
    assert {name: tuple(stack.shape) for name, stack in stacks_of(gpt, NAMES).items()} == shapes
    assert config.parameters / 1e6 == pytest.approx(millions, rel=0.01)


@pytest.mark.parametrize("where", ["model", "module", "state_dict", None])
def test_files(tensors, where, tmp_path: Path):
    """A checkpoint of training, its arguments an argparse.Namespace, or bare tensors; nothing unpickled."""
    arguments = argparse.Namespace(image_size=64, downsample_size=16, gpt_model="GPT-B")
    beside = {"args": arguments, "steps": 3, "ema": {"x": 1}}
    content = tensors if where is None else {where: tensors} | beside
    torch.save(content, tmp_path / "c2i.pt")
    gpt = load_llamagen(tmp_path / "c2i.pt", tokens=16 if where is None else None, heads=4)
    assert gpt.config.length == 17
    assert torch.equal(gpt.embed.weight, tensors["tok_embeddings.weight"])


def test_what_its_sampler_leaves_behind_is_passed_over(tensors):
    """Tables and caches that its state dict holds after sampling."""
    extra = {"freqs_cis": torch.ones(3), "layers.1.attention.kv_cache.k_cache": torch.ones(2)}
    load_llamagen(tensors | extra, tokens=16, heads=4)


def test_what_cannot_be_told_is_asked_for(tensors):
    """Tokens of an image and heads of a size of one's own are in no tensor."""
    with pytest.raises(ValueError, match="has 2 layers of width 32, which is no published size: give heads="):
        load_llamagen(tensors, tokens=16)
    with pytest.raises(ValueError, match="not tell the tokens of a square image, got None: give tokens=256"):
        load_llamagen(tensors, heads=4)
    with pytest.raises(ValueError, match="got 15"):
        load_llamagen(tensors, tokens=15, heads=4)


def test_wrong_tensors_are_named(tensors):
    """Missing, extra and mis-shaped ones by their published names; captions and other families too."""
    broken = dict(tensors)
    del broken["layers.1.ffn_norm.weight"]
    broken |= {"layers.0.attention.wo.bias": torch.ones(32), "output.weight": torch.ones(18, 32)}
    with pytest.raises(ValueError) as error:
        load_llamagen(broken, tokens=16, heads=4)
    faults = ("missing layers.1.ffn_norm", "extra layers.0.attention.wo.bias", "output.weight (18, 32) inst")
    assert all(fault in str(error.value) for fault in faults)
    captions = {name: tensor for name, tensor in tensors.items() if not name.startswith("cls_")}
    with pytest.raises(ValueError, match="missing cls_embedding.* text-conditional ones cannot be read"):
        load_llamagen(captions, tokens=16, heads=4)
    with pytest.raises(ValueError, match="looks like a LlamaGen: use load_llamagen"):
        load_llama(tensors)
