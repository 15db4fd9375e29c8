"""Classes by name and by number."""

import pytest

from vqtok.data.classes import in_order, number_of


def test_order():
    """Numbers as numbers, words by the alphabet, each once."""
    assert in_order(["10", "9", "10"]) == ("9", "10")
    assert in_order(["b", "10", "a"]) == ("10", "a", "b") and in_order([]) == ()


@pytest.mark.parametrize(("name", "number"), [("b", 1), (1, 1), (0, 0)])
def test_numbers(name: int | str, number: int):
    """By name, or as they are."""
    assert number_of(name, ("a", "b")) == number


@pytest.mark.parametrize("name", ["c", 2, -1])
def test_unknown_classes(name: int | str):
    """Are told beside the known ones."""
    with pytest.raises(ValueError, match=f"no class {name!r}: this model knows a, b"):
        number_of(name, ("a", "b"))
    with pytest.raises(ValueError, match="this model knows none"):
        number_of(name, ())
