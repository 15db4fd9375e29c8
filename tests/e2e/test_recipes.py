"""Every recipe keeps the form of its promise: a header with command, cost and figure, settings that parse."""

import re
from importlib import import_module
from pathlib import Path

import pytest

from vqtok.training import parse
from workbench.recipes import trainer

ROOT = Path(__file__).parent.parent.parent
RECIPES = sorted((ROOT / "recipes").rglob("*.yaml"))


def header(recipe: Path) -> str:
    """The comment a recipe begins with."""
    return re.match(r"(#.*\n)*", recipe.read_text(encoding="utf-8"))[0]


@pytest.mark.parametrize("recipe", RECIPES, ids=lambda path: str(path.relative_to(ROOT)))
def test_header(recipe: Path) -> None:
    """The command names this very file; cost and expected number are stated; 40 lines hold it all."""
    text = header(recipe)
    assert f"--config {recipe.relative_to(ROOT)}\n" in text
    for promise in ("Cost:", "Expected:"):
        assert re.search(rf"^# {promise} .*\d", text, re.MULTILINE), f"{promise} a figure from a run"
    assert len(recipe.read_text(encoding="utf-8").splitlines()) <= 40


@pytest.mark.parametrize("recipe", RECIPES, ids=lambda path: str(path.relative_to(ROOT)))
def test_settings(recipe: Path) -> None:
    """The trainer that the header names accepts every setting."""
    kind = import_module(trainer(recipe)).TrainConfig
    assert isinstance(parse(kind, ["--config", str(recipe)]), kind)
