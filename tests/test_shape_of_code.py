"""Limits a reader can feel: short files, short functions, few settings, described public names."""

import ast
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
PACKAGES = ("vqtok", "imagegpt", "dalle", "lvm", "diffusion", "workbench")  # planned ones hold no file yet
FILES = [path for package in PACKAGES for path in sorted((ROOT / package).rglob("*.py"))]
FUNCTION = (ast.FunctionDef, ast.AsyncFunctionDef)


@pytest.mark.parametrize("path", FILES, ids=lambda path: str(path.relative_to(ROOT)))
def test_limits(path: Path) -> None:
    """Files ≤ 400 lines, functions ≤ 60 and ≤ 8 arguments, classes ≤ 16 settings, public means described."""
    text = path.read_text(encoding="utf-8")
    tree = ast.parse(text)
    assert len(text.splitlines()) <= 400, "too long: split it by noun"
    assert ast.get_docstring(tree), "the module says what it holds and which paper it follows"
    for node in ast.walk(tree):
        if isinstance(node, FUNCTION):
            arguments = node.args.posonlyargs + node.args.args + node.args.kwonlyargs
            assert node.end_lineno - node.lineno < 60, f"{node.name} is too long to see at once"
            assert len(arguments) <= 8, f"{node.name} has too many arguments"
        if isinstance(node, ast.ClassDef):
            settings = [item for item in node.body if isinstance(item, ast.AnnAssign)]
            assert len(settings) <= 16, f"{node.name} has too many settings"
    for node in tree.body:
        if isinstance(node, (*FUNCTION, ast.ClassDef)) and not node.name.startswith("_"):
            assert ast.get_docstring(node), f"{node.name} is public and needs a docstring"
