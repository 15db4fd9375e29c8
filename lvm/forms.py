"""Forms of visual sentences: what images a row of a shard holds, and in which order rows make a sentence.

A row is what was made together: one image, a pair, the frames of a sequence, the views of one scene. A form
says all that is needed to make sentences of rows, so that a new type of data is a new value, not new code:

    SINGLE                 x
    PAIRS                  x1 y1  x2 y2  x3 y3  x4 y4
    sequence(5)            f1 f2 f3 f4 f5
    annotated(3)           f1 f2 f3  m1 m2 m3      or      f1 m1 f2 m2 f3 m3
    groups(4, rows=2)      a1 a2 a3 a4  b1 b2 b3 b4
    modalities(4, rows=2)  s1 l1 m1 f1  s2 l2 m2 f2      in one order, drawn for the sentence

Bai et al. 2023 (LVM); the types are those of the scripts in github.com/ytongbai/LVM.

Letters: r rows, u images of a row, i = r u images of a sentence.
"""

from dataclasses import asdict, dataclass
from typing import Any, Literal

import numpy as np
from einops import rearrange

Flow = Literal["rows", "halves"]


@dataclass(frozen=True, kw_only=True)
class Form:
    """How rows make a sentence.

    Args:
        name: Of the type of data.
        images: In a row.
        rows: In a sentence; None leaves it to the trainer, who asks for so many examples.
        given: First images of a row that are shown rather than asked for: nothing before tells what is on
            them, so they count in the loss as queries do.
        shuffled: Whether the images of a row are put in an order drawn anew for each sentence, the same for
            all its rows.
        flows: How rows are written out, one drawn for each sentence: as they are, or with the two halves of a
            row interleaved.
    """

    name: str
    images: int
    rows: int | None = None
    given: int = 1
    shuffled: bool = False
    flows: tuple[Flow, ...] = ("rows",)

    def __post_init__(self) -> None:
        if self.images < 1 or (self.rows is not None and self.rows < 1):
            raise ValueError(
                f"form {self.name!r} has {self.images} images a row and {self.rows} rows: give at least 1"
            )
        if not 0 <= self.given <= self.images:
            raise ValueError(f"form {self.name!r} gives {self.given} of {self.images} images: give no more")
        if "halves" in self.flows and self.images % 2:
            raise ValueError(
                f"form {self.name!r} interleaves the halves of {self.images} images, an odd number: pair "
                "every frame with its annotation"
            )

    def order(self, rows: int, rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
        """Where the images of a sentence come from, and which of them are asked for.

        Args:
            rows: In the sentence.
            rng: Draws the order, where there are several.

        Returns:
            (i,) places among the images of all rows, row after row; (i,) bool.
        """
        place = rng.permutation(self.images) if self.shuffled else np.arange(self.images)
        asked = np.arange(self.images) >= self.given
        if self.flows[int(rng.integers(len(self.flows)))] == "halves":
            place, asked = (rearrange(part, "(half n) -> (n half)", half=2) for part in (place, asked))
        places = np.arange(rows)[:, None] * self.images + place
        return places.reshape(-1), np.tile(asked, rows)

    def facts(self) -> dict[str, Any]:
        """For a shard's manifest; `Form(**facts)` is the form again."""
        return asdict(self) | {"flows": list(self.flows)}

    @classmethod
    def of(cls, facts: dict[str, Any]) -> "Form":
        """The form that a shard's manifest tells."""
        return cls(**{**facts, "flows": tuple(facts["flows"])})


SINGLE = Form(name="single", images=1, rows=1, given=0)
PAIRS = Form(name="pairs", images=2)


def sequence(frames: int) -> Form:
    """Frames in their order."""
    return Form(name="sequence", images=frames, rows=1)


def annotated(frames: int) -> Form:
    """Frames and what is to be said of each: rows hold all frames, then all annotations.

    A sentence has them so, or each frame before its annotation: the published model is trained on both.
    """
    return Form(name="annotated sequence", images=2 * frames, rows=1, flows=("rows", "halves"))


def groups(images: int, rows: int) -> Form:
    """Pictures of which those of a row have something in common, such as a category."""
    return Form(name="groups", images=images, rows=rows)


def modalities(images: int, rows: int) -> Form:
    """Several views of one scene, in any order, the same for all scenes of a sentence."""
    return Form(name="modalities", images=images, rows=rows, shuffled=True)
