"""`vqtok train`: the recipe's header decides what runs."""

import sys
from pathlib import Path

import pytest

from workbench import recipes

HEADER = """# A model. A paper.
#
#   accelerate launch {options}-m lvm.train --config recipes/lvm/tiny.yaml
#
run: {{seed: 0}}
"""


def write_recipe(folder: Path, text: str) -> Path:
    """A recipe with this text."""
    recipe = folder / "tiny.yaml"
    recipe.write_text(text)
    return recipe


@pytest.mark.parametrize("options", ["", "--num_processes 8 --mixed_precision bf16 "])
def test_the_header_names_the_trainer(tmp_path: Path, options: str):
    """The module behind -m is found, whatever options accelerate gets before it."""
    assert recipes.trainer(write_recipe(tmp_path, HEADER.format(options=options))) == "lvm.train"


def test_one_device_needs_no_launcher(tmp_path: Path):
    """On a CPU or one GPU the module runs as it is, with the overrides behind the recipe."""
    recipe = write_recipe(tmp_path, HEADER.format(options=""))
    assert recipes.command(recipe, ["--lr.peak", "1e-4"], devices=1) == [
        sys.executable, "-m", "lvm.train", "--config", str(recipe), "--lr.peak", "1e-4",
    ]  # fmt: skip


def test_several_devices_go_through_accelerate(tmp_path: Path):
    """With two GPUs the same command goes to accelerate's launcher."""
    recipe = write_recipe(tmp_path, HEADER.format(options=""))
    launched = recipes.command(recipe, [], devices=2)
    assert launched[1:4] == ["-m", "accelerate.commands.launch", "--quiet"]
    assert launched[4:] == recipes.command(recipe, [], devices=0)[1:]


def test_run_becomes_that_process(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    """`run` replaces this process by the command."""
    started = []
    monkeypatch.setattr(recipes.os, "execv", lambda program, arguments: started.append((program, arguments)))
    monkeypatch.setattr("torch.cuda.device_count", lambda: 0)
    recipe = write_recipe(tmp_path, HEADER.format(options=""))
    recipes.run(recipe, ["--seed", "1"])
    assert started == [(sys.executable, recipes.command(recipe, ["--seed", "1"], devices=0))]


@pytest.mark.parametrize("text", ["run: {}\n", "# accelerate launch it\n", "x: accelerate launch -m os\n"])
def test_a_recipe_without_its_command_is_refused(tmp_path: Path, text: str):
    """The file is named, and what it lacks."""
    with pytest.raises(ValueError, match=r"tiny\.yaml: no comment holds the command"):
        recipes.trainer(write_recipe(tmp_path, text))
