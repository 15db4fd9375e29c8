"""The floors: a package imports from floors below it, never from its own floor or from above."""

import ast
import sys
from collections.abc import Iterator
from graphlib import TopologicalSorter
from pathlib import Path

ROOT = Path(__file__).parent.parent
# Rooms that are planned but not built yet are named too: a family that moves in changes nothing here.
FLOORS = [
    {"vqtok.storage"},
    {"vqtok.data", "vqtok.training", "vqtok.metrics", "vqtok.text"},
    {"vqtok.tokenizers", "vqtok.gpt", "vqtok.clip"},
    {"imagegpt", "dalle", "lvm", "diffusion"},
    {"workbench"},
]
FLOOR = {name: level for level, names in enumerate(FLOORS) for name in names}
FLOOR["vqtok"] = FLOOR["lvm"]  # vqtok/__init__.py, the front door: no family imports it, it imports none
LAZY = {"vqtok", "workbench"}  # the front door and the verbs import when called, so that --help is fast
DRAWERS = {"utils", "util", "helpers", "helper", "misc", "common", "tools"}
FUNCTION = (ast.FunctionDef, ast.AsyncFunctionDef)

TOPS = sorted({name.split(".")[0] for name in FLOOR})
PATHS = [path.relative_to(ROOT) for top in TOPS for path in sorted((ROOT / top).rglob("*.py"))]
TREES = {".".join(p.with_suffix("").parts): ast.parse((ROOT / p).read_text(encoding="utf-8")) for p in PATHS}


def owner(name: str) -> str | None:
    """Package of the house that `name` belongs to: vqtok.gpt.cache -> vqtok.gpt; None for a foreign name."""
    first, second, *_ = [*name.split("."), ""]
    return next((package for package in (f"{first}.{second}", first) if package in FLOOR), None)


def imported(module: str, tree: ast.AST) -> Iterator[str]:
    """Absolute names that `tree`, all or part of `module`, imports, wherever the import stands."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            base = module.split(".")[: -node.level] if node.level else []
            base += [node.module] if node.module else []
            yield from (".".join([*base, alias.name]) for alias in node.names)


def file_of(name: str) -> str | None:
    """File an import of `name` reads: vqtok.gpt.GPT -> vqtok.gpt.__init__; None for a foreign name."""
    parent = name.rpartition(".")[0]
    candidates = (name, f"{name}.__init__", parent, f"{parent}.__init__")
    return next((candidate for candidate in candidates if candidate in TREES), None)


def test_imports_only_go_down():
    """No file imports from another package on its own floor, or from a floor above."""
    wrong = [
        f"{module} imports {name}"
        for module, tree in TREES.items()
        for name in imported(module, tree)
        if owner(name) not in (None, owner(module)) and FLOOR[owner(name)] >= FLOOR[owner(module)]
    ]
    assert not wrong, "\n".join(wrong)


def test_no_circles():
    """No import circle, not even among the files of one package; CycleError lists the circle."""
    graph = {m: {file_of(name) for name in imported(m, tree)} - {None, m} for m, tree in TREES.items()}
    TopologicalSorter(graph).prepare()


def test_nobody_enters_by_their_own_front_door():
    """No file imports what its own package, or a package around it, re-exports for users."""
    wrong = [
        f"{module} imports {name}: name the file it stands in"
        for module, tree in TREES.items()
        for name in imported(module, tree)
        if (source := file_of(name)) and source != module
        and source.endswith(".__init__") and module.startswith(source.removesuffix("__init__"))
    ]
    assert not wrong, "\n".join(wrong)


def test_no_hidden_imports():
    """Our own packages are imported at the top of a file, where a reader looks for them."""
    hidden = [
        f"{module}, line {function.lineno}: {function.name} imports {name}"
        for module, tree in TREES.items()
        if owner(module) not in LAZY
        for function in ast.walk(tree)
        if isinstance(function, FUNCTION)
        for name in imported(module, function)
        if owner(name)
    ]
    assert not hidden, "\n".join(hidden)


def test_every_package_has_a_floor():
    """Whatever stands under vqtok/, or beside it, is placed on a floor by name, not by accident."""
    homeless = {module for module in TREES if owner(module) == "vqtok"} - {"vqtok.__init__"}
    homeless |= {path.parent.name for path in ROOT.glob("*/__init__.py")} - {*TOPS}
    assert not homeless, f"give these a floor in FLOORS: {sorted(homeless)}"


def test_names_say_what_is_inside():
    """No drawers, alone or in a compound, and nothing that shadows a module of the standard library."""
    found = [
        str(path)
        for path in PATHS
        for part in path.with_suffix("").parts
        if part in sys.stdlib_module_names or DRAWERS & {*part.split("_")}
    ]
    assert not found, f"name these after what they hold: {found}"
