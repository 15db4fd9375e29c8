"""One decoder-only transformer for every token family, shaped like LLaMA (Touvron et al. 2023).

Letters: b batch, t tokens, d width, v vocabulary.
"""

import math
from collections.abc import Callable
from typing import Self

import torch
from torch import Tensor, nn

from vqtok.gpt.cache import KVCache
from vqtok.gpt.config import GPTConfig
from vqtok.gpt.layers import Block, rope_table
from vqtok.storage.pretrained import Pretrained


class GPT(nn.Module, Pretrained):
    """Scores for the next token at every position of a sequence of ids.

    The head is not tied to the embedding. Dropout is all that `train()` and `eval()` change.
    """

    def __init__(self, config: GPTConfig) -> None:
        super().__init__()
        self.config = config
        self.embed = nn.Embedding(config.vocab, config.width)
        self.place = nn.Embedding(config.period, config.width) if config.period else None
        self.dropout = nn.Dropout(config.dropout)
        self.blocks = nn.ModuleList(Block(config) for _ in range(config.depth))
        self.norm = nn.RMSNorm(config.width, config.norm_eps)
        self.head = nn.Linear(config.width, config.vocab, bias=False)
        self.rope = rope_table(config)  # no buffer: it is not saved, and stays float32 in a bfloat16 model
        self._initialize()

    def forward(self, ids: Tensor, cache: KVCache | None = None, where: Tensor | None = None) -> Tensor:
        """Scores of every id as the next token, float32.

        Args:
            ids: (b, t) in [0, v); with a cache, the tokens that follow those in it.
            cache: Is read and filled; None means that `ids` start the sequence.
            where: (b, t) bool; only these positions are scored, which spares a trainer the head elsewhere.

        Returns:
            (b, t, v), or (number of true positions, v) given `where`.

        Raises:
            ValueError: if ids are outside the vocabulary (looked at on the CPU only, and not for one token a
                sequence), or more than the model or the cache can hold.
        """
        x = self.features(ids, cache)
        return self.head(x if where is None else x[where]).float()

    def features(self, ids: Tensor, cache: KVCache | None = None) -> Tensor:
        """The normed stream (b, t, d) that `head` turns into scores; arguments and errors as `forward`."""
        self._check(ids, cache)
        start = 0 if cache is None else cache.filled
        end = start + ids.shape[1]
        x = self.embed(ids)
        if self.place is not None:
            x = x + self.place(torch.arange(start, end, device=ids.device) % self.config.period)
        x = self.dropout(x)
        rope = self.rope[:, start:end]
        for layer, block in enumerate(self.blocks):
            x = block(x, rope, cache, layer)
        if cache is not None:
            cache.advance(end - start)
        return self.norm(x)

    def _check(self, ids: Tensor, cache: KVCache | None) -> None:
        _check_shape(ids)
        batch, new = ids.shape
        if cache is not None:
            cache.check(batch, new)
        elif new > self.config.length:
            raise ValueError(
                f"{new} tokens do not fit a model of length {self.config.length}: "
                f"give fewer, or build it with length={new}"
            )
        # A look at a GPU's ids would wait for it; looks at single tokens would add up.
        if new > 1 and ids.device.type == "cpu" and not torch.compiler.is_compiling():
            check_ids(ids, self.config.vocab)

    def _initialize(self) -> None:
        """Normal of 0.02; less for what adds to the residual stream, lest it grow with depth."""
        for name, weight in self.named_parameters():
            if weight.ndim == 2:
                joins = name.endswith(("attention.out.weight", "mlp.down.weight"))
                nn.init.normal_(weight, std=0.02 / math.sqrt(2 * self.config.depth) if joins else 0.02)

    def _apply(self, function: Callable, recurse: bool = True) -> Self:
        """What `to` and `cuda` call: the rotary table follows the weights' device, but not their type."""
        super()._apply(function, recurse)
        if self.rope.device != self.embed.weight.device:
            self.rope = rope_table(self.config, self.embed.weight.device)
        return self


def check_ids(ids: Tensor, vocab: int) -> None:
    """Raises ValueError unless ids are (b, t) whole numbers in [0, vocab)."""
    _check_shape(ids)
    if ids.dtype not in (torch.int64, torch.int32):
        raise ValueError(f"ids are {ids.dtype}: give int64")
    low, high = ids.aminmax()
    if low < 0 or high >= vocab:
        wrong = int(low if low < 0 else high)
        raise ValueError(f"id {wrong} is outside [0, {vocab}): encode with the tokenizer of this model")


def _check_shape(ids: Tensor) -> None:
    if ids.ndim != 2 or not ids.numel():
        raise ValueError(f"ids have shape {tuple(ids.shape)}: give (b, t), at least one of each")
