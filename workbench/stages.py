"""The demo's training, from nothing to a model: tokenizer, shards of pairs, transformer.

Each stage is a process of its own, goes on where it was stopped, and passes by at once if it is done.
"""

import os
import subprocess
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from rich.console import Console

from lvm import DEFAULT_WEIGHTS
from lvm.kind import DEFAULT_KIND
from vqtok.storage.manifests import sha256
from workbench.recipes import trainer

ROOT = Path(__file__).parent.parent
TASKS = ("style", "mask", "fill the hole", "denoise", "invert", "mirror", "rotate")


@dataclass(frozen=True, kw_only=True)
class Settings:
    """What a demo does; the defaults are the command's.

    Args:
        model: The model that is prompted first.
        judge: Tells the kinds of answers.
        names: Unseen drawings that each model is asked about, once a task.
        tokenizer: Recipe of the tokenizer that is trained.
        lvm: Recipe of the model that is trained on its tokens.
        tasks: Tasks, or kinds of them, that it is trained on: few enough to be learned in minutes.
        pairs: Pairs of each of them.
        kept: Pairs of every task, of other drawings, that its loss is measured on.
        tokenizer_flags: Settings behind the tokenizer's recipe.
        lvm_flags: Settings behind the model's recipe.
    """

    model: Path | str = DEFAULT_WEIGHTS
    judge: Path | str = DEFAULT_KIND
    names: int = 12
    tokenizer: Path = ROOT / "recipes" / "tokenizer" / "emoji64-cpu.yaml"
    lvm: Path = ROOT / "recipes" / "lvm" / "emoji64-cpu.yaml"
    tasks: tuple[str, ...] = TASKS
    pairs: int = 1600
    kept: int = 32
    tokenizer_flags: tuple[str, ...] = ()
    lvm_flags: tuple[str, ...] = ()


@dataclass(frozen=True)
class Runs:
    """Where the trained things lie, and the seconds that each stage took this time."""

    tokenizer: Path
    pairs: Path
    lvm: Path
    seconds: dict[str, float]


def train(folder: Path, settings: Settings, console: Console) -> Runs:
    """Train all of it in a folder named after the recipes, so that changed recipes begin anew beside it.

    Args:
        folder: Receives that folder.
        settings: Recipes and amounts.
        console: Is told what begins.

    Raises:
        ValueError: if a recipe does not name its trainer.
        OSError: if a recipe cannot be read; ChildProcessError if a stage fails, which has told why by then.
    """
    place = folder / fingerprint(settings)
    runs = Runs(place / "tokenizer", place / "pairs", place / "lvm", {})
    train_pairs, kept_pairs, weights = (
        runs.pairs / "train",
        runs.pairs / "validation",
        runs.tokenizer / "model",
    )
    data = {"tokenizer": weights, "shards": train_pairs, "validation": kept_pairs, "held_out": settings.kept}
    flags = [text for name, value in data.items() for text in (f"--data.{name}", str(value))]
    encode = ["lvm.encode", "--tokenizer", str(weights), "--tasks", *settings.tasks]
    many = [*encode, "--pairs", str(settings.pairs), "--out", str(train_pairs), "--workers", "2"]
    kept = [*encode, "--pairs", str(settings.kept), "--out", str(kept_pairs), "--split", "validation"]
    tokenizer = _trainer(settings.tokenizer, runs.tokenizer, settings.tokenizer_flags)
    lvm = _trainer(settings.lvm, runs.lvm, (*flags, *settings.lvm_flags))
    model = runs.lvm / "model"
    stages = {  # what is done, what is there afterwards, who does it
        "a tokenizer learns": (weights, [tokenizer]),
        "it turns pairs into tokens": (model, [kept, [*many, "--worker", "0"], [*many, "--worker", "1"]]),
        "a transformer learns the tokens": (model, [lvm]),
    }
    for name, (product, modules) in stages.items():
        console.rule(name)
        if product.exists():
            console.print(f"done before: {product} is there")
            continue
        console.file.flush()
        began = time.monotonic()
        run_together(modules)
        runs.seconds[name] = time.monotonic() - began
    return runs


def fingerprint(settings: Settings) -> str:
    """Short hash of what decides what is trained: the recipes but for their comments, flags and amounts."""
    lines = [
        line for recipe in (settings.tokenizer, settings.lvm) for line in recipe.read_text().splitlines()
    ]
    said = [line for line in lines if not line.startswith("#")]
    rest = (settings.tasks, settings.pairs, settings.kept, settings.tokenizer_flags, settings.lvm_flags)
    return sha256(repr((said, rest)).encode())[:8]


def run_together(modules: Sequence[Sequence[str]]) -> None:
    """Run modules with their arguments at the same time, one thread each if they are several.

    All may complain, but only the last may talk, lest their progress bars mix.

    Raises:
        ChildProcessError: if one of them fails.
    """
    threads = {} if len(modules) == 1 else {"OMP_NUM_THREADS": "1"}
    running = [
        subprocess.Popen(
            [sys.executable, "-m", *module],
            env=os.environ | threads,
            stdout=None if number == len(modules) else subprocess.DEVNULL,
        )
        for number, module in enumerate(modules, 1)
    ]
    try:
        codes = [process.wait() for process in running]
    finally:
        for process in running:
            process.terminate()  # does nothing to one that has ended
    for module, code in zip(modules, codes, strict=True):
        if code:
            raise ChildProcessError(
                f"{module[0]} stopped with exit code {code}, see above: mend that, and start the demo again, "
                "which goes on from there"
            )


def _trainer(recipe: Path, folder: Path, flags: Sequence[str]) -> list[str]:
    return [trainer(recipe), "--config", str(recipe), "--run.folder", str(folder), *flags]
