"""The shape of one decoder-only transformer, checked when it is made.

Sizes are numbers here; what else may differ from model to model is a part of its own kind, with its settings.
"""

from dataclasses import dataclass

from vqtok.gpt.masks import CausalConfig, FullConfig, MaskConfig
from vqtok.gpt.mlps import MLPConfig, SwiGLUConfig
from vqtok.gpt.norms import NormConfig, RMSNormConfig
from vqtok.gpt.positions import PositionsConfig, RoPEConfig
from vqtok.gpt.prefix import PrefixConfig


@dataclass(frozen=True, kw_only=True)
class AttentionConfig:
    """How tokens attend to one another.

    Args:
        mask: To whom.
        bias: Whether its matrices have one.
        qk_norm: Whether every head's queries and keys are normed, which keeps scores small in large models.
    """

    mask: MaskConfig = CausalConfig()
    bias: bool = False
    qk_norm: bool = False


@dataclass(frozen=True, kw_only=True)
class RangeConfig:
    """Ids that may stand somewhere in the stream.

    Args:
        start: From this place on, up to the next range; places count the prefix.
        low: The first id.
        high: One more than the last id.
    """

    start: int
    low: int
    high: int


@dataclass(frozen=True, kw_only=True)
class HeadConfig:
    """How the stream becomes scores.

    Args:
        tied: Whether the matrix is that of the embedding.
        ranges: Ids that may stand where, in order of their places; others have score -inf there. DALL-E has
            one for text and one for images. None means all ids everywhere.
    """

    tied: bool = False
    ranges: tuple[RangeConfig, ...] = ()


@dataclass(frozen=True, kw_only=True)
class GPTConfig:
    """Shape of one decoder-only transformer, LLaMA's (Touvron et al. 2023) unless parts are given.

    Args:
        vocab: Ids run from 0 to vocab - 1.
        length: Longest stream, in tokens, those of the prefix included.
        width: Channels of the residual stream.
        depth: Blocks.
        heads: Query heads; width must divide by it.
        kv_heads: Key/value heads; heads must divide by it; None means as many as heads.
        hidden: Inner channels of the MLP; None means what is usual for its kind.
        dropout: Share of activations set to zero while training.
        period: Tokens in an image, for streams of one begin token and then images: an embedding of (position
            modulo period) tells each token the place of the one predicted next. None means no such embedding.
        shifts: Distances in tokens; the ids that stand so far back join a token's embedding through a learned
            matrix. Of images of n tokens, n is the same place of the image before, and n - 1 the place of the
            token that is predicted next (`vqtok.gpt.shifts`).
        norm: Before attention, before the MLP, and before the head.
        mlp: Two or three matrices with a bend.
        positions: How a token's place is told.
        attention: Who attends to whom, and how.
        prefix: What stands before the ids; None means nothing.
        head: How the stream becomes scores.
    """

    # Where settings of config.json have gone since it was written; read by vqtok.storage.records.
    MOVED = {"rope_base": "positions.base", "norm_eps": "norm.eps"}

    vocab: int
    length: int
    width: int
    depth: int
    heads: int
    kv_heads: int | None = None
    hidden: int | None = None
    dropout: float = 0.0
    period: int | None = None
    shifts: tuple[int, ...] = ()
    norm: NormConfig = RMSNormConfig()
    mlp: MLPConfig = SwiGLUConfig()
    positions: PositionsConfig = RoPEConfig()
    attention: AttentionConfig = AttentionConfig()
    prefix: PrefixConfig | None = None
    head: HeadConfig = HeadConfig()

    def __post_init__(self) -> None:
        for name in ("vocab", "length", "width", "depth", "heads", "kv_heads", "hidden", "period"):
            value = getattr(self, name)
            if value is not None and value < 1:
                raise ValueError(f"{name} {value} is below 1: give a positive whole number")
        if any(shift < 1 for shift in self.shifts) or len({*self.shifts}) < len(self.shifts):
            raise ValueError(f"shifts {self.shifts} must be different whole numbers from 1: tokens back")
        if not 0 <= self.dropout < 1:
            raise ValueError(f"dropout {self.dropout} is outside [0, 1): 0 turns it off")
        if self.width % self.heads:
            raise ValueError(f"width {self.width} does not divide by heads {self.heads}: change one of them")
        if self.heads % self.key_heads:
            raise ValueError(f"heads {self.heads} do not divide by kv_heads {self.kv_heads}: change one")
        self.positions.check(self.head_width)
        self._check_places()
        self._check_ranges()

    @property
    def head_width(self) -> int:
        """Channels of one attention head."""
        return self.width // self.heads

    @property
    def key_heads(self) -> int:
        """Key/value heads, with the default filled in."""
        return self.kv_heads or self.heads

    @property
    def inner(self) -> int:
        """Inner channels of the MLP, with the default filled in."""
        return self.hidden or self.mlp.inner(self.width)

    @property
    def prefix_places(self) -> int:
        """Places of the stream before the first id."""
        return self.prefix.places if self.prefix is not None else 0

    @property
    def causal(self) -> bool:
        """Whether scores are of the next token, as opposed to the one that stands there."""
        return not isinstance(self.attention.mask, FullConfig)

    @property
    def parameters(self) -> int:
        """Learned numbers in the whole model."""
        wide = (self.heads + 2 * self.key_heads) * self.head_width
        attention = self.width * (wide + self.width) + self.attention.bias * (wide + self.width)
        attention += self.attention.qk_norm * 2 * self.norm.parameters(self.head_width)
        norm = self.norm.parameters(self.width)
        block = attention + self.mlp.parameters(self.width, self.inner) + 2 * norm
        tables = (2 - self.head.tied) * self.vocab + (self.period or 0) + len(self.shifts) * self.width
        prefix = self.prefix.parameters(self.width) if self.prefix is not None else 0
        ends = tables * self.width + self.positions.parameters(self.length, self.width) + prefix + norm
        return ends + self.depth * block

    def _check_places(self) -> None:
        """What is before a grid leaves room for it, and holds the prefix."""
        if self.length <= self.prefix_places - self.causal:
            raise ValueError(
                f"length {self.length} has no room after {self.prefix_places} places of the prefix: "
                f"give at least {self.prefix_places + 1}"
            )
        for name, part in (("positions", self.positions), ("attention.mask", self.attention.mask)):
            before = getattr(part, "before", None)
            if before is not None and not self.prefix_places <= before < self.length:
                raise ValueError(
                    f"{name}.before {before} must hold the {self.prefix_places} places of the prefix and "
                    f"leave some of length {self.length} for the grid"
                )

    def _check_ranges(self) -> None:
        starts = [part.start for part in self.head.ranges]
        if starts != sorted(set(starts)) or any(start >= self.length for start in starts):
            raise ValueError(
                f"head.ranges start at {starts}: give places in order, below length {self.length}"
            )
        for part in self.head.ranges:
            if not 0 <= part.low < part.high <= self.vocab:
                raise ValueError(
                    f"head.ranges has ids {part.low} to {part.high - 1}, the vocabulary has 0 to "
                    f"{self.vocab - 1}: give low < high within it"
                )
