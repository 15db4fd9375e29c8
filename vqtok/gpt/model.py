"""One decoder-only transformer for every token family, shaped like LLaMA (Touvron et al. 2023) unless told.

Letters: b batch, t tokens, p places of the prefix, d width, v vocabulary.
"""

import math
from collections.abc import Callable
from typing import Any, Self

import torch
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from vqtok.gpt.block_masks import masks_of
from vqtok.gpt.cache import Cache
from vqtok.gpt.config import GPTConfig
from vqtok.gpt.layers import Block
from vqtok.gpt.masks import Places
from vqtok.gpt.shifts import NOTHING, TokenShift, earlier_ids
from vqtok.storage.pretrained import Pretrained

HIDDEN = NOTHING  # in models that see both sides, the id of a token that is not shown: its embedding is zero


class GPT(nn.Module, Pretrained):
    """Scores for the next token at every position of a sequence of ids.

    Dropout, and leaving prefixes out, are all that `train()` and `eval()` change. A model whose mask is
    `full` scores the token that stands at a position instead: worth something where its id is `HIDDEN`.

    Attributes:
        recompute: Whether blocks keep nothing but their input for the backward and are computed once more
            there: a third more work, for memory that grows with the depth by one stream a block.
    """

    recompute: bool = False

    def __init__(self, config: GPTConfig) -> None:
        super().__init__()
        self.config = config
        self.embed = nn.Embedding(config.vocab, config.width)
        self.place = nn.Embedding(config.period, config.width) if config.period else None
        self.positions = config.positions.build(config.length, config.width)
        self.shift = TokenShift(config.shifts, config.width) if config.shifts else None
        self.prefix = config.prefix.build(config.width) if config.prefix is not None else None
        self.dropout = nn.Dropout(config.dropout)
        self.blocks = nn.ModuleList(Block(config) for _ in range(config.depth))
        self.norm = config.norm.build(config.width)
        self.head = nn.Linear(config.width, config.vocab, bias=False)
        self._tie()
        self._tabulate()
        self._initialize()

    def forward(
        self,
        ids: Tensor,
        cache: Cache | None = None,
        where: Tensor | None = None,
        prefix: Tensor | None = None,
        documents: Tensor | None = None,
    ) -> Tensor:
        """Scores of every id as the next token, float32.

        With a prefix, the first row of a sequence's scores is that of its first id, so that there is one row
        more than ids, unless the model sees both sides. Later calls with the same cache give a row an id.

        Args:
            ids: (b, t) in [0, v); with a cache, the tokens that follow those in it. May be (b, 0) where a
                prefix begins.
            cache: Is read and filled; None means that `ids` start the sequence.
            where: (b, rows) bool; only these rows are scored, which spares a trainer the head elsewhere.
            prefix: What the config's prefix takes, for the start of a sequence: class ids (b,), features
                (b, p, f), or nothing for a start token.
            documents: (b, t) whole numbers, for several documents packed into a row: where the number
                changes, another one begins, with positions from 0, and sees none of those before.

        Returns:
            (b, rows, v), or (number of true positions, v) given `where`.

        Raises:
            ValueError: if ids are outside the vocabulary (looked at on the CPU only, and not for one token a
                sequence), more than the model or the cache can hold, or the prefix does not fit.
        """
        x, places = self.stream(ids, cache, prefix, documents)
        if where is not None:
            x = x[where]
            places = places if self.bounds is None else places.expand(where.shape)[where]
        return self.score(x, places)

    def features(
        self,
        ids: Tensor,
        cache: Cache | None = None,
        prefix: Tensor | None = None,
        documents: Tensor | None = None,
    ) -> Tensor:
        """The normed stream (b, rows, d) that `head` turns into scores; arguments and errors as `forward`."""
        return self.stream(ids, cache, prefix, documents)[0]

    def stream(
        self,
        ids: Tensor,
        cache: Cache | None = None,
        prefix: Tensor | None = None,
        documents: Tensor | None = None,
    ) -> tuple[Tensor, Tensor]:
        """`features` (b, rows, d), and the places (rows,) or (b, rows) where they stand, for `score`."""
        self._check(ids, cache, prefix, documents)
        opens = cache is None or not cache.filled
        x = self._embedded(ids) if opens else self.embed(ids)
        if self.shift is not None:
            x = x + self.shift(self._earlier(ids, opens, cache, documents), self.embed)
        if opens and self.prefix is not None:
            x = torch.cat((self.prefix(prefix, len(ids)).type_as(x), x), dim=1)
        if documents is not None:
            places = Places.packed(documents)
        elif cache is not None:
            places = cache.places(x.shape[1], x.device)
        else:
            places = Places.between(0, x.shape[1], x.device)
        rope = None if self.rope is None else places.rows(self.rope)
        x = self.dropout(self._placed(x, places.new))
        x = self._through_blocks(x, rope, masks_of(self.config, places), cache)
        if cache is not None:
            cache.advance(x.shape[1])
        silent = self.config.prefix_places - self.config.causal  # places of a prefix that score nothing
        if opens and silent > 0:
            return self.norm(x[:, silent:]), places.new[silent:]
        return self.norm(x), places.new

    def score(self, x: Tensor, places: Tensor) -> Tensor:
        """Scores (..., v) float32 of rows (..., d) of the stream that stand at `places` (...) of it.

        They are those of the head, but -inf for ids that the config's ranges forbid there.
        """
        logits = self.head(x).float()
        if self.bounds is None:
            return logits
        low, high = self.bounds[:, places].unsqueeze(-1)
        ids = torch.arange(self.config.vocab, device=x.device)
        return logits.masked_fill((ids < low) | (ids >= high), -math.inf)

    def compile_blocks(self) -> bool:
        """Compile blocks in place, one graph for all; only on a GPU, where it pays. Says whether it did.

        Names in the state dict stay. Call it once the model is where it will be trained.
        """
        if self.embed.weight.device.type != "cuda":
            return False
        for block in self.blocks:
            block.compile()
        return True

    def _embedded(self, ids: Tensor) -> Tensor:
        """What ids stand for, (b, t, d), before positions."""
        if self.config.causal:
            return self.embed(ids)
        return self.embed(ids.clamp(min=0)) * (ids != HIDDEN)[..., None]

    def _earlier(self, ids: Tensor, opens: bool, cache: Cache | None, documents: Tensor | None) -> Tensor:
        """Ids (b, n, t) at the config's distances before each of (b, t)."""
        if cache is not None:
            return cache.earlier(ids, self.config.prefix_places if opens else 0)
        places = torch.arange(ids.shape[1], device=ids.device)
        return earlier_ids(ids, places, self.config.shifts, documents)

    def _placed(self, x: Tensor, places: Tensor) -> Tensor:
        """The stream with what is learned of places added."""
        if self.place is not None:
            x = x + self.place(places % self.config.period)
        return x if self.positions is None else x + self.positions(places)

    def _through_blocks(
        self, x: Tensor, rope: Tensor | None, masks: dict[Any, Any], cache: Cache | None
    ) -> Tensor:
        pattern = self.config.attention.mask.pattern
        for layer, block in enumerate(self.blocks):
            mask = masks.get(pattern(layer, self.config.depth)) if masks else None
            if cache is not None:
                x = block(x, rope, mask, cache, layer)
            elif self.recompute and torch.is_grad_enabled():
                x = checkpoint(block, x, rope, mask, use_reentrant=False)
            else:
                x = block(x, rope, mask)
        return x

    def _check(
        self, ids: Tensor, cache: Cache | None, prefix: Tensor | None, documents: Tensor | None
    ) -> None:
        opens = self.prefix is not None and (cache is None or not cache.filled)
        _check_shape(ids, empty=opens)
        if prefix is not None and not opens:
            told = "this model has no prefix" if self.prefix is None else "its prefix is in the cache already"
            raise ValueError(f"{told}: leave prefix out")
        if documents is not None:
            self._check_documents(ids, cache, documents)
        batch, new = ids.shape[0], ids.shape[1] + self.config.prefix_places * opens
        if cache is not None:
            if not self.config.causal:
                raise ValueError("a model that sees both sides has nothing to cache: leave cache out")
            cache.check(batch, new)
        elif new > self.config.length:
            raise ValueError(
                f"{new} tokens do not fit a model of length {self.config.length}: "
                f"give fewer, or build it with length={new}"
            )
        # A look at a GPU's ids would wait for it; looks at single tokens would add up.
        if ids.shape[1] > 1 and ids.device.type == "cpu" and not torch.compiler.is_compiling():
            check_ids(ids, self.config.vocab, lowest=0 if self.config.causal else HIDDEN)

    def _check_documents(self, ids: Tensor, cache: Cache | None, documents: Tensor) -> None:
        if documents.shape != ids.shape or documents.is_floating_point():
            raise ValueError(
                f"documents are {documents.dtype} of shape {tuple(documents.shape)}, ids of "
                f"{tuple(ids.shape)}: give a whole number for every id"
            )
        if cache is not None or self.prefix is not None:
            other = "a cache" if cache is not None else "a prefix, which stands before one document"
            raise ValueError(f"packed documents do not go with {other}: give them one by one")

    def _initialize(self) -> None:
        """Normal of 0.02; less for what adds to the residual stream, lest it grow with depth."""
        for name, weight in self.named_parameters():
            if name.endswith("bias"):
                nn.init.zeros_(weight)
            elif weight.ndim == 2:
                joins = name.endswith(("attention.out.weight", "mlp.down.weight"))
                nn.init.normal_(weight, std=0.02 / math.sqrt(2 * self.config.depth) if joins else 0.02)

    def _tabulate(self, device: torch.device | None = None) -> None:
        """Make what follows from the config: no buffers, so that they are not saved and keep their type."""
        self.rope = self.config.positions.table(self.config.length, self.config.head_width, device)
        self.bounds = _bounds(self.config, device) if self.config.head.ranges else None
        self.tables_on = self.embed.weight.device

    def _tie(self) -> None:
        if self.config.head.tied:
            self.head.weight = self.embed.weight

    def _apply(self, function: Callable, recurse: bool = True) -> Self:
        """What `to` and `cuda` call: tables follow the weights' device, but not their type."""
        super()._apply(function, recurse)
        self._tie()
        device = self.embed.weight.device
        if self.tables_on != device:
            self._tabulate(device)
        return self


def _bounds(config: GPTConfig, device: torch.device | None) -> Tensor:
    """First id and one more than the last, (2, length), of the token scored at each place."""
    bounds = torch.tensor([[0], [config.vocab]], device=device).repeat(1, config.length)
    for part in config.head.ranges:
        start = max(part.start - config.causal, 0)  # the token at a place is scored one place earlier
        bounds[0, start:], bounds[1, start:] = part.low, part.high
    return bounds


def check_ids(ids: Tensor, vocab: int, lowest: int = 0) -> None:
    """Raises ValueError unless ids are (b, t) whole numbers in [lowest, vocab)."""
    _check_shape(ids)
    if ids.dtype not in (torch.int64, torch.int32):
        raise ValueError(f"ids are {ids.dtype}: give int64")
    low, high = ids.aminmax()
    if low < lowest or high >= vocab:
        wrong = int(low if low < lowest else high)
        raise ValueError(
            f"id {wrong} is outside [{lowest}, {vocab}): encode with the tokenizer of this model"
        )


def _check_shape(ids: Tensor, empty: bool = False) -> None:
    if ids.ndim != 2 or not len(ids) or not (ids.shape[1] or empty):
        raise ValueError(f"ids have shape {tuple(ids.shape)}: give (b, t), at least one of each")
