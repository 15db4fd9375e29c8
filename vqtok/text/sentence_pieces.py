"""sentencepiece, fitted so that the same captions give the same bytes, whatever their order.

Kudo and Richardson 2018 (sentencepiece), Sennrich et al. 2016 (BPE), Kudo 2018 (unigram).
"""

import io
import re
from collections import Counter
from collections.abc import Sequence
from itertools import groupby

import numpy as np
import sentencepiece

from vqtok.text.codec import UNREADABLE
from vqtok.text.merges import merged
from vqtok.text.normalization import SPACE, normalized

RESERVED = "\u2585"  # sentencepiece's own mark: it passes over a whole caption that has one, in silence


def fitted(counts: Counter[str], kind: str, vocab: int, coverage: float) -> bytes:
    """The sentencepiece model of normalized captions, each said as often as it is counted.

    Args:
        counts: Captions; their order plays no part.
        kind: "bpe" or "unigram".
        vocab: Pieces, the one of unknown characters among them.
        coverage: Share of the characters that have pieces; the rarest are unknown.

    Raises:
        ValueError: if the captions have more characters than pieces are asked for, or do not hold as many
            pieces; it says the least, or the most, that can be had.
    """
    rows = [f"{caption.replace(RESERVED, ' ')}\t{counts[caption]}" for caption in sorted(counts)]
    model = io.BytesIO()
    try:
        sentencepiece.SentencePieceTrainer.train(
            sentence_iterator=iter(rows),
            input_format="tsv",
            max_sentence_length=max(len(row.encode()) for row in rows) + 10,  # longer ones are left out
            model_writer=model,
            model_type=kind,
            vocab_size=vocab,
            hard_vocab_limit=False,  # for an error of our own
            character_coverage=coverage,
            normalization_rule_name="identity",  # `normalized` has done it
            num_threads=1,
            shuffle_input_sentence=False,
            unk_id=0,
            unk_piece=UNREADABLE,  # "<unk>" could stand in a caption
            bos_id=-1,
            eos_id=-1,
            pad_id=-1,
            minloglevel=3,
        )
    except RuntimeError as error:
        if not (told := re.search(r"smaller than required_chars\. (\d+) vs (\d+)", str(error))):
            raise
        raise ValueError(
            f"vocab {vocab} is less than the {told[2]} that the captions' characters need: set it to "
            f"{told[2]} or more, or coverage below 1"
        ) from error
    found = len(sentencepiece.SentencePieceProcessor(model_proto=model.getvalue()))
    if found < vocab:
        raise ValueError(f"vocab {vocab} is more than these captions hold: set it to {found} or less")
    return model.getvalue()


class SentencePieces:
    """A sentencepiece model, `kind` "bpe" or "unigram", at work; see `Codec`."""

    pad = None

    def __init__(self, model: bytes, kind: str, lower: bool) -> None:
        try:
            self._processor = sentencepiece.SentencePieceProcessor(model_proto=model)
        except RuntimeError as error:
            told = f"{len(model)} bytes are no sentencepiece model: copy the folder again"
            raise ValueError(told) from error
        ids = range(len(self._processor))
        self.kind, self.lower = kind, lower
        self.pieces = [self._processor.id_to_piece(id) for id in ids]
        self.unknown = self._processor.unk_id()
        self._id = {piece: id for id, piece in enumerate(self.pieces) if id != self.unknown}
        self._rank = {piece: -self._processor.get_score(id) for piece, id in self._id.items()}

    def normalized(self, caption: str) -> str:
        """The spelling that `ids` wants."""
        return normalized(caption, self.lower)

    def ids(self, captions: Sequence[str]) -> list[list[int]]:
        """Ids of normalized captions; unknown characters side by side are one."""
        return self._processor.encode(list(captions), num_threads=1)

    def dropped(self, captions: Sequence[str], dropout: float, rng: np.random.Generator) -> list[list[int]]:
        """The same with merges dropped at random; without dropout, the same ids.

        Raises:
            ValueError: if there are no merges to drop.
        """
        if self.kind != "bpe":
            raise ValueError(f"a {self.kind} tokenizer has no merges to drop: fit one of kind bpe, or leave "
                             "dropout at 0")  # fmt: skip
        return [self._dropped(caption, dropout, rng) for caption in captions]

    def text(self, ids: Sequence[int]) -> str:
        """The caption that ids spell."""
        return "".join(self.pieces[id] for id in ids).replace(SPACE, " ").removeprefix(" ")

    def _dropped(self, caption: str, dropout: float, rng: np.random.Generator) -> list[int]:
        words = [SPACE + word for word in caption.split(" ")]  # no piece reaches over a space
        pieces = [piece for word in words for piece in merged(word, self._ranked, dropout, rng)]
        runs = groupby(self._id.get(piece, self.unknown) for piece in pieces)
        return [id for id, run in runs for _ in ([id] if id == self.unknown else run)]

    def _ranked(self, left: str, right: str) -> float | None:
        return self._rank.get(left + right)
