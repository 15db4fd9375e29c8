"""Pairs from two columns of a data set of Hugging Face `datasets`: from the hub, or a folder saved by it.

`pip install vqtok[datasets]` brings the library. Pictures are decoded by us, so that orientation,
transparency and limits are as everywhere.
"""

from pathlib import Path
from types import ModuleType
from typing import TYPE_CHECKING, Any

from vqtok.data.pairing import NO_CAPTION, NO_PICTURE, FoundPairs, Pair, caption_of

if TYPE_CHECKING:
    from datasets import Dataset

CAPTIONS = ("caption", "text", "txt")  # columns that are taken for captions, in this order
TEXTS = ("string", "large_string")  # types of such columns


class ColumnPairs(FoundPairs):
    """Rows of a data set, in its order; a picture's name is the number of its row.

    Args:
        name: A folder that `save_to_disk` wrote, or the name of a data set on the hub.
        split: Which of its splits.
        picture_key: Column of pictures; None takes the only one of type `Image`.
        caption_key: Column of captions; None takes `caption`, `text` or `txt`.
        options: As of `FoundPairs`.

    Raises:
        ValueError: if `datasets` is not installed, there is no such data set, split or column, or a column
            has another type; and as of `FoundPairs`.
    """

    def __init__(
        self,
        name: str,
        split: str = "train",
        picture_key: str | None = None,
        caption_key: str | None = None,
        **options: Any,
    ) -> None:
        library = _library()
        rows = _opened(library, name, split)
        picture = _picture_column(library, rows, picture_key)
        caption = _caption_column(rows, caption_key)
        self.rows = rows.select_columns([picture]).cast_column(picture, library.Image(decode=False))
        self._picture = picture
        pairs, names = _paired(rows.select_columns([caption])[caption])
        super().__init__(f"{name}, split {split}", pairs, names, **options)

    def content(self, place: int) -> bytes:
        """The file of a picture."""
        found = self.rows[place][self._picture]
        if found is None:
            raise ValueError(NO_PICTURE)
        return found["bytes"] if found["bytes"] is not None else Path(found["path"]).read_bytes()


def _library() -> ModuleType:
    """The library, which takes seconds to import and which few need."""
    try:
        import datasets
    except ImportError as error:
        raise ValueError(
            f"the library `datasets` cannot be imported ({error}): pip install vqtok[datasets]"
        ) from error
    return datasets


def _opened(library: ModuleType, name: str, split: str) -> "Dataset":
    """One split of the data set."""
    try:
        if not Path(name).is_dir():
            return library.load_dataset(name, split=split)
        found = library.load_from_disk(name)
    except Exception as error:  # the library raises almost anything
        raise ValueError(
            f"cannot open split {split!r} of the data set {name} ({str(error)[:200]}): give a folder that "
            "save_to_disk wrote, or a name on the hub"
        ) from error
    splits = found if isinstance(found, dict) else {str(found.split or "train"): found}
    if split not in splits:
        raise ValueError(f"{name} has no split {split!r}: choose of {', '.join(splits)}")
    return splits[split]


def _picture_column(library: ModuleType, rows: "Dataset", key: str | None) -> str:
    """The column of pictures."""
    known = [name for name, kind in rows.features.items() if isinstance(kind, library.Image)]
    if key is None and len(known) == 1:
        return known[0]
    if key in known:
        return key
    told = f"no column {key!r} of pictures" if key else f"{len(known)} columns of pictures"
    raise ValueError(f"{told}: name one as the picture key, of {', '.join(known) or 'none'}")


def _caption_column(rows: "Dataset", key: str | None) -> str:
    """The column of captions."""
    known = [name for name, kind in rows.features.items() if getattr(kind, "dtype", "") in TEXTS]
    for name in CAPTIONS if key is None else [key]:
        if name in known:
            return name
    told = f"no column {key!r} of text" if key else f"no column of text named {', '.join(CAPTIONS)}"
    raise ValueError(f"{told}: name one as the caption key, of {', '.join(known) or 'none'}")


def _paired(captions: Any) -> tuple[list[Pair], dict[str, str]]:
    """A pair for each row that has a caption, and the other rows with reasons."""
    pairs, names = [], {}
    for row, text in enumerate(captions):
        name = f"{row:08}"
        try:
            if text is None:
                raise ValueError(NO_CAPTION)
            pairs.append(Pair(name, caption_of(text), row))
        except ValueError as error:
            names[name] = str(error)
    return pairs, names
