"""The lecture's pages: every formula has a function and a test, and all of them are where the page says."""

import ast
import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent.parent
PAGES = sorted((ROOT / "docs" / "lecture").glob("*.md"))
LINK = re.compile(r"\[(`?)([^\]`]+)\1\]\(([^)#]+)\)")
NAMED = (ast.FunctionDef, ast.ClassDef)


def names(path: Path) -> set[str]:
    """Functions, classes and, with a dot, methods of a Python file."""
    found = set()
    for node in ast.parse(path.read_text(encoding="utf-8")).body:
        if isinstance(node, NAMED):
            found.add(node.name)
        if isinstance(node, ast.ClassDef):
            found |= {f"{node.name}.{item.name}" for item in node.body if isinstance(item, NAMED)}
    return found


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.stem)
def test_links(page: Path):
    """Every linked file is there, and defines the name in the link, if that is one of code."""
    links = LINK.findall(page.read_text(encoding="utf-8"))
    assert links, "a page without links"
    for code, text, target in links:
        path = (page.parent / target).resolve()
        assert path.is_file() and path.is_relative_to(ROOT), f"{target} is not there"
        if code:
            assert path.suffix == ".py" and text in names(path), f"{target} has no {text}"


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.stem)
def test_every_formula_is_held(page: Path):
    """Between a formula and the next one stand a function of ours and a test."""
    for piece in page.read_text(encoding="utf-8").split("\n$$")[1:]:
        formula, _, text = piece.partition("$$\n")
        targets = [(target, name) for _, name, target in LINK.findall(text)]
        assert any(target.startswith("../../diffusion/") for target, _ in targets), formula
        held = [name for target, name in targets if target.startswith("../../tests/")]
        assert any(name.startswith("test_") for name in held), formula


def test_every_slip_has_a_test():
    """Each row of the table ends with one."""
    rows = [line for line in PAGES[[page.stem for page in PAGES].index("slips")].read_text().splitlines()
            if re.match(r"\| \d+ \|", line)]  # fmt: skip
    assert len(rows) == 13 and all("[`test_" in row for row in rows)


def test_every_test_of_the_lecture_is_linked():
    """What tests/unit/diffusion/test_lecture.py holds is on a page."""
    held = {name for name in names(ROOT / "tests/unit/diffusion/test_lecture.py") if name.startswith("test_")}
    text = "".join(page.read_text(encoding="utf-8") for page in PAGES)
    assert not {name for name in held if f"[`{name}`]" not in text}
