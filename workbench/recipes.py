"""`vqtok train RECIPE`: which trainer a recipe belongs to, and the command that runs it.

A recipe's header comment is a contract. One of its lines is the command,

    #   accelerate launch -m lvm.train --config recipes/lvm/emoji64.yaml

and names the trainer, so nothing else needs to know which families exist.
"""

import os
import re
import sys
from pathlib import Path

COMMAND = re.compile(r"#\s*accelerate launch\s(?:.*\s)?-m\s+(\w+(?:\.\w+)*)(?:\s|$)")


def trainer(recipe: Path) -> str:
    """Module that trains by this recipe, as the command in its header names it.

    Raises:
        ValueError: if no comment of the recipe holds such a command.
        OSError: if the recipe cannot be read.
    """
    try:
        lines = recipe.read_text(encoding="utf-8").splitlines()
    except UnicodeDecodeError as error:
        raise ValueError(f"{recipe} is no text: name a YAML file such as those in recipes/") from error
    for line in lines:
        if found := COMMAND.match(line):
            return found[1]
    raise ValueError(
        f"{recipe}: no comment holds the command `accelerate launch -m MODULE --config {recipe}`: "
        "add it, or start the trainer yourself with it"
    )


def command(recipe: Path, overrides: list[str], devices: int) -> list[str]:
    """Arguments of the process that trains: directly on one device, through accelerate on several.

    Directly, because `accelerate launch` on a CPU sets one thread a process where nobody has configured it.
    """
    launcher = ["-m", "accelerate.commands.launch", "--quiet"] if devices > 1 else []
    return [sys.executable, *launcher, "-m", trainer(recipe), "--config", str(recipe), *overrides]


def run(recipe: Path, overrides: list[str]) -> None:
    """Become the training process: its output, its signals and its exit code are this command's."""
    trainer(recipe)  # a wrong recipe is refused before the seconds that importing torch takes
    import torch

    arguments = command(recipe, overrides, devices=torch.cuda.device_count())
    sys.stdout.flush()
    os.execv(arguments[0], arguments)
