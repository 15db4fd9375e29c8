"""The demo's stages: what runs, in which order, and what is not run again."""

import sys
from dataclasses import replace
from pathlib import Path

import pytest
from rich.console import Console

from workbench import stages
from workbench.stages import ROOT, Settings, fingerprint, run_together, train


@pytest.fixture
def started(monkeypatch: pytest.MonkeyPatch) -> list[list[list[str]]]:
    """Receives the modules that each stage starts, in the place of processes."""
    found: list[list[list[str]]] = []
    monkeypatch.setattr(stages, "run_together", found.append)
    return found


def flag(module: list[str], name: str) -> str:
    """What follows a flag."""
    return module[module.index(name) + 1]


def test_each_stage_gets_what_the_one_before_made(tmp_path: Path, started: list) -> None:
    """Tokenizer, then shards by it, then a model on both; all of it in one folder."""
    runs = train(tmp_path, Settings(), Console(quiet=True))
    [[tokenizer], encoders, [lvm]] = started
    assert tokenizer[0] == "vqtok.tokenizers.train"
    assert lvm[0] == "lvm.train"
    model = str(runs.tokenizer / "model")
    assert flag(tokenizer, "--run.folder") == str(runs.tokenizer)
    assert {flag(module, "--tokenizer") for module in encoders} == {model} == {flag(lvm, "--data.tokenizer")}
    outs = {flag(module, "--out") for module in encoders}
    assert outs == {flag(lvm, "--data.shards"), flag(lvm, "--data.validation")}
    assert all(path.is_relative_to(tmp_path) for path in (runs.tokenizer, runs.pairs, runs.lvm))


def test_held_out_pairs_are_of_other_names(tmp_path: Path, started: list) -> None:
    """Training pairs are of the train split, the default; the others of the validation split."""
    runs = train(tmp_path, Settings(), Console(quiet=True))
    for module in started[1]:
        kept = flag(module, "--out") == str(runs.pairs / "validation")
        assert ("validation" in module) == kept


def test_what_is_done_is_not_run_again(tmp_path: Path, started: list) -> None:
    """With both models there, nothing is started."""
    runs = train(tmp_path, Settings(), Console(quiet=True))
    (runs.tokenizer / "model").mkdir(parents=True)
    (runs.lvm / "model").mkdir(parents=True)
    started.clear()
    train(tmp_path, Settings(), Console(quiet=True))
    assert started == []


def test_other_recipes_begin_anew(tmp_path: Path) -> None:
    """The folder's name changes with a recipe's settings and with the amounts, and with nothing else."""
    recipe = tmp_path / "recipe.yaml"
    recipe.write_text("# another header\n" + Settings().lvm.read_text())
    same = fingerprint(Settings())
    assert fingerprint(Settings(lvm=recipe, names=5)) == same
    recipe.write_text(recipe.read_text() + "save_steps: 1\n")
    assert len({same, fingerprint(Settings(lvm=recipe)), fingerprint(replace(Settings(), pairs=9))}) == 3


def test_the_default_recipes_are_there() -> None:
    """The demo's recipes stand in the checkout."""
    assert Settings().tokenizer.is_relative_to(ROOT / "recipes")
    assert Settings().tokenizer.is_file()
    assert Settings().lvm.is_file()


def test_a_failure_names_the_module(monkeypatch: pytest.MonkeyPatch) -> None:
    """If one of several processes fails, the others still end, and it is named with its exit code."""
    monkeypatch.setattr(stages.sys, "executable", sys.executable)
    with pytest.raises(ChildProcessError, match="nowhere_at_all stopped with exit code 1, see above"):
        run_together([["nowhere_at_all"], ["this"]])
