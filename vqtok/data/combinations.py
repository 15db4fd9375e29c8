"""Which combinations of known things are kept from training, so that new ones can be asked for.

A model that was shown a cheese wedge shaded, flat and in line, and an apple as a solid, may be asked for the
cheese wedge as a solid; one that was never shown the two together, for both. Whether a combination is held
out is a hash of the seed and of what is combined, so it depends on no order, no count and no other name.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from hashlib import blake2b


@dataclass(frozen=True, kw_only=True)
class Combinations:
    """Which styles of a thing, and which two things together, training never shows.

    Things are told by a key. Look-alikes have one key, or else a twin in training would give away what is
    held out.

    Args:
        share: Of (thing, style) and of unordered pairs of things, the part that is held out.
        seed: Another seed holds out others.

    Raises:
        ValueError: if the share is below 0, or so large that a thing of four styles could lose them all.
    """

    share: float = 0.1
    seed: int = 0

    def __post_init__(self) -> None:
        if not 0 <= self.share <= 0.25:
            raise ValueError(f"share {self.share} of combinations is outside [0, 0.25]: one in ten is usual")

    def style(self, key: str, styles: Sequence[str]) -> str | None:
        """The one of at least two `styles` that training does not show this thing in, or None.

        No thing loses two. As `share` is of all pairs of thing and style, of four styles each thing loses
        one with four times that probability.
        """
        if len(styles) < 2 or not self._below(self.share * len(styles), "whether", key):
            return None
        return min(styles, key=lambda style: self._hash("style", key, style))

    def apart(self, one: str, other: str) -> bool:
        """Whether training never shows these two things together; (a, b) and (b, a) are the same."""
        return self._below(self.share, "pair", *sorted((one, other)))

    def _below(self, share: float, *words: str) -> bool:
        return self._hash(*words) < share * 2**64

    def _hash(self, *words: str) -> int:
        """64 bits of the seed and some words."""
        text = "\0".join((str(self.seed), *words))
        return int.from_bytes(blake2b(text.encode(), digest_size=8).digest(), "little")
