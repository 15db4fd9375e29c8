"""Captions in text files: one a line, in one file or in all of a folder."""

from pathlib import Path

from vqtok.text.normalization import normalized


def read_captions(place: str | Path) -> tuple[list[str], int]:
    """The captions of a UTF-8 file, or of all files *.txt under a folder in the order of their names.

    Every line is one. Files whose name begins with a dot are passed over.

    Returns:
        Captions, and how many lines had none.

    Raises:
        ValueError: if there are no captions, or a file is not UTF-8, naming it and the line.
    """
    place = Path(place)
    if place.is_dir():
        files = [path for path in sorted(place.rglob("*.txt")) if path.is_file() and path.name[0] != "."]
    elif place.is_file():
        files = [place]
    else:
        raise ValueError(f"no file or folder {place}: give captions, one a line, or a folder of .txt files")
    lines = [line for path in files for line in _lines(path)]
    captions = [line for line in lines if normalized(line)]
    if not captions:
        raise ValueError(f"{place} has no captions in {len(files)} files: give UTF-8 text, one a line")
    return captions, len(lines) - len(captions)


def _lines(path: Path) -> list[str]:
    """Lines of a file; what follows the last line's end is none."""
    data = path.read_bytes()
    try:
        text = data.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line = error.object.count(b"\n", 0, error.start) + 1
        raise ValueError(
            f"{path}, line {line}: byte 0x{error.object[error.start]:02x} is no UTF-8: save the file as UTF-8"
        ) from error
    return text.removesuffix("\n").split("\n") if text else []
