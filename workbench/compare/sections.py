"""Sections of a Markdown file that a command writes: what stands between two marks, and nothing else.

    <!-- compare speed lookup -->
    ...
    <!-- /compare speed lookup -->

The marks are put there by hand, where the section shall stand; what is around them stays as it is.
"""

from pathlib import Path

from vqtok.storage.folders import write_file


def find_section(path: Path, name: str) -> tuple[str, str]:
    """The file's text up to and with the section's first mark, and from its second mark on.

    Raises:
        ValueError: if the file has not exactly one pair of these marks, in order.
        OSError: if the file cannot be read.
    """
    opening, closing = f"<!-- {name} -->\n", f"<!-- /{name} -->\n"
    text = path.read_text(encoding="utf-8")
    before, _, rest = text.partition(opening)
    _, _, after = rest.partition(closing)
    if (text.count(opening), text.count(closing), rest.count(closing)) != (1, 1, 1):
        raise ValueError(
            f"{path} has no place for these tables: put the line {opening.strip()} where they begin and "
            f"the line {closing.strip()} where they end, each once"
        )
    return before + opening, closing + after


def write_section(path: Path, name: str, text: str) -> None:
    """Replace what stands between the marks of a section, atomically.

    Raises:
        ValueError: if the file has not exactly one pair of these marks, in order.
        OSError: if the file cannot be read or written.
    """
    before, after = find_section(path, name)
    write_file(path, f"{before}\n{text.strip()}\n\n{after}".encode())


def table(head: list[str], rows: list[list[str]]) -> str:
    """A Markdown table: the first column left, all others right."""
    rule = ["---", *["---:"] * (len(head) - 1)]
    return "\n".join(f"| {' | '.join(cells)} |" for cells in (head, rule, *rows))
