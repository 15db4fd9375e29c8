"""Classes of pictures: their order, and their numbers by name."""

from collections.abc import Iterable, Sequence


def in_order(names: Iterable[str]) -> tuple[str, ...]:
    """Each name once: numbers in their order, words in the alphabet's."""
    found = {*names}
    return tuple(sorted(found, key=int if all(name.isdecimal() for name in found) else str))


def number_of(name: int | str, classes: Sequence[str]) -> int:
    """The number of a class, by its name or by itself.

    Raises:
        ValueError: if there is no such class.
    """
    if isinstance(name, str) and name in classes:
        return classes.index(name)
    if isinstance(name, int) and 0 <= name < len(classes):
        return name
    known = ", ".join(classes[:20]) or "none"
    raise ValueError(f"no class {name!r}: this model knows {known}")
