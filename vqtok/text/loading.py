"""`load_text_tokenizer`: from a folder of ours, of a larger model, or of minDALL-E."""

from pathlib import Path

from vqtok.storage.pretrained import read_settings
from vqtok.text.char_bpe import CharBPE, read_char_bpe
from vqtok.text.tokenizer import TextConfig, TextTokenizer

PART = "text"  # what larger models call theirs


def load_text_tokenizer(source: str | Path, lower: bool | None = None) -> TextTokenizer:
    """A text tokenizer.

    Args:
        source: A folder that `save_pretrained` wrote, such as a run's `model/`, also that of a larger model
            that carries its text tokenizer; the same on the hub, `owner/name`; or minDALL-E's folder, or the
            `tokenizer/` in it, with a `*vocab.json` and a `*merges.txt`.
        lower: Whether capitals become small letters, for minDALL-E's files, which do not tell; minDALL-E
            itself does so, and so does this if left out.

    Raises:
        ValueError: if there is none, or its files are damaged or of another kind.
    """
    if files := _find(Path(source)):
        model, lower = read_char_bpe(*files), lower is not False
        pieces = len(CharBPE(model, lower).pieces)
        return TextTokenizer.of(model, TextConfig(vocab=pieces, kind="char-bpe", lower=lower))
    if lower is not None:
        raise ValueError(f"{source} is a folder of ours, which says it itself: leave lower out")
    part = PART if isinstance(read_settings(source).get(PART), dict) else ""
    return TextTokenizer.from_pretrained(source, part=part)


def _find(folder: Path) -> tuple[Path, Path] | None:
    """The vocab.json and the merges.txt of a folder, or of the `tokenizer/` in it; None if it has neither.

    Raises:
        ValueError: if it has one of them, or several.
    """
    for place in (folder, folder / "tokenizer"):
        vocabs, merges = sorted(place.glob("*vocab.json")), sorted(place.glob("*merges.txt"))
        if len(vocabs) == len(merges) == 1:
            return vocabs[0], merges[0]
        if vocabs or merges:
            names = ", ".join(path.name for path in vocabs + merges)
            raise ValueError(f"{place} has {names}: a text tokenizer is one *vocab.json and one *merges.txt")
    return None
