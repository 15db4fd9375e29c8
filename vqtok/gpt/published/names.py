"""What others call our tensors: tables of names, and tensors copied by them, strictly."""

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass

import torch
from torch import Tensor

from vqtok.gpt.config import GPTConfig
from vqtok.gpt.model import GPT
from vqtok.gpt.published.files import Published
from vqtok.storage.tensors import check_tensors

MARKS = {  # a tensor that tells a family, and what to do with it; the first that is found decides
    r"model\.layers\.0\.self_attn\.q_proj\.weight": "a LLaMA: use load_llama",
    r"(transformer\.)?h\.0\.ln_1\.bias": "a GPT-2: use load_gpt2",
    r"(transformer\.)?h\.0\.attn\.c_attn\.weight": "an ImageGPT: use load_imagegpt",
    r"layers\.0\.attention\.wqkv\.weight": "a LlamaGen: use load_llamagen",
    r"blocks\.0\.attention\.qkv\.weight": "a model of vqtok: use GPT.from_pretrained",
    r"tok_emb_img\.weight": "a minDALL-E: use dalle.published.load_mindalle",
    r"(?:.*\.)?(encoder|decoder)\.conv_in\.weight": "an image tokenizer: use vqtok.load_tokenizer",
}


@dataclass(frozen=True, kw_only=True)
class Names:
    """Names of one family's tensors, and ours.

    Where one tensor of one side holds several of the other, one below the other, these are joined by " + ".

    Args:
        family: As `MARKS` begins its advice.
        layer: Their layers, with {} for the number; ours are blocks.{}.
        whole: Ours: theirs.
        block: Ours inside a block: theirs inside a layer.
        transposed: Whether matrices of layers lie the other way round, (in, out).
        ignored: Expression for constants that files may hold.
    """

    family: str
    layer: str
    whole: Mapping[str, str]
    block: Mapping[str, str]
    transposed: bool = False
    ignored: str = "$^"


@dataclass(frozen=True)
class Stack:
    """A tensor of theirs: views of ours, one below the other. Writing a view writes into the model."""

    views: list[Tensor]

    @property
    def rows(self) -> list[int]:
        """Of every view."""
        return [len(view) for view in self.views]

    @property
    def shape(self) -> torch.Size:
        """Of their tensor."""
        return torch.Size((sum(self.rows), *self.views[0].shape[1:]))


@torch.no_grad()
def filled(config: GPTConfig, names: Names, published: Published) -> GPT:
    """A GPT with published weights, in evaluation mode, float32.

    Raises:
        ValueError: if the tensors are another family's, or naming those missing, extra or mis-shaped.
    """
    check_family(names, published)
    with torch.random.fork_rng(devices=[]):  # loading draws nothing from the caller's random numbers
        gpt = GPT(config)
    stacks = stacks_of(gpt, names)
    held = published.tensors.items()
    tensors = {name: tensor for name, tensor in held if not re.search(names.ignored, name)}
    if config.head.tied:
        _drop_head(tensors, names, published.where)
    shapes = {name: torch.empty(stack.shape, device="meta") for name, stack in stacks.items()}
    check_tensors(tensors, shapes, published.where)
    for name, stack in stacks.items():
        for view, part in zip(stack.views, tensors[name].split(stack.rows), strict=True):
            view.copy_(part)
    return gpt.eval()


def stacks_of(gpt: GPT, names: Names) -> dict[str, Stack]:
    """The tensors of `gpt` by their names."""
    weights = gpt.state_dict()
    if gpt.config.head.tied:
        del weights["head.weight"]  # it is the embedding's
    stacks: dict[str, Stack] = {}
    for ours, theirs, in_layer in _pairs(names, gpt.config.depth):
        if ours[0] not in weights:
            continue  # a bias, for one, that the config leaves out
        views = [weights[name] for name in ours]
        if in_layer and names.transposed:
            views = [view.T if view.ndim == 2 else view for view in views]
        if len(theirs) == 1:
            stacks[theirs[0]] = Stack(views)
        else:
            parts = views[0].split(_rows(gpt.config, len(views[0]), len(theirs)))
            stacks |= {name: Stack([part]) for name, part in zip(theirs, parts, strict=True)}
    return stacks


def check_family(names: Names, published: Published) -> None:
    """Raise a ValueError if the tensors are those of another family, which is named."""
    for mark, advice in MARKS.items():
        if any(re.fullmatch(mark, name) for name in published.tensors):
            if not advice.startswith(names.family):
                raise ValueError(f"{published.where} looks like {advice}")
            return


def _drop_head(tensors: dict[str, Tensor], names: Names, where: str) -> None:
    """Take away a head that repeats the embedding, as old files do.

    Raises:
        ValueError: if it does not.
    """
    head, embedding = names.whole["head.weight"], names.whole["embed.weight"]
    if head in tensors and not torch.equal(tensors[head], tensors.get(embedding, tensors[head][:0])):
        raise ValueError(
            f"{where}: {head} is not {embedding}, though config.json ties them: set tie_word_embeddings to "
            "false there"
        )
    tensors.pop(head, None)


def _pairs(names: Names, depth: int) -> Iterator[tuple[list[str], list[str], bool]]:
    """Names of ours and of theirs that hold the same numbers, and whether they are in a layer."""
    for ours, theirs in names.whole.items():
        yield ours.split(" + "), theirs.split(" + "), False
    for layer in range(depth):
        inside = names.layer.format(layer)
        for ours, theirs in names.block.items():
            mine = [f"blocks.{layer}.{name}" for name in ours.split(" + ")]
            yield mine, [inside + name for name in theirs.split(" + ")], True


def _rows(config: GPTConfig, total: int, parts: int) -> list[int]:
    """Rows of the tensors that ours holds: queries, keys and values, or equal ones."""
    if parts == 3:
        return [count * config.head_width for count in (config.heads, config.key_heads, config.key_heads)]
    return [total // parts] * parts
