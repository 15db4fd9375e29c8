"""The shape of one decoder-only transformer, checked when it is made."""

from dataclasses import dataclass


@dataclass(frozen=True, kw_only=True)
class GPTConfig:
    """Shape of one decoder-only transformer, LLaMA's (Touvron et al. 2023) unless `period` is given.

    Args:
        vocab: Ids run from 0 to vocab - 1.
        length: Longest sequence, in tokens.
        width: Channels of the residual stream.
        depth: Blocks.
        heads: Query heads; width must divide by it, into an even head width.
        kv_heads: Key/value heads; heads must divide by it; None means as many as heads.
        hidden: Inner channels of the SwiGLU; None means 8/3 of the width, rounded up to a multiple of 32.
        rope_base: Wavelength base of the rotary positions.
        norm_eps: Added to the mean square inside the root of RMSNorm.
        dropout: Share of activations set to zero while training.
        period: Tokens in an image, for streams of one begin token and then images: an embedding of (position
            modulo period) tells each token the place of the one predicted next. None means no such embedding.
    """

    vocab: int
    length: int
    width: int
    depth: int
    heads: int
    kv_heads: int | None = None
    hidden: int | None = None
    rope_base: float = 10_000.0
    norm_eps: float = 1e-6
    dropout: float = 0.0
    period: int | None = None

    def __post_init__(self) -> None:
        for name in ("vocab", "length", "width", "depth", "heads", "kv_heads", "hidden", "period"):
            value = getattr(self, name)
            if value is not None and value < 1:
                raise ValueError(f"{name} {value} is below 1: give a positive whole number")
        for name in ("rope_base", "norm_eps"):
            if not getattr(self, name) > 0:
                default = getattr(GPTConfig, name)
                raise ValueError(f"{name} {getattr(self, name)} is not above 0: {default:g} is usual")
        if not 0 <= self.dropout < 1:
            raise ValueError(f"dropout {self.dropout} is outside [0, 1): 0 turns it off")
        if self.width % self.heads:
            raise ValueError(f"width {self.width} does not divide by heads {self.heads}: change one of them")
        if self.head_width % 2:
            raise ValueError(
                f"head width {self.head_width} (width {self.width} / heads {self.heads}) is odd, "
                "but rotary positions turn pairs of channels: make it even"
            )
        if self.heads % self.key_heads:
            raise ValueError(f"heads {self.heads} do not divide by kv_heads {self.kv_heads}: change one")

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
        """Inner channels of the SwiGLU, with the default filled in."""
        return self.hidden or -(-self.width * 8 // 3 // 32) * 32

    @property
    def parameters(self) -> int:
        """Learned numbers in the whole model."""
        attention = 2 * self.width * (self.heads + self.key_heads) * self.head_width
        block = attention + 3 * self.width * self.inner + 2 * self.width
        return (2 * self.vocab + (self.period or 0) + 1) * self.width + self.depth * block
